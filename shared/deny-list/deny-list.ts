/**
 * The deny list (docs/deny-list.md): which clients of an enclave are served no longer. A list is whole: it says who is
 * denied now, and the one before it says nothing any more. It is signed, counted and short-lived, because who delivers
 * it is not trusted: a delivered list cannot be changed, an older one cannot be passed for the newest, and one that is
 * held back stops the service when the last one ends.
 */
import { createHash, type KeyObject } from 'node:crypto';
import { isSignedBy, parseEnvelope } from '../dsse.ts';
import { parseStrictJson } from '../json.ts';
import { isRecord } from '../sealed-model/json-shapes.ts';
import { isSubject } from '../x509/client-certificate.ts';
import { parseSpiffeId } from '../x509/spiffe.ts';
import { DenyListError } from './errors.ts';

export const DENY_LIST_FORMAT = 'strongroom-deny-list/1';
export const DENY_LIST_PAYLOAD_TYPE = 'application/vnd.strongroom.deny-list+json';
export const DENY_LIST_MAX_BYTES = 512 * 1024;
export const DENIED_MAX = 4096;
const MAX_LIFE_MS = 31 * 24 * 60 * 60 * 1000;
/** How far the signer's clock may be ahead. */
const MAX_SKEW_MS = 60_000;

/** A client by name, with all its certificates, or one certificate. */
export interface Denied {
  readonly kind: 'spiffe' | 'subject' | 'serial' | 'sha256';
  /** Serial and SHA-256 in lower-case hexadecimal digits, the serial without leading zeros. */
  readonly value: string;
}

export interface DenyListFields {
  readonly sequence: number;
  readonly issuedAt: Date;
  /** The first moment at which it is over. */
  readonly expiresAt: Date;
  readonly denied: readonly Denied[];
}

const MAKER = Symbol('only verifyDenyList makes a VerifiedDenyList');

/** What the signer said. */
export class VerifiedDenyList implements DenyListFields {
  readonly sequence: number;
  readonly issuedAt: Date;
  readonly expiresAt: Date;
  readonly denied: readonly Denied[];
  /** SHA-256 of what was signed, hexadecimal. */
  readonly sha256: string;
  readonly #denied: ReadonlySet<string>;

  constructor(maker: symbol, { sequence, issuedAt, expiresAt, denied }: DenyListFields, sha256: string) {
    if (maker !== MAKER) throw new TypeError('only verifyDenyList makes a VerifiedDenyList');
    this.sequence = sequence;
    this.issuedAt = issuedAt;
    this.expiresAt = expiresAt;
    this.denied = denied;
    this.sha256 = sha256;
    this.#denied = new Set(denied.map(({ kind, value }) => `${kind} ${value}`));
    Object.freeze(this);
  }

  denies(client: {
    readonly spiffe: string | undefined;
    readonly subject: string | undefined;
    readonly serial: string;
    readonly sha256: string;
  }): boolean {
    return KINDS.some((kind) => this.#denied.has(`${kind} ${client[kind]}`));
  }
}

/** Whose word it is. Throws DenyListError DENY_LIST_SIGNER_…, DENY_LIST_MALFORMED or DENY_LIST_UNSIGNED. */
export function verifyDenyList(bytes: Uint8Array, signer: KeyObject): VerifiedDenyList {
  const envelope = openDenyList(bytes);
  if (!isSignedBy(signer, envelope, DENY_LIST_PAYLOAD_TYPE)) {
    throw new DenyListError(
      'DENY_LIST_UNSIGNED',
      `None of the ${envelope.signatures.length} signature(s) of the deny list is by the expected signer.`,
    );
  }
  const sha256 = createHash('sha256').update(envelope.payload).digest('hex');
  return new VerifiedDenyList(MAKER, parseDenyList(envelope.payload), sha256);
}

/**
 * Whether it holds at this time, for somebody who has seen `seen` before. Throws DenyListError DENY_LIST_EXPIRED,
 * DENY_LIST_FROM_FUTURE or DENY_LIST_REPLAYED.
 */
export function expectCurrent(list: VerifiedDenyList, at: Date, seen?: VerifiedDenyList): void {
  if (seen !== undefined && list.sequence < seen.sequence) {
    throw new DenyListError(
      'DENY_LIST_REPLAYED',
      `Expected a sequence of at least ${seen.sequence}, found ${list.sequence}.`,
    );
  }
  if (seen !== undefined && list.sequence === seen.sequence && list.sha256 !== seen.sha256) {
    throw new DenyListError('DENY_LIST_REPLAYED', `There are two lists with the sequence ${list.sequence}.`);
  }
  // Not ">=" of the opposite: an invalid time is before nothing.
  if (!(at < list.expiresAt)) {
    throw new DenyListError('DENY_LIST_EXPIRED', `The list ended at ${list.expiresAt.toISOString()}.`);
  }
  if (!(list.issuedAt.getTime() <= at.getTime() + MAX_SKEW_MS)) {
    const issued = list.issuedAt.toISOString();
    throw new DenyListError(
      'DENY_LIST_FROM_FUTURE',
      `The list was issued at ${issued}, which is still to come.`,
    );
  }
}

/** The envelope taken apart, nothing of it believed. */
export function openDenyList(bytes: Uint8Array): ReturnType<typeof parseEnvelope> {
  return parseEnvelope(bytes, {
    payloadType: DENY_LIST_PAYLOAD_TYPE,
    maxBytes: DENY_LIST_MAX_BYTES,
    malformed,
  });
}

/** What a payload says, whoever signed it. Throws DENY_LIST_MALFORMED. */
export function parseDenyList(payload: Uint8Array): DenyListFields {
  let value: unknown;
  try {
    value = parseStrictJson(payload, { maxBytes: DENY_LIST_MAX_BYTES, maxDepth: 4 }).value;
  } catch (cause) {
    throw malformed(cause instanceof Error ? cause.message : 'its payload is not strict JSON', cause);
  }
  if (!isRecord(value, ['denied', 'expiresAt', 'format', 'issuedAt', 'sequence'])) {
    throw malformed(
      'its payload must have denied, expiresAt, format, issuedAt and sequence, and nothing else',
    );
  }
  const { denied, format, sequence } = value;
  if (format !== DENY_LIST_FORMAT) throw malformed(`its format must be ${DENY_LIST_FORMAT}`);
  if (typeof sequence !== 'number' || !Number.isSafeInteger(sequence) || sequence < 1) {
    throw malformed('its sequence must be an integer from 1');
  }
  const issuedAt = time(value.issuedAt, 'issuedAt');
  const expiresAt = time(value.expiresAt, 'expiresAt');
  const lifeMs = expiresAt.getTime() - issuedAt.getTime();
  if (lifeMs <= 0 || lifeMs > MAX_LIFE_MS) throw malformed('it must end after it begins, within 31 days');
  if (!Array.isArray(denied) || denied.length > DENIED_MAX) {
    throw malformed(`it must deny a list of at most ${DENIED_MAX}`);
  }
  return { sequence, issuedAt, expiresAt, denied: denied.map(readDenied) };
}

export const KINDS = ['spiffe', 'subject', 'serial', 'sha256'] as const;

const IS_VALUE: Readonly<Record<Denied['kind'], (text: string) => boolean>> = {
  spiffe: (text) => (parseSpiffeId(text)?.path ?? '') !== '',
  subject: isSubject,
  serial: (text) => /^[1-9a-f][0-9a-f]{0,39}$/.test(text),
  sha256: (text) => /^[0-9a-f]{64}$/.test(text),
};

export function isDenied({ kind, value }: Denied): boolean {
  return IS_VALUE[kind](value);
}

function readDenied(entry: unknown): Denied {
  for (const kind of KINDS) {
    if (!isRecord(entry, [kind])) continue;
    const value = entry[kind];
    if (typeof value === 'string' && isDenied({ kind, value })) return { kind, value };
  }
  throw malformed(
    'an entry is not one of {spiffe}, {subject}, {serial} and {sha256}, each in its one spelling',
  );
}

/** RFC 3339, in UTC and whole seconds: one spelling for one time. */
function time(value: unknown, name: string): Date {
  const at =
    typeof value === 'string' && /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/.test(value)
      ? new Date(value)
      : undefined;
  if (at === undefined || timeText(at) !== value)
    throw malformed(`${name} must be a time such as 2030-01-31T12:00:00Z`);
  return at;
}

/** Of a time in whole seconds. */
export function timeText(at: Date): string | undefined {
  return Number.isNaN(at.getTime()) ? undefined : at.toISOString().replace('.000Z', 'Z');
}

function malformed(why: string, cause?: unknown): DenyListError {
  return new DenyListError('DENY_LIST_MALFORMED', `The deny list is refused: ${why}.`, cause);
}
