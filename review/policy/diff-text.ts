/** Changes between two policies for people: first a sentence, then who gains and who loses what. */
import { isAttestable } from '../../shared/policy/actions.ts';
import type { PolicyChange, PolicyDiff } from './diff.ts';
import { isAtOnce } from './findings/witness.ts';

const NAMED_MAX = 4;
/** Condition keys of every request to a key: no reason for another answer. */
const FACTS = /^(aws:SecureTransport|aws:EpochTime|kms:(KeyOrigin|KeySpec|KeyUsage|MultiRegion))$/i;

/** `role Other gains kms:Decrypt without a document; role KeyAdmin loses kms:PutKeyPolicy.` */
export function diffSentence({ changes, requests, principals, gaveUp }: PolicyDiff): string {
  if (changes.length === 0) {
    return gaveUp
      ? 'Cannot say: the policies are too entangled to search through, and no change was found so far.'
      : `Nothing changes: ${requests.toLocaleString('en')} requests of ${principals.length} principals have the same answer under both.`;
  }
  const parts = changes.slice(0, NAMED_MAX).map(changeWords);
  const more = changes.length - parts.length;
  const sentence = `${parts.join('; ')}${more > 0 ? `; and ${more} more` : ''}.`;
  return sentence.charAt(0).toUpperCase() + sentence.slice(1);
}

function changeWords({ direction, extent, principals, attestations, actions }: PolicyChange): string {
  const [verb, verbs] = direction === 'gained' ? ['gains', 'gain'] : ['loses', 'lose'];
  const who = named(principals);
  const bare = attestations.length === 1 && attestations[0] === 'none';
  const how = bare
    ? actions.some(isAttestable)
      ? ' without attestation'
      : ''
    : ` with ${named(attestations.map((one) => (one === 'none' ? 'no document' : one)))}`;
  const where = extent === 'some' ? ' under further conditions' : '';
  return `${who} ${principals.length === 1 ? verb : verbs} ${named(actions)}${how}${direction === 'gained' ? where : where.replace('further', 'some')}`;
}

export function diffText(
  diff: PolicyDiff,
  names: { readonly before: string; readonly after: string },
): string {
  const lines = [diffSentence(diff), ''];
  for (const [direction, title] of [
    ['gained', 'Allowed now, denied before:'],
    ['lost', 'Denied now, allowed before:'],
  ] as const) {
    const own = diff.changes.filter((change) => change.direction === direction);
    if (own.length === 0) continue;
    lines.push(title, '', ...own.flatMap((change) => changeLines(change, names, diff.at)));
  }
  lines.push(
    `Asked: ${diff.requests.toLocaleString('en')} requests, each under both policies, of ${diff.principals.length} principals with ${diff.attestations.length} kinds of attestation documents and without one.`,
  );
  if (diff.gaveUp) lines.push('A search was given up: there may be more changes than these.');
  return `${lines.map(plain).join('\n')}\n`;
}

function changeLines(
  change: PolicyChange,
  { before, after }: { before: string; after: string },
  at: string,
): string[] {
  const { principals, attestations, actions, extent, witness, direction } = change;
  const context = [
    ...Object.entries(witness.encryptionContext).map(([key, value]) => `encryption context ${key}=${value}`),
    ...Object.entries(witness.context)
      .filter(([key, values]) => !FACTS.test(key) && !isAtOnce(key, values, at))
      .map(([key, values]) => `${key}=${values.join(',')}`),
    ...Object.entries(witness.principal.tags).map(([key, value]) => `tag ${key}=${value}`),
  ];
  return [
    ...principals.map((name, index) => `  ${index === 0 ? 'who' : '   '}    ${name}`),
    `  what   ${actions.join(', ')}${extent === 'all' ? '' : direction === 'gained' ? ' (some of it was possible before)' : ' (some of it is still possible)'}`,
    ...attestations.map(
      (name, index) =>
        `  ${index === 0 ? 'with' : '    '}   ${name === 'none' ? 'no attestation document' : name}`,
    ),
    `  such as ${witness.action} by ${witness.principal.arn}${context.length === 0 ? '' : `, ${context.join(', ')}`}`,
    ...change.before.explanation.slice(0, 2).map((line) => `    ${before}: ${line}`),
    ...change.after.explanation.slice(0, 2).map((line) => `    ${after}: ${line}`),
    '',
  ];
}

function named(list: readonly string[]): string {
  const shown = list.slice(0, NAMED_MAX);
  const more = list.length - shown.length;
  if (more > 0) return `${shown.join(', ')} and ${more} more`;
  return shown.length < 2 ? shown.join('') : `${shown.slice(0, -1).join(', ')} and ${shown.at(-1)}`;
}

/** Text of a policy moves no cursor, and nobody reads 96 digits. */
function plain(line: string): string {
  return line
    .replaceAll(/[^\p{L}\p{N}\p{P}\p{S} ]/gu, '\uFFFD')
    .replaceAll(/\b([0-9a-f]{12})[0-9a-f]{84}\b/gi, '$1…');
}
