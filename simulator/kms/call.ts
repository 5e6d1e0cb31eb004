/** One request on its way through the simulated KMS. */
import type { TrustAnchor } from '../../shared/attestation/anchors.ts';
import type { Input } from './input.ts';
import type { KeyStore, SimulatedKey } from './keys.ts';
import type { Caller } from './principals.ts';
import { type Recipient, readRecipient } from './recipient.ts';

/** What all requests share. */
export interface World {
  readonly region: string;
  readonly keys: KeyStore;
  readonly attestationAnchors: readonly TrustAnchor[];
}

/** What the record will say of the request (audit.ts). Never a plaintext, key material or a secret. */
export interface Note {
  key?: SimulatedKey;
  /** ReEncrypt's second key. */
  destinationKey?: SimulatedKey;
  additionalEventData?: Readonly<Record<string, unknown>>;
  recipient?: Recipient;
  requestParameters: Readonly<Record<string, unknown>>;
  responseElements?: Readonly<Record<string, unknown>>;
  explanation: readonly string[];
}

export interface Call {
  readonly world: World;
  readonly operation: string;
  readonly caller: Caller;
  readonly input: Input;
  readonly at: Date;
  readonly sourceIp: string;
  readonly userAgent: string;
  /** A fault: KMS reads another value in this register. */
  readonly alteredRegister: number | undefined;
  readonly note: Note;
}

/** What an operation answers; blobs are base64 already. */
export type Answer = Readonly<Record<string, unknown>>;

/** The key that a member names, for operations that take a key id or key ARN and no alias. */
export function keyOnly(call: Call, member: string): SimulatedKey {
  const key = findKey(call, call.input.requiredString(member, { max: 2048 }), { aliases: false });
  call.note.key = key;
  return key;
}

export interface NamedKey {
  readonly key: SimulatedKey;
  /** The condition key that tells policies by which alias it was asked for. */
  readonly aliasContext: Readonly<Record<string, readonly string[]>>;
}

/** The key that a member names in cryptographic operations and DescribeKey, which take aliases as well. */
export function cryptographicKey(call: Call, member = 'KeyId'): NamedKey {
  const identifier = call.input.requiredString(member, { max: 2048 });
  const key = findKey(call, identifier, { aliases: true });
  call.note.key = key;
  return { key, aliasContext: aliasContext(identifier) };
}

export function findKey(
  { world, caller }: Call,
  identifier: string,
  accepted: { readonly aliases: boolean },
): SimulatedKey {
  return world.keys.find(identifier, caller.identity.accountId, accepted);
}

/** `kms:RequestAlias` exists only where an alias was given (KMS developer guide, "AWS KMS condition keys"). */
export function aliasContext(identifier: string | undefined): NamedKey['aliasContext'] {
  const at = identifier?.indexOf('alias/') ?? -1;
  return identifier === undefined || at < 0 ? {} : { 'kms:RequestAlias': [identifier.slice(at)] };
}

export function requestedRecipient(call: Call): Recipient | undefined {
  const recipient = readRecipient(call.input, { anchors: call.world.attestationAnchors, at: call.at });
  if (recipient === undefined) return undefined;
  const seen = call.alteredRegister === undefined ? recipient : altered(recipient, call.alteredRegister);
  call.note.recipient = seen;
  return seen;
}

function altered(recipient: Recipient, index: number): Recipient {
  const pcrs = new Map(recipient.pcrs);
  const value = Uint8Array.from(pcrs.get(index) ?? new Uint8Array(48));
  value[0] = (value[0] as number) ^ 1;
  return { ...recipient, pcrs: pcrs.set(index, value) };
}

export function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('base64');
}

/** Times on the wire are seconds since 1970. */
export function wireTime(at: Date): number {
  return at.getTime() / 1000;
}
