/**
 * From a well-formed head and a data key to a head that may be used. The order is the point: the commitment
 * first (is this the key?), then the MAC (are these the tables that were sealed?), and only then does a payload
 * key exist (docs/sealed-model.md section 6).
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import { SealedModelError } from './errors.ts';
import { KEY_BYTES } from './format.ts';
import type { Head } from './head.ts';
import { type KeySchedule, withKeySchedule } from './keys.ts';

const MAKER = Symbol('only unlockHead makes an UnlockedHead');

/** A head whose every byte is authenticated. Holds the payload keys until `wipe`, never the data key. */
export class UnlockedHead {
  readonly head: Head;
  /** One 32-byte key an epoch, in shared memory: the workers read them there and there alone. */
  readonly #payloadKeys: SharedArrayBuffer;
  #wiped = false;

  constructor(maker: symbol, head: Head, payloadKeys: SharedArrayBuffer) {
    if (maker !== MAKER) throw new SealedModelError('SEALED_HEAD_LOCKED', 'Only unlockHead unlocks a head.');
    this.head = head;
    this.#payloadKeys = payloadKeys;
  }

  /** For the code that opens; throws SEALED_HEAD_LOCKED for a look-alike or after `wipe`. */
  static payloadKeysOf(unlocked: UnlockedHead): SharedArrayBuffer {
    if (!(#payloadKeys in unlocked)) {
      throw new SealedModelError('SEALED_HEAD_LOCKED', 'This head was not unlocked by unlockHead.');
    }
    if (unlocked.#wiped) {
      throw new SealedModelError('SEALED_HEAD_LOCKED', 'The keys of this head were wiped.');
    }
    return unlocked.#payloadKeys;
  }

  wipe(): void {
    this.#wiped = true;
    new Uint8Array(this.#payloadKeys).fill(0);
  }

  [Symbol.dispose](): void {
    this.wipe();
  }
}

/**
 * Throws SealedModelError: SEALED_KEY_MISMATCH (another key, another head, or a core header that was changed:
 * ctx is in the commitment), SEALED_HEAD_FORGED (the right key, but edited tables). The caller wipes `dataKey`.
 */
export function unlockHead(head: Head, dataKey: Uint8Array): UnlockedHead {
  const model = `${head.identity.name} version ${head.identity.version}`;
  return withKeySchedule(dataKey, head.parts.salt, head.context, (schedule) => {
    if (!timingSafeEqual(schedule.commitment(), head.parts.commitment)) {
      throw new SealedModelError(
        'SEALED_KEY_MISMATCH',
        `The data key is not the one that the head of ${model} commits to.`,
      );
    }
    if (!timingSafeEqual(macOfHead(schedule, head.parts), head.parts.mac)) {
      throw new SealedModelError(
        'SEALED_HEAD_FORGED',
        `The head of ${model} was changed after it was sealed.`,
      );
    }
    const payloadKeys = new SharedArrayBuffer(head.geometry.epochCount * KEY_BYTES);
    schedule.payloadKeys(new Uint8Array(payloadKeys));
    return new UnlockedHead(MAKER, head, payloadKeys);
  });
}

/** HMAC(header key, prelude || core || commitment || SHA-256(tag table) || SHA-256(digest table)). */
export function macOfHead(
  schedule: KeySchedule,
  parts: {
    readonly preludeAndCore: Uint8Array;
    readonly commitment: Uint8Array;
    readonly tags: Uint8Array;
    readonly digests: Uint8Array;
  },
): Uint8Array {
  const sha256 = (bytes: Uint8Array): Uint8Array => createHash('sha256').update(bytes).digest();
  return schedule.headMac([
    parts.preludeAndCore,
    parts.commitment,
    sha256(parts.tags),
    sha256(parts.digests),
  ]);
}
