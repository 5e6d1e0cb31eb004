/**
 * The sealed model written straight from docs/sealed-model.md, in the plainest way and sharing no code with
 * shared/sealed-model: a second opinion on the format. Test vectors are made with it.
 */
import { createCipheriv, createHash, createHmac, hkdfSync } from 'node:crypto';

export interface PlainSeal {
  readonly sizes: readonly [chunkLog2: number, segmentLog2: number, epochLog2: number];
  /** The core header's exact text. */
  readonly core: string;
  readonly salt: Uint8Array;
  readonly dataKey: Uint8Array;
  /** The plaintext with its gaps. */
  readonly image: Uint8Array;
}

export interface PlainSealed {
  readonly head: Buffer;
  readonly payload: Buffer;
  readonly prelude: Buffer;
  readonly context: Buffer;
  readonly tags: Buffer;
  readonly digests: Buffer;
}

export function plainSeal(seal: PlainSeal): PlainSealed {
  const [chunkLog2] = seal.sizes;
  const prelude = plainPrelude(seal);
  const core = Buffer.from(seal.core);
  const context = sha256(prelude, core);
  const chunkBytes = 2 ** chunkLog2;
  const chunks: Buffer[] = [];
  const tags: Buffer[] = [];
  for (let index = 0; index * chunkBytes < seal.image.length; index++) {
    const plaintext = seal.image.subarray(index * chunkBytes, (index + 1) * chunkBytes);
    const { key, nonce, associatedData } = chunkInputs(seal, context, index, plaintext.length);
    const cipher = createCipheriv('aes-256-gcm', key, nonce).setAAD(associatedData);
    chunks.push(Buffer.concat([cipher.update(plaintext), cipher.final()]));
    tags.push(cipher.getAuthTag());
  }
  const payload = Buffer.concat(chunks);
  return { ...plainHead(seal, payload, Buffer.concat(tags)), payload };
}

/** The head over any payload and tags: forgers know the data key too. */
export function plainHead(seal: PlainSeal, payload: Uint8Array, tags: Buffer): Omit<PlainSealed, 'payload'> {
  const prelude = plainPrelude(seal);
  const core = Buffer.from(seal.core);
  const context = sha256(prelude, core);
  const segmentBytes = 2 ** seal.sizes[1];
  const digests = Buffer.concat(
    Array.from({ length: Math.ceil(payload.length / segmentBytes) }, (_, segment) =>
      sha256(payload.subarray(segment * segmentBytes, (segment + 1) * segmentBytes)),
    ),
  );
  const commitment = derive(seal, context, 'commit');
  const mac = createHmac('sha256', derive(seal, context, 'header'))
    .update(Buffer.concat([prelude, core, commitment, sha256(tags), sha256(digests)]))
    .digest();
  const head = Buffer.concat([prelude, core, commitment, mac, tags, digests]);
  return { head, prelude, context, tags, digests };
}

export function chunkInputs(
  seal: PlainSeal,
  context: Buffer,
  index: number,
  length: number,
): { key: Buffer; nonce: Buffer; associatedData: Buffer } {
  const [chunkLog2, , epochLog2] = seal.sizes;
  const last = Math.ceil(seal.image.length / 2 ** chunkLog2) - 1;
  const epoch = Math.floor((index * 2 ** chunkLog2) / 2 ** epochLog2);
  return {
    key: derive(seal, context, 'payload', u64(epoch)),
    nonce: Buffer.concat([Buffer.from([index === last ? 1 : 0, 0, 0, 0]), u64(index)]),
    associatedData: Buffer.concat([context, u64(index), u32(length)]),
  };
}

function plainPrelude({ sizes, core, image }: PlainSeal): Buffer {
  return Buffer.concat([
    Buffer.from('8953524d0d0a1a0a', 'hex'),
    Buffer.from('0001000100000000', 'hex'),
    Buffer.from([...sizes, 0]),
    u32(Buffer.byteLength(core)),
    u64(Math.ceil(image.length / 2 ** sizes[0])),
    u64(image.length),
    Buffer.alloc(24),
  ]);
}

function derive({ dataKey, salt }: PlainSeal, context: Buffer, label: string, epoch?: Buffer): Buffer {
  const info = Buffer.concat([
    Buffer.from(`strongroom sealed model v1 ${label}\0`),
    Buffer.from([0, 1]),
    context,
    epoch ?? Buffer.alloc(0),
  ]);
  return Buffer.from(hkdfSync('sha512', dataKey, salt, info, 32));
}

function sha256(...parts: Uint8Array[]): Buffer {
  return createHash('sha256').update(Buffer.concat(parts)).digest();
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

function u64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(value));
  return bytes;
}
