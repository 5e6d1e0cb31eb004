/**
 * index.json: every other member with its SHA-256, who made the bundle and what was asked of the review. An in-toto
 * Statement v1, so that a signature over it is one that stock tools verify.
 */
import { createHash } from 'node:crypto';
import { parseStrictJson } from '../../shared/json.ts';
import { isRecord } from '../../shared/sealed-model/json-shapes.ts';
import { STATEMENT_TYPE } from '../../shared/sealed-model/manifest.ts';
import type { Member } from './archive.ts';
import { EvidenceBundleError } from './errors.ts';
import { INDEX, largestOf, MEMBERS_MAX, SIGNATURE } from './members.ts';

export const PREDICATE_TYPE = 'urn:strongroom:evidence-bundle:v1';

export interface BundleIndex {
  /** By the clock of whoever made it. */
  readonly made: Date;
  readonly toolVersion: string;
  /** What the review of the policy was asked beside the files: undefined where it was not told. */
  readonly hostRoleArn: string | undefined;
  readonly keyArn: string | undefined;
  /** SHA-256 in lower-case hex by member. */
  readonly digests: ReadonlyMap<string, string>;
}

export function encodeIndex(index: BundleIndex): Uint8Array {
  const { made, toolVersion, hostRoleArn, keyArn, digests } = index;
  const statement = {
    _type: STATEMENT_TYPE,
    subject: [...digests]
      .toSorted(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, sha256]) => ({ name, digest: { sha256 } })),
    predicateType: PREDICATE_TYPE,
    predicate: {
      made: made.toISOString(),
      tool: { name: 'strongroom', version: toolVersion },
      review: { hostRole: hostRoleArn, key: keyArn },
    },
  };
  return Buffer.from(`${JSON.stringify(statement, undefined, 2)}\n`);
}

/** Throws EvidenceBundleError BUNDLE_MALFORMED. */
export function decodeIndex(bytes: Uint8Array): BundleIndex {
  const value = readJson(bytes);
  if (
    !isRecord(value, ['_type', 'predicate', 'predicateType', 'subject']) ||
    value._type !== STATEMENT_TYPE ||
    value.predicateType !== PREDICATE_TYPE
  ) {
    throw malformed(`it is not a ${STATEMENT_TYPE} of ${PREDICATE_TYPE}`);
  }
  const { predicate } = value;
  if (!isRecord(predicate, ['made', 'review', 'tool'])) throw malformed('its predicate has other members');
  const { made, review, tool } = predicate;
  if (
    !isRecord(tool, ['name', 'version']) ||
    tool.name !== 'strongroom' ||
    typeof tool.version !== 'string'
  ) {
    throw malformed('it does not say which strongroom made it');
  }
  if (typeof made !== 'string' || !isTime(made)) throw malformed('it does not say when it was made');
  if (!isRecord(review, [], ['hostRole', 'key'])) throw malformed('it does not say what was reviewed');
  return {
    made: new Date(made),
    toolVersion: tool.version,
    hostRoleArn: textOrNothing(review.hostRole),
    keyArn: textOrNothing(review.key),
    digests: digestsOf(value.subject),
  };
}

export function sha256Of(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** Every member but index and signature, each as the index says. Throws EvidenceBundleError BUNDLE_DIGEST. */
export function expectMembersOf({ digests }: BundleIndex, members: readonly Member[]): void {
  const others = members.filter(({ name }) => name !== INDEX && name !== SIGNATURE);
  for (const { name, bytes } of others) {
    const expected = digests.get(name);
    if (expected === undefined) throw digest(`${name} is not in the index`);
    const found = sha256Of(bytes);
    if (found !== expected) throw digest(`${name} has SHA-256 ${found}, the index says ${expected}`);
  }
  const missing = [...digests.keys()].find((name) => !others.some((member) => member.name === name));
  if (missing !== undefined) throw digest(`${missing} is in the index and not in the archive`);
}

function digestsOf(subject: unknown): Map<string, string> {
  if (!Array.isArray(subject) || subject.length > MEMBERS_MAX) throw malformed('it lists no members');
  const digests = new Map<string, string>();
  for (const entry of subject) {
    const known =
      isRecord(entry, ['digest', 'name']) && isRecord(entry.digest, ['sha256']) ? entry : undefined;
    const { name, digest } = known ?? {};
    const sha256 = (digest as { sha256?: unknown } | undefined)?.sha256;
    if (typeof name !== 'string' || largestOf(name) === undefined || typeof sha256 !== 'string') {
      throw malformed('a member is not {name, digest: {sha256}}');
    }
    if (!/^[0-9a-f]{64}$/.test(sha256) || digests.has(name))
      throw malformed(`${name} is listed twice or wrongly`);
    digests.set(name, sha256);
  }
  return digests;
}

function isTime(text: string): boolean {
  return /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/.test(text) && !Number.isNaN(Date.parse(text));
}

function textOrNothing(value: unknown): string | undefined {
  if (value === undefined || typeof value === 'string') return value;
  throw malformed('a role or a key is no text');
}

function readJson(bytes: Uint8Array): unknown {
  try {
    return parseStrictJson(bytes, { maxDepth: 6 }).value;
  } catch (cause) {
    throw malformed(cause instanceof Error ? cause.message : 'it is not strict JSON', cause);
  }
}

function malformed(why: string, cause?: unknown): EvidenceBundleError {
  return new EvidenceBundleError('BUNDLE_MALFORMED', `The index of the bundle is refused: ${why}.`, cause);
}

function digest(why: string): EvidenceBundleError {
  return new EvidenceBundleError('BUNDLE_DIGEST', `The bundle was changed: ${why}.`);
}
