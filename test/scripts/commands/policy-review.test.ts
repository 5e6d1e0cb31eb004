/** The command as a reviewer types it: exit codes, forms of the report, suppressions, and a key that KMS holds. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { generateKeyPolicy } from '../../../review/policy/generate.ts';
import type { PolicyReviewReport } from '../../../review/policy/report.ts';
import { command } from '../../../scripts/commands/policy-review.ts';
import { readLiveKey } from '../../../scripts/policy/live-key.ts';
import { simulationAnchor } from '../../../shared/attestation/anchors.ts';
import { startSimulatedKms } from '../../../simulator/kms/simulated-kms.ts';
import { createSimulatedCa } from '../../../simulator/nsm/ca.ts';
import { ALL_OF_KMS, clientOf, principal, role } from '../../simulator/kms/support.ts';

const ACCOUNT = '111122223333';
const HOST = role('EnclaveHost');
const PCR0 = 'd9'.repeat(48);
const GOOD = generateKeyPolicy({
  accountId: ACCOUNT,
  releases: [{ pcr0: PCR0, pcr16: 'a1'.repeat(48), modelName: 'iris' }],
  hostRoleArn: HOST,
  administratorArns: [role('KeyAdmin')],
  sealerArns: [role('Owner')],
});
const OPEN = JSON.stringify({
  Version: '2012-10-17',
  Statement: [
    {
      Sid: 'Root',
      Effect: 'Allow',
      Principal: { AWS: `arn:aws:iam::${ACCOUNT}:root` },
      Action: 'kms:*',
      Resource: '*',
    },
  ],
});

let folder = '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'policy-review-'));
  file('good.json', GOOD);
  file('open.json', OPEN);
  file(
    'pcrs.json',
    JSON.stringify({ PCR0, PCR1: '11'.repeat(48), PCR2: '22'.repeat(48), PCR16: 'a1'.repeat(48) }),
  );
});
afterAll(() => rmSync(folder, { recursive: true }));

function file(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

async function run(...args: string[]) {
  const stdout = new PassThrough();
  const stderr = new PassThrough();
  const exit = await command.run(args, {
    stdin: new PassThrough(),
    stdout,
    stderr,
    signal: new AbortController().signal,
  });
  return { exit, stdout: String(stdout.read() ?? ''), stderr: String(stderr.read() ?? '') };
}

const at = (name: string) => join(folder, name);
const asJson = async (...args: string[]) => {
  const { exit, stdout } = await run(...args, '--json');
  return { exit, report: JSON.parse(stdout) as PolicyReviewReport };
};

describe('strongroom policy review', () => {
  it('passes a generated policy; its first line is the verdict in a sentence', async () => {
    const { exit, stdout } = await run(
      at('good.json'),
      '--pcrs',
      at('pcrs.json'),
      '--role',
      HOST,
      '--profile',
      'strict',
    );
    expect(exit).toBe(0);
    expect(stdout.split('\n')[0]).toMatch(/^Only the reviewed image gets this key, as long as role KeyAdmin/);
    expect(stdout).toContain('Checks performed');
    expect((await run(at('good.json'), '--pcrs', at('pcrs.json'), '--fail-on', 'medium')).exit).toBe(1);
  });

  it('answers 1 with findings, each at its statement, with a witness and a patch', async () => {
    const { exit, report } = await asJson(at('open.json'), '--pcrs', at('pcrs.json'));
    expect(exit).toBe(1);
    expect(report).toMatchObject({ verdict: 'DELEGATED_BYPASS', severity: 'high' });
    expect(report.findings.find(({ code }) => code === 'account-delegation')).toMatchObject({
      statement: 'Root',
      location: { index: 0, line: 1 },
      witness: { action: 'kms:Decrypt', attestation: null, answer: 'allow' },
      remedy: { patch: [{ op: 'add', path: '/Statement/-' }, expect.anything()] },
    });
    expect(report.inputs.map(({ kind }) => kind)).toEqual(['policy', 'pcrs']);
  });

  it('answers 2 for a document that must be refused, with a report all the same', async () => {
    const twice = GOOD.replace('"Effect": "Allow",', '"Effect": "Allow", "Effect": "Allow",');
    const { exit, report } = await asJson(file('twice.json', twice), '--pcrs', at('pcrs.json'));
    expect(exit).toBe(2);
    expect(report.verdict).toBe('MALFORMED');
    expect(report.findings.map(({ code, location }) => [code, location?.index])).toEqual(
      expect.arrayContaining([
        ['duplicate-key', 0],
        ['malformed-policy', 0],
      ]),
    );
  });

  it('answers 3 where the image is not known, and nothing worse is', async () => {
    const { exit, report } = await asJson(at('good.json'));
    expect(exit).toBe(3);
    expect(report.verdict).toBe('AMBIGUOUS');
    expect(report.notSupplied.map(({ what }) => what)).toContain('image');
    expect((await asJson(at('open.json'))).exit).toBe(1);
  });

  it('suppresses what somebody answers for, until the day it ends, and never the verdict', async () => {
    const suppression = {
      code: 'policy-admin',
      reason: 'named and watched',
      owner: 'security',
      expires: '2999-01-01',
    };
    const until = (expires: string) =>
      file('suppress.json', JSON.stringify({ suppressions: [{ ...suppression, expires }] }));
    const base = [at('good.json'), '--pcrs', at('pcrs.json'), '--fail-on', 'medium'];
    const living = await asJson(...base, '--suppress', until('2999-01-01'));
    expect(living).toMatchObject({ exit: 0, report: { verdict: 'ONLY_IMAGE_IF_ADMINS_TRUSTED' } });
    expect(living.report.suppressions).toMatchObject([
      { state: 'applied', owner: 'security', findings: [{ code: 'policy-admin' }] },
    ]);
    const ended = await asJson(at('good.json'), '--pcrs', at('pcrs.json'), '--suppress', until('2020-01-01'));
    expect(ended).toMatchObject({ exit: 1, report: { suppressions: [{ state: 'expired', findings: [] }] } });
    await expect(
      run(
        ...base,
        '--suppress',
        file('bad.json', JSON.stringify({ suppressions: [{ ...suppression, owner: '' }] })),
      ),
    ).rejects.toMatchObject({ code: 'REVIEW_SUPPRESSIONS' });
  });

  it('refuses options that mean nothing', async () => {
    await expect(run()).rejects.toMatchObject({ code: 'USAGE' });
    await expect(run(at('good.json'), '--fail-on', 'severe')).rejects.toMatchObject({ code: 'USAGE' });
    await expect(run(at('good.json'), '--deployment', 'x')).rejects.toMatchObject({ code: 'USAGE' });
    await expect(run('--live')).rejects.toMatchObject({ code: 'USAGE' });
    await expect(
      run(
        at('good.json'),
        '--context',
        file('context.json', JSON.stringify({ grants: { Grants: [], Truncated: true } })),
      ),
    ).rejects.toMatchObject({ code: 'REVIEW_CONTEXT' });
  });

  it('writes SARIF and a page besides', async () => {
    await run(at('open.json'), '--pcrs', at('pcrs.json'), '--sarif', at('x.sarif'), '--html', at('x.html'));
    expect(JSON.parse(readFileSync(at('x.sarif'), 'utf8'))).toMatchObject({ version: '2.1.0' });
    expect(readFileSync(at('x.html'), 'utf8')).toContain('DELEGATED_BYPASS');
  });
});

it('reads policy, grants and metadata of a key through KMS, all pages', async () => {
  const admin = principal(role('KeyAdmin'), { iamPolicies: [ALL_OF_KMS] });
  const keyId = '1234abcd-12ab-34cd-56ef-1234567890ab';
  const keyArn = `arn:aws:kms:eu-central-1:${ACCOUNT}:key/${keyId}`;
  const ca = await createSimulatedCa({ region: 'eu-central-1', now: new Date() });
  // More than one page of ListGrants.
  const grants = Array.from({ length: 120 }, (_, index) => ({
    GrantId: index.toString(16).padStart(64, '0'),
    GranteePrincipal: role(`Grantee${index}`),
    Operations: ['DescribeKey'],
  }));
  const kms = await startSimulatedKms({
    region: 'eu-central-1',
    accountId: ACCOUNT,
    principals: [admin],
    attestationAnchors: [simulationAnchor(ca.rootPem)],
    keys: [{ keyId, policy: OPEN, grants }],
    now: () => new Date(),
  });
  const client = clientOf(kms, admin);
  try {
    const live = await readLiveKey(client, keyArn);
    expect(live.policy).toBe(OPEN);
    expect(live.denied).toEqual([]);
    expect(live.context.grants).toHaveLength(120);
    expect(live.context.keyMetadata).toMatchObject({ arn: keyArn, multiRegion: false });
  } finally {
    client.destroy();
    await kms.close();
  }
});
