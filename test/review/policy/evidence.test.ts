/** A report that the engine contradicts anywhere says so, and says nothing else. */
import { describe, expect, it } from 'vitest';
import { evidenceOf } from '../../../review/policy/evidence.ts';
import type { Finding, Witness } from '../../../review/policy/report.ts';
import { parseGrant } from '../../../shared/policy/grants.ts';
import type { Grant } from '../../../shared/policy/model.ts';
import { parsePolicy } from '../../../shared/policy/parse.ts';
import { ACCOUNT, IMAGE, review } from './support.ts';

const PCR0 = 'kms:RecipientAttestation:PCR0';
const role = (name: string) => `arn:aws:iam::${ACCOUNT}:role/${name}`;

/** One Allow for the image, one for the tag, one for everybody whom IAM lets in, and a Deny for one of these. */
const STATEMENTS = [
  {
    Sid: 'Enclave',
    Effect: 'Allow',
    Principal: { AWS: role('EnclaveHost') },
    Action: 'kms:Decrypt',
    Resource: '*',
    Condition: { StringEquals: { [PCR0]: IMAGE.pcr0 } },
  },
  {
    Sid: 'Tagged',
    Effect: 'Allow',
    Principal: { AWS: role('Operator') },
    Action: 'kms:Decrypt',
    Resource: '*',
    Condition: { StringEquals: { 'aws:PrincipalTag/team': 'ops', 'kms:EncryptionContext:model': 'iris' } },
  },
  { Sid: 'Account', Effect: 'Allow', Principal: { AWS: ACCOUNT }, Action: 'kms:*', Resource: '*' },
  { Sid: 'Auditor', Effect: 'Deny', Principal: { AWS: role('Auditor') }, Action: 'kms:*', Resource: '*' },
];
const GRANT = { GrantId: 'g1', GranteePrincipal: role('Batch'), Operations: ['Decrypt'] };

const keyPolicy = parsePolicy(
  Buffer.from(JSON.stringify({ Version: '2012-10-17', Statement: STATEMENTS }, null, 2)),
  'key',
);
const report = review(STATEMENTS, { context: { grants: [GRANT] } });
const grants: readonly Grant[] = [parseGrant(GRANT)];
const withWitness = report.findings.filter(({ witness }) => witness !== null);

/** The witness that `which` picks is printed otherwise. */
function altered(which: (finding: Finding) => boolean, change: (witness: Witness) => object): Finding[] {
  const at = withWitness.findIndex(which);
  expect(at).toBeGreaterThanOrEqual(0);
  return withWitness.map((finding, index) =>
    index === at && finding.witness !== null
      ? { ...finding, witness: { ...finding.witness, ...change(finding.witness) } }
      : finding,
  );
}

const at = (code: string, statement: string | null) => (finding: Finding) =>
  finding.code === code && finding.statement === statement;
const tagged = at('unattested-plaintext', 'Tagged');

describe('the evidence of a report', () => {
  it('holds for a report as it is, with grants, tags, contexts and IAM policies', () => {
    expect(withWitness.length).toBeGreaterThan(5);
    expect(evidenceOf(report.findings, keyPolicy, grants)).toEqual({
      requests: withWitness.length,
      contradiction: undefined,
    });
    expect(report.checks.at(-1)).toEqual({
      group: 'J',
      id: 'evidence',
      title: expect.any(String),
      outcome: 'passed',
      codes: [],
      detail: `requests decided once more: ${withWitness.length}`,
    });
  });

  it.each<[string, (finding: Finding) => boolean, (witness: Witness) => object, RegExp]>([
    ['another answer', tagged, () => ({ answer: 'deny' }), /printed is deny, and the engine says allow/],
    [
      'another caller',
      tagged,
      ({ principal }) => ({ principal: { ...principal, arn: role('Other') } }),
      /allow.*deny/,
    ],
    [
      'without its tag',
      tagged,
      ({ principal }) => ({ principal: { ...principal, tags: {} } }),
      /allow.*deny/,
    ],
    ['without its encryption context', tagged, () => ({ encryptionContext: {} }), /allow.*deny/],
    ['another action', tagged, () => ({ action: 'kms:Encrypt' }), /allow.*deny/],
    [
      'no action',
      tagged,
      () => ({ action: 'Decrypt' }),
      /the engine takes no such request \(action: expected/,
    ],
    [
      'a statement that does not decide',
      tagged,
      ({ decidedBy }) => ({ decidedBy: decidedBy.map((one) => ({ ...one, statement: 'Enclave' })) }),
      /printed is that "Enclave" of the key policy decides it, and it does not/,
    ],
    [
      'no statement that decides',
      tagged,
      () => ({ decidedBy: [] }),
      /the statements that are printed do not allow it/,
    ],
    [
      'without its IAM policy',
      at('account-delegation', 'Account'),
      ({ principal }) => ({ principal: { ...principal, identityPolicies: [] } }),
      /allow.*deny/,
    ],
    [
      'a document that the caller does not have',
      at('grant-existing', null),
      ({ principal }) => ({ principal: { ...principal, arn: role('Auditor') } }),
      /allow.*deny/,
    ],
  ])('does not hold with a request of %s', (_what, which, change, why) => {
    const { contradiction } = evidenceOf(altered(which, change), keyPolicy, grants);
    expect(contradiction).toMatch(why);
  });

  it('takes the one of several ways in that a finding is about', () => {
    const others = { ArnNotEquals: { 'aws:PrincipalArn': role('EnclaveHost') } };
    const deny = { Sid: 'Others', Effect: 'Deny', Principal: '*', Action: 'kms:Decrypt', Resource: '*' };
    const both = review([STATEMENTS[2] as object, STATEMENTS[0] as object, { ...deny, Condition: others }]);
    // The engine names the Allow for the caller itself, and this finding is about the one for the account.
    const byAccount = both.findings.filter(
      ({ witness }) =>
        witness?.attestation?.registers.PCR0 === IMAGE.pcr0 &&
        witness.decidedBy.some(({ statement }) => statement === 'Account'),
    );
    expect(byAccount).not.toEqual([]);
    expect(both.checks.at(-1)?.outcome).toBe('passed');
  });

  it('names the first that does not hold, and where it stands', () => {
    const { contradiction } = evidenceOf(
      altered(tagged, () => ({ answer: 'deny' })),
      keyPolicy,
      grants,
    );
    expect(contradiction).toMatch(/^the request of unattested-plaintext at "Tagged" is not as printed: /);
  });

  it('does not hold without the grant that a request needs', () => {
    expect(evidenceOf(report.findings, keyPolicy, []).contradiction).toMatch(
      /^the request of grant-existing/,
    );
  });

  it('counts the registers of a document', () => {
    const other = review([STATEMENTS[0] as object], { image: { pcr0: 'ee'.repeat(48) } });
    const policy = parsePolicy(
      Buffer.from(JSON.stringify({ Version: '2012-10-17', Statement: [STATEMENTS[0]] }, null, 2)),
      'key',
    );
    const found = other.findings.filter(({ witness }) => witness?.attestation?.registers.PCR0 === IMAGE.pcr0);
    expect(found).not.toEqual([]);
    expect(evidenceOf(found, policy, []).contradiction).toBeUndefined();
    const zeroed = found.map((finding) => ({
      ...finding,
      witness: {
        ...(finding.witness as Witness),
        attestation: { name: '', platform: 'enclave', registers: {} } as const,
      },
    }));
    expect(evidenceOf(zeroed, policy, []).contradiction).toMatch(
      /printed is allow, and the engine says deny/,
    );
  });
});
