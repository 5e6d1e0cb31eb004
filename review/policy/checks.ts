/** The checks of a review, with what came of them: said also when all passed. */

import type { Analysis } from './analysis.ts';
import { FINDING_RULES, type FindingCode } from './codes.ts';
import type { Evidence } from './evidence.ts';
import type { CheckPerformed, Finding, NotSupplied } from './report.ts';

const GROUPS: readonly { readonly group: string; readonly id: string; readonly title: string }[] = [
  { group: 'A', id: 'reading', title: 'The document reads in one way only' },
  { group: 'B', id: 'unattested-plaintext', title: 'Nobody gets plaintext without a document' },
  { group: 'C', id: 'image-pin', title: 'No other image than the reviewed one gets the key' },
  { group: 'D', id: 'denies', title: 'The Denies hold back what they are meant to' },
  { group: 'E', id: 'escapes', title: 'Nobody gets around the enclave in one step' },
  { group: 'F', id: 'outside', title: 'Nothing outside of the policy opens the key' },
  { group: 'G', id: 'dead-parts', title: 'Nothing in the policy is without effect, and the image gets in' },
  {
    group: 'H',
    id: 'data-keys-integrity-availability',
    title: 'Data keys, ciphertexts and the key itself are in the right hands',
  },
  { group: 'I', id: 'hygiene', title: 'The policy withstands the next change' },
];

/** What was not seen is nothing to tick off. */
const OUTSIDE = ['grants', 'trust-policies'];

export function checksOf(
  findings: readonly Finding[],
  { world }: Analysis,
  notSupplied: readonly NotSupplied[],
  { requests, contradiction }: Evidence,
): CheckPerformed[] {
  const unseen = notSupplied.some(({ what }) => OUTSIDE.includes(what));
  const checks = GROUPS.map(({ group, id, title }): CheckPerformed => {
    const codes = codesOf(findings, group);
    const skipped = (group === 'C' && world.reviewed.length === 0) || (group === 'F' && unseen);
    return {
      group,
      id,
      title,
      outcome: codes.length > 0 ? 'findings' : skipped ? 'skipped' : 'passed',
      codes,
      detail: '',
    };
  });
  return [
    ...checks,
    {
      group: 'J',
      id: 'evidence',
      title: 'The engine that the simulated KMS uses gives the answer of every witness',
      outcome: contradiction === undefined ? 'passed' : 'failed',
      codes: [],
      detail: contradiction ?? `requests decided once more: ${requests}`,
    },
  ];
}

function codesOf(findings: readonly Finding[], group: string): FindingCode[] {
  return [...new Set(findings.map(({ code }) => code))].filter((code) => FINDING_RULES[code].group === group);
}
