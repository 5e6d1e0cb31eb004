/** The first 64 bytes of a head (docs/sealed-model.md section 2). All integers are big-endian. */
import { SealedModelError } from './errors.ts';
import {
  type ChunkSizes,
  CORE_MAX_BYTES,
  EPOCHS_MAX,
  FORMAT_VERSION,
  geometryOf,
  MAGIC,
  PAYLOAD_MAX_BYTES,
  PRELUDE_BYTES,
  SUITE_AES256GCM_HKDFSHA512,
  validChunkSizes,
} from './format.ts';

export interface Prelude {
  readonly sizes: ChunkSizes;
  readonly coreBytes: number;
  readonly payloadSizeBytes: number;
}

const AT = {
  magic: 0,
  version: 8,
  suite: 10,
  flags: 12,
  chunkLog2: 16,
  segmentLog2: 17,
  epochLog2: 18,
  zero: 19,
  coreBytes: 20,
  chunkCount: 24,
  payloadSize: 32,
  reserved: 40,
} as const;

export function encodePrelude({ sizes, coreBytes, payloadSizeBytes }: Prelude): Uint8Array {
  const bytes = new Uint8Array(PRELUDE_BYTES);
  const view = new DataView(bytes.buffer);
  bytes.set(MAGIC, AT.magic);
  view.setUint16(AT.version, FORMAT_VERSION);
  view.setUint16(AT.suite, SUITE_AES256GCM_HKDFSHA512);
  view.setUint8(AT.chunkLog2, sizes.chunkLog2);
  view.setUint8(AT.segmentLog2, sizes.segmentLog2);
  view.setUint8(AT.epochLog2, sizes.epochLog2);
  view.setUint32(AT.coreBytes, coreBytes);
  view.setBigUint64(AT.chunkCount, BigInt(geometryOf(sizes, payloadSizeBytes).chunkCount));
  view.setBigUint64(AT.payloadSize, BigInt(payloadSizeBytes));
  return bytes;
}

export function decodePrelude(head: Uint8Array): Prelude {
  const bytes = head.subarray(0, PRELUDE_BYTES);
  if (bytes.length < PRELUDE_BYTES) {
    throw malformed(`a head has at least ${PRELUDE_BYTES} bytes, this one ${bytes.length}`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, PRELUDE_BYTES);
  if (MAGIC.some((byte, at) => bytes[at] !== byte)) {
    throw malformed('it does not begin with the magic number of a sealed model');
  }
  expectKnown('format version', view.getUint16(AT.version), FORMAT_VERSION);
  expectKnown('suite', view.getUint16(AT.suite), SUITE_AES256GCM_HKDFSHA512);
  expectKnown('flags', view.getUint32(AT.flags), 0);
  if (bytes[AT.zero] !== 0 || bytes.subarray(AT.reserved).some((byte) => byte !== 0)) {
    throw malformed('reserved bytes of the prelude are not zero');
  }
  const sizes = {
    chunkLog2: view.getUint8(AT.chunkLog2),
    segmentLog2: view.getUint8(AT.segmentLog2),
    epochLog2: view.getUint8(AT.epochLog2),
  };
  if (!validChunkSizes(sizes)) {
    throw malformed(`chunk, segment and epoch sizes ${Object.values(sizes).join(', ')} are not allowed`);
  }
  const coreBytes = view.getUint32(AT.coreBytes);
  if (coreBytes === 0 || coreBytes > CORE_MAX_BYTES) {
    throw malformed(`the core header may have 1 to ${CORE_MAX_BYTES} bytes, not ${coreBytes}`);
  }
  const payloadSize = view.getBigUint64(AT.payloadSize);
  if (payloadSize > BigInt(PAYLOAD_MAX_BYTES)) {
    throw malformed(`the payload may have at most ${PAYLOAD_MAX_BYTES} bytes, not ${payloadSize}`);
  }
  const payloadSizeBytes = Number(payloadSize);
  const geometry = geometryOf(sizes, payloadSizeBytes);
  const chunkCount = view.getBigUint64(AT.chunkCount);
  if (chunkCount !== BigInt(geometry.chunkCount)) {
    throw malformed(
      `${payloadSize} bytes make ${geometry.chunkCount} chunks, the prelude says ${chunkCount}`,
    );
  }
  if (geometry.epochCount > EPOCHS_MAX) {
    throw malformed(`at most ${EPOCHS_MAX} epochs are allowed, these sizes make ${geometry.epochCount}`);
  }
  return { sizes, coreBytes, payloadSizeBytes };
}

function expectKnown(what: string, found: number, known: number): void {
  if (found === known) return;
  throw new SealedModelError(
    'SEALED_VERSION_UNKNOWN',
    `The head has ${what} ${found}; only ${known} is known.`,
  );
}

function malformed(why: string): SealedModelError {
  return new SealedModelError('SEALED_HEAD_MALFORMED', `The head is refused: ${why}.`);
}
