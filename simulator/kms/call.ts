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

/** The key that `KeyId` names. */
export function requestedKey(call: Call): SimulatedKey {
  const identifier = call.input.requiredString('KeyId', { max: 2048 });
  const key = call.world.keys.find(identifier, call.caller.identity.accountId);
  call.note.key = key;
  return key;
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
