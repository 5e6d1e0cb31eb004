/**
 * The values that a condition key of a request can have, as far as these policies can tell them apart (docs/policy-review.md
 * section 2): absent, each literal of a policy, a value for each pattern, values beside each bound, and a fresh one.
 */
import { kmsAction } from '../../../shared/policy/actions.ts';
import { evaluateCondition } from '../../../shared/policy/conditions.ts';
import { asciiLower } from '../../../shared/policy/glob.ts';
import { KMS_CONDITION_KEYS } from '../../../shared/policy/kms-data.ts';
import type { Condition, PolicyVersion } from '../../../shared/policy/model.ts';
import { isTimeKey, TIME } from './time.ts';

/** The values of one condition key; empty where the request has no such key. */
export type Values = readonly string[];

/** One choice: the condition keys that it sets, names in lower case. */
export interface Choice {
  readonly entries: ReadonlyMap<string, Values>;
  /** Needs a value of the request to be copied into something that the caller or a tag administrator sets. */
  readonly copied?: true;
}

export const ENCRYPTION_CONTEXT = 'kms:encryptioncontext';
export const ABSENT: Values = [];

const PCR0_KEY = 'kms:recipientattestation:pcr0';
const IMAGE_KEY = 'kms:recipientattestation:imagesha384';

/** What is varied together: the encryption context and its keys are one choice, so are PCR0 and ImageSha384, and time. */
export function variableOf(key: string): string {
  const lower = asciiLower(key);
  if (lower === IMAGE_KEY) return PCR0_KEY;
  if (isTimeKey(lower)) return TIME;
  return lower.startsWith(`${ENCRYPTION_CONTEXT}:`) || lower === `${ENCRYPTION_CONTEXT}keys`
    ? ENCRYPTION_CONTEXT
    : lower;
}

export function choiceOf(key: string, values: Values, copied = false): Choice {
  if (key === PCR0_KEY) {
    return {
      entries: new Map([
        [PCR0_KEY, values],
        [IMAGE_KEY, values],
      ]),
    };
  }
  return { entries: new Map([[key, values]]), ...(copied ? { copied: true as const } : {}) };
}

/** Whether one condition holds under one choice of the key that it is about. */
export function holdsUnder(condition: Condition, version: PolicyVersion, choice: Choice): boolean {
  return evaluateCondition(condition, version, choice.entries).holds;
}

/** Values of conditions on one key, turned into values that a request could have. */
export function valuesFor(conditions: readonly Condition[]): string[] {
  const found = new Set<string>();
  for (const { operator, values } of conditions) {
    for (const value of values) {
      const text = value.replaceAll(/\$\{([*?$])\}/g, '$1');
      switch (operator.comparison) {
        case 'numeric':
          for (const step of [-1, 0, 1]) found.add(String(Number(text) + step));
          break;
        case 'date':
          for (const step of [-1, 0, 1]) found.add(dateBeside(text, step));
          break;
        case 'ip':
          found.add(text.split('/')[0] ?? '');
          break;
        case 'bool':
          found.add('true').add('false');
          break;
        case 'null':
          break;
        case 'string-like':
        case 'arn':
          for (const instance of instancesOf(text)) found.add(instance);
          break;
        default:
          found.add(text);
      }
    }
  }
  found.delete('NaN');
  return [...found];
}

function dateBeside(text: string, step: number): string {
  const at = /^\d{1,12}$/.test(text) ? Number(text) * 1000 : Date.parse(text);
  if (Number.isNaN(at)) return text;
  return `${new Date(at + step * 1000).toISOString().slice(0, 19)}Z`;
}

/** Texts that a pattern matches: wildcards empty, and wildcards filled. */
export function instancesOf(pattern: string): string[] {
  if (!/[*?]/.test(pattern)) return [pattern];
  return [
    pattern.replaceAll('*', '').replaceAll('?', '0'),
    pattern.replaceAll('*', '0z').replaceAll('?', '1'),
  ];
}

/** Keys under kms: that only some actions have, prefixes included. Undefined: every action on a key has it. */
const OWN_KEYS: ReadonlySet<string> = new Set(
  KMS_CONDITION_KEYS.map(([name]) => asciiLower(name)).filter(
    (name) =>
      name.startsWith('kms:') &&
      !/^kms:(?:calleraccount|viaservice|keyorigin|keyspec|keyusage|multiregion|multiregionkeytype)$/.test(
        name,
      ),
  ),
);

/** A register's name under another prefix than kms:, such as aws:RecipientAttestation:PCR0. */
const MISPLACED_REGISTER = /recipientattestation|:(?:(?:nitrotpm)?pcr\d+|imagesha384)$/;

/**
 * Whether a call of this action can have this condition key. Unknown keys under kms: no call has, nor names without a
 * service's prefix, which are placeholders that a template left in a policy variable. Other unknown keys may be newer
 * than our tables: a caller may have them.
 */
export function actionHasKey(action: string, key: string): boolean {
  if (!key.startsWith('kms:')) return key.includes(':') && !MISPLACED_REGISTER.test(key);
  if (
    /^kms:(?:calleraccount|viaservice|keyorigin|keyspec|keyusage|multiregion|multiregionkeytype)$/.test(key)
  ) {
    return true;
  }
  const own = kmsAction(action)?.keys ?? [];
  return own.some((name) => {
    const lower = asciiLower(name);
    return lower.endsWith(':') ? key.startsWith(lower) : key === lower;
  });
}

export function isKnownKmsKey(key: string): boolean {
  const lower = asciiLower(key);
  return (
    [...OWN_KEYS].some((name) =>
      name.endsWith(':') ? lower.startsWith(name) && lower !== name : lower === name,
    ) ||
    /^kms:(?:calleraccount|viaservice|keyorigin|keyspec|keyusage|multiregion|multiregionkeytype)$/.test(lower)
  );
}

/** Keys that place a caller in a network or an organisation of somebody else: a stranger cannot choose their value. */
export function isOfOthers(key: string): boolean {
  return /^aws:(?:sourceip|vpcsourceip|sourcevpc|sourcevpce|sourcevpcarn|vpce.*|principalorgid|principalorgpaths|resourceorgid|resourceorgpaths)$/.test(
    key,
  );
}

/** Absent from calls that a principal makes itself. */
export function isOfServices(key: string): boolean {
  return /^aws:(?:calledvia|calledviafirst|calledvialast|sourcearn|sourceaccount|sourceorgid|sourceorgpaths|sourceowner|principalservicename|principalservicenameslist)$/.test(
    key,
  );
}
