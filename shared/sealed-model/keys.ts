/**
 * The key schedule (docs/sealed-model.md section 5): HKDF-SHA512 from the data key, salted by the file's own
 * salt, with the label, the suite and ctx in every info. Keys of one model open nothing of another, and the
 * commitment commits to the key and to the context at once.
 *
 * Every output has its own ArrayBuffer and its caller wipes it.
 */
import { createHmac, hkdfSync } from 'node:crypto';
import { secretKeyOf } from './chunk-cipher.ts';
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

/** Runs `use` with the schedule of one data key, which it keeps only as a key object meanwhile. */
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
  const inputKey = secretKeyOf(dataKey);
  const derive = (label: Label, epoch?: number): Uint8Array =>
    new Uint8Array(hkdfSync('sha512', inputKey, salt, keyInfo(label, context, epoch), KEY_BYTES));
  return use({
    commitment: () => derive('commit'),
    headMac(parts) {
      const headerKey = derive('header');
      try {
        const mac = createHmac('sha256', secretKeyOf(headerKey));
        for (const part of parts) mac.update(part);
        return new Uint8Array(mac.digest());
      } finally {
        headerKey.fill(0);
      }
    },
    payloadKeys(target) {
      for (let epoch = 0; epoch * KEY_BYTES < target.length; epoch++) {
        const key = derive('payload', epoch);
        try {
          target.set(key, epoch * KEY_BYTES);
        } finally {
          key.fill(0);
        }
      }
    },
  });
}
