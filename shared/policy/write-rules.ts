/**
 * What CreateKey and PutKeyPolicy ask of a key policy today, beyond what every reader asks (docs/policy.md section
 * 5.3). Older documents that break these rules are still stored in places, so parse.ts reads them.
 */

import { PolicyError } from './errors.ts';
import { asciiLower } from './glob.ts';
import { KMS_CONDITION_KEYS } from './kms-data.ts';
import type { Policy, Statement } from './model.ts';

/**
 * Throws POLICY_WRITE where KMS answers MalformedPolicyDocumentException. Resolves to warnings: what AWS announced to
 * refuse or does not document. Not checked here: that the principals exist, and the lockout rule, which is
 * `decide` asked whether the caller may kms:PutKeyPolicy under the new policy.
 */
export function checkKeyPolicyWrite(bytes: Uint8Array, policy: Policy): string[] {
  const text = new TextDecoder().decode(bytes);
  // KMS looks at the characters; the JSON escape of a look-alike brings in the same one, so it is refused too.
  const foreign = /[^\t\n\r\x20-\x7e\xa0-\xff]|\\u(?!00[2-7a-f])[0-9a-f]{4}/iu.exec(text);
  if (foreign !== null) {
    const line = text.slice(0, foreign.index).split('\n').length;
    const found = foreign[0].startsWith('\\') ? foreign[0] : `U+${codePoint(foreign[0])}`;
    throw new PolicyError(
      'POLICY_WRITE',
      `line ${line}: expected printable characters up to U+00FF, found ${found}`,
    );
  }
  for (const statement of policy.statements) {
    if (statement.actions === undefined) throw missing(statement, 'Action or NotAction');
    if (statement.resources === undefined) throw missing(statement, 'Resource');
  }
  return [...policy.statements.flatMap(warnings), ...repeatedSids(policy)];
}

function warnings(statement: Statement): string[] {
  const { resources, conditions, line } = statement;
  const onlyStar = resources?.entries.every((entry) => entry === '*') && !resources.negated;
  return [
    ...(onlyStar
      ? []
      : [`line ${line}: "*" is the only Resource that AWS announced to accept in a key policy`]),
    ...conditions
      .filter(({ key }) => !isKnownKey(key))
      .map(({ key, line: at }) => `line ${at}: KMS has no condition key ${JSON.stringify(key)}`),
  ];
}

function repeatedSids(policy: Policy): string[] {
  const sids = policy.statements.flatMap(({ sid }) => (sid === undefined ? [] : [sid]));
  return sids
    .filter((sid, index) => sids.indexOf(sid) !== index)
    .map((sid) => `Sid ${JSON.stringify(sid)} is there more than once`);
}

/** Global keys (aws:) are not listed anywhere whole, so only names under kms: can be unknown. */
function isKnownKey(key: string): boolean {
  const name = asciiLower(key);
  if (!name.startsWith('kms:')) return name.startsWith('aws:');
  return KMS_CONDITION_KEYS.some(([known]) => {
    const lower = asciiLower(known);
    return /[:/]$/.test(lower) ? name.startsWith(lower) && name.length > lower.length : name === lower;
  });
}

function missing({ line }: Statement, what: string): PolicyError {
  return new PolicyError('POLICY_WRITE', `line ${line}: expected ${what}, found a statement without`);
}

function codePoint(found: string): string {
  return (found.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, '0');
}
