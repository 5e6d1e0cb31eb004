/** Reports made by hand, for what no policy would bring about: hostile text everywhere, and every part filled. */
import { createHash } from 'node:crypto';
import {
  type Finding,
  type PolicyReviewReport,
  REPORT_SCHEMA,
  type Witness,
} from '../../../review/policy/report.ts';

const sha256 = (text: string) => createHash('sha256').update(text).digest('hex');

/** Every text of it is `text`, and every part is there. */
export function reportOf(text: string): PolicyReviewReport {
  const policy = JSON.stringify(
    { Version: text, Statement: [{ Sid: text, Effect: 'Allow', Resource: '*' }] },
    null,
    2,
  );
  const witness: Witness = {
    principal: {
      name: text,
      arn: text,
      sessionArn: text,
      accountId: text,
      tags: { [text]: text },
      identityPolicies: [{ [text]: text }],
      identityPoliciesFrom: 'assumed',
    },
    action: text,
    keyArn: text,
    attestation: { name: text, platform: 'enclave', registers: { [text]: text } },
    context: { [text]: [text] },
    encryptionContext: { [text]: text },
    answer: 'allow',
    decidedBy: [{ policy: text, statement: text, line: 4 }],
    // biome-ignore lint/suspicious/noThenProperty: the report's own word for what follows
    then: text,
  };
  const finding: Finding = {
    code: 'unattested-plaintext',
    severity: 'critical',
    statement: text,
    location: { index: 0, sid: text, line: 4, column: 5, endLine: 8, endColumn: 5, conditionLines: [5] },
    why: text,
    witness,
    remedy: {
      text,
      patch: [
        { op: 'replace', path: text, value: { [text]: text } },
        { op: 'remove', path: text },
      ],
    },
    fingerprint: sha256(text),
  };
  return {
    schema: REPORT_SCHEMA,
    verdict: 'BYPASS',
    severity: 'critical',
    sentence: text,
    findings: [finding, { ...finding, code: 'lockout', severity: 'info', location: null, witness: null }],
    matrix: {
      principals: [text],
      attestations: ['none', text],
      actions: [text],
      cells: ['none', text].map((attestation) => ({
        principal: text,
        attestation,
        action: text,
        answer: 'allow',
        because: 'allow',
        decidedBy: witness.decidedBy,
      })),
    },
    checks: [
      {
        group: text,
        id: text,
        title: text,
        outcome: 'findings',
        codes: ['unattested-plaintext'],
        detail: text,
      },
    ],
    notSupplied: [{ what: text, consequence: text }],
    contested: [{ point: text, held: text, statement: text, otherwise: 'AMBIGUOUS' }],
    suppressions: [
      {
        code: 'no-host-binding',
        statement: text,
        reason: text,
        owner: text,
        expires: text,
        state: 'applied',
        findings: [{ ...finding, code: 'no-host-binding', severity: 'low' }],
      },
    ],
    policy: { name: text, text: policy, sha256: sha256(policy) },
    reviewed: {
      registers: { PCR0: text, [text]: text },
      hostRoleArns: [text],
      keyArn: text,
      hostRoleFrom: 'inferred',
      keyArnFrom: 'inferred',
      at: text,
    },
    inputs: [{ kind: text, name: text, sha256: sha256(text) }],
  };
}
