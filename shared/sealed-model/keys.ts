/**
 * The key schedule (docs/sealed-model.md section 5): HKDF-SHA512 from the data key, salted by the file's own
 * salt, with the label, the suite and ctx in every info. Keys of one model open nothing of another, and the
 * commitment commits to the key and to the context at once.
 *
 * HKDF (RFC 5869) is written out over HMAC here, because node:crypto's makes a key object of its input, and a key
 * object stays in memory until the garbage collector comes by. HMAC's own state is cleansed when it ends, so
 * after `withKeySchedule` no copy of the data key is left but the caller's. Tests compare it with node:crypto's.
 */
import { createHmac } from 'node:crypto';
import { SealedModelError } from './errors.ts';
import { CONTEXT_BYTES, KEY_BYTES, SUITE_AES256GCM_HKDFSHA512 } from './format.ts';

type Label = 'commit' | 'header' | 'payload';

/** "strongroom sealed model v1 " label || 0 || suite (2) || ctx (32) || for payload keys: epoch (8). */
export function keyInfo(label: Label, context: Uint8Array, epoch?: number): Uint8Array {
  const text = new TextEncoder().encode(`strongroom sealed model v1 ${label}\0`);
  const info = new Uint8Array(text.length + 2 + CONTEXT_BYTES + (epoch === undefined ? 0 : 8));
  const view = new DataView(info.buffer);
  info.set(text, 0);
  view.setUint16(text.length, SUITE_AES256GCM_HKDFSHA512);
  info.set(context, text.length + 2);
  if (epoch !== undefined) view.setBigUint64(text.length + 2 + CONTEXT_BYTES, BigInt(epoch));
  return info;
}

export interface KeySchedule {
  /** 32 bytes; public once written into a head. */
  commitment(): Uint8Array;
  /** HMAC-SHA-256 over the parts of a head, under the header key. */
  headMac(parts: readonly Uint8Array[]): Uint8Array;
  /** Fills `target` with one 32-byte payload key an epoch. */
  payloadKeys(target: Uint8Array): void;
}

/** Runs `use` with the schedule of one data key; what it derives from is wiped before this returns. */
export function withKeySchedule<Result>(
  dataKey: Uint8Array,
  salt: Uint8Array,
  context: Uint8Array,
  use: (schedule: KeySchedule) => Result,
): Result {
  if (dataKey.length !== KEY_BYTES) {
    throw new SealedModelError(
      'SEALED_KEY_MISMATCH',
      `A data key has ${KEY_BYTES} bytes, this one ${dataKey.length}.`,
    );
  }
  const pseudoRandomKey = hmac('sha512', salt, [dataKey]);
  /** The first block of HKDF-Expand is longer than any key here. */
  const derive = (label: Label, epoch?: number): Uint8Array => {
    const block = hmac('sha512', pseudoRandomKey, [keyInfo(label, context, epoch), Uint8Array.of(1)]);
    const key = new Uint8Array(new ArrayBuffer(KEY_BYTES));
    key.set(block.subarray(0, KEY_BYTES));
    block.fill(0);
    return key;
  };
  try {
    return use({
      commitment: () => derive('commit'),
      headMac(parts) {
        const headerKey = derive('header');
        try {
          return new Uint8Array(hmac('sha256', headerKey, parts));
        } finally {
          headerKey.fill(0);
        }
      },
      payloadKeys(target) {
        for (let epoch = 0; epoch * KEY_BYTES < target.length; epoch++) {
          const key = derive('payload', epoch);
          target.set(key, epoch * KEY_BYTES);
          key.fill(0);
        }
      },
    });
  } finally {
    pseudoRandomKey.fill(0);
  }
}

/** Given bytes and not a key object, HMAC keeps nothing of its key once `digest` was called. */
function hmac(hash: 'sha256' | 'sha512', key: Uint8Array, parts: readonly Uint8Array[]): Buffer {
  const state = createHmac(hash, key);
  for (const part of parts) state.update(part);
  return state.digest();
}
