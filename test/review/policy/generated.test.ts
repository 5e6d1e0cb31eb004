/** What `policy generate` writes, the review passes: with the named administrator, and the named sealer at most low. */
import { expect, it } from 'vitest';
import { generateKeyPolicy, type PolicyRelease } from '../../../review/policy/generate.ts';
import { exitCodeOf } from '../../../review/policy/outcome.ts';
import { codes, reviewText } from './support.ts';

const ACCOUNT = '111122223333';
const role = (name: string) => `arn:aws:iam::${ACCOUNT}:role/${name}`;
const FIRST = { pcr0: 'd9'.repeat(48), pcr16: 'a1'.repeat(48), modelName: 'iris' };
const SECOND = { pcr0: '6b'.repeat(48), pcr16: 'a2'.repeat(48), modelName: 'iris' };
const HOST = role('EnclaveHost');

const policyFor = (...releases: readonly PolicyRelease[]) =>
  generateKeyPolicy({
    accountId: ACCOUNT,
    releases,
    hostRoleArn: HOST,
    administratorArns: [role('KeyAdmin')],
    sealerArns: [role('Owner')],
  });
const imageOf = ({ pcr0, pcr16 }: PolicyRelease) => ({
  pcr0,
  pcr1: '11'.repeat(48),
  pcr2: '22'.repeat(48),
  pcr16,
});

it('passes, naming the administrator and the sealer', () => {
  const report = reviewText(policyFor(FIRST), {
    image: imageOf(FIRST),
    hostRoleArns: [HOST],
    profile: 'strict',
  });
  expect(report.verdict).toBe('ONLY_IMAGE_IF_ADMINS_TRUSTED');
  expect(report.sentence).toContain('KeyAdmin');
  expect(codes(report, 'critical', 'high', 'medium', 'low')).toEqual([
    'policy-admin @AdministratorsManage',
    'integrity-encrypt @SealersEncrypt',
    'reencrypt-context @SealersReEncryptOnSameKey',
  ]);
  expect(exitCodeOf(report, 'high')).toBe(0);
  expect(exitCodeOf(report, 'medium')).toBe(1);
});

it('passes with two releases side by side, when both were reviewed', () => {
  const report = reviewText(policyFor(FIRST, SECOND), {
    hostRoleArns: [HOST],
    profile: 'strict',
    reviewed: [
      { name: 'the reviewed image', registers: imageOf(FIRST) },
      { name: 'the next image', registers: imageOf(SECOND) },
    ],
  });
  expect(report.verdict).toBe('ONLY_IMAGE_IF_ADMINS_TRUSTED');
  expect(codes(report, 'critical', 'high')).toEqual([]);
});

it('names the other release when only one was reviewed', () => {
  const releases = new Map([['strongroom 2', { pcr0: SECOND.pcr0 }]]);
  const report = reviewText(policyFor(FIRST, SECOND), { image: imageOf(FIRST), releases });
  expect(report.verdict).toBe('EXTRA_IMAGE');
  expect(report.findings.find(({ code }) => code === 'extra-image')?.why).toContain('strongroom 2');
});

it('says so, when the deployment is another than the one that the policy pins', () => {
  const report = reviewText(policyFor(FIRST), { image: { ...imageOf(FIRST), pcr16: 'ff'.repeat(48) } });
  expect(report.verdict).toBe('DEAD');
});

it('demands PCR16 together with PCR0 once a deployment is given', () => {
  const unpinned = JSON.parse(policyFor(FIRST)) as { Statement: Record<string, unknown>[] };
  const decrypt = unpinned.Statement.find(({ Sid }) => String(Sid).startsWith('DecryptImage')) as {
    Condition: { StringEqualsIgnoreCase: Record<string, unknown> };
  };
  delete decrypt.Condition.StringEqualsIgnoreCase['kms:RecipientAttestation:PCR16'];
  const others = unpinned.Statement.filter(({ Sid }) => Sid !== 'DenyOtherDeployments');
  const report = reviewText(JSON.stringify({ ...unpinned, Statement: others }), { image: imageOf(FIRST) });
  expect(codes(report, 'high')).toEqual([expect.stringContaining('deployment-not-pinned @DecryptImage')]);
  expect(exitCodeOf(report, 'high')).toBe(1);
});

it('refuses any other shape under the strict profile', () => {
  const text = policyFor(FIRST).replace('"kms:CancelKeyDeletion",', '"kms:CancelKeyDeletion", "kms:Sign",');
  const report = reviewText(text, { image: imageOf(FIRST), profile: 'strict' });
  expect(codes(report, 'high')).toContain('not-generated');
});
