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

/** Where each field begins. */
export const PRELUDE_AT = {
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

export function decodePrelude(head: Uint8Array): Prelude {
  const bytes = head.subarray(0, PRELUDE_BYTES);
  if (bytes.length < PRELUDE_BYTES) {
    throw malformed(`a head has at least ${PRELUDE_BYTES} bytes, this one ${bytes.length}`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, PRELUDE_BYTES);
  if (MAGIC.some((byte, at) => bytes[at] !== byte)) {
    throw malformed('it does not begin with the magic number of a sealed model');
  }
  expectKnown('format version', view.getUint16(PRELUDE_AT.version), FORMAT_VERSION);
  expectKnown('suite', view.getUint16(PRELUDE_AT.suite), SUITE_AES256GCM_HKDFSHA512);
  expectKnown('flags', view.getUint32(PRELUDE_AT.flags), 0);
  if (bytes[PRELUDE_AT.zero] !== 0 || bytes.subarray(PRELUDE_AT.reserved).some((byte) => byte !== 0)) {
    throw malformed('reserved bytes of the prelude are not zero');
  }
  const sizes = {
    chunkLog2: view.getUint8(PRELUDE_AT.chunkLog2),
    segmentLog2: view.getUint8(PRELUDE_AT.segmentLog2),
    epochLog2: view.getUint8(PRELUDE_AT.epochLog2),
  };
  if (!validChunkSizes(sizes)) {
    throw malformed(`chunk, segment and epoch sizes ${Object.values(sizes).join(', ')} are not allowed`);
  }
  const coreBytes = view.getUint32(PRELUDE_AT.coreBytes);
  if (coreBytes === 0 || coreBytes > CORE_MAX_BYTES) {
    throw malformed(`the core header may have 1 to ${CORE_MAX_BYTES} bytes, not ${coreBytes}`);
  }
  const payloadSize = view.getBigUint64(PRELUDE_AT.payloadSize);
  if (payloadSize > BigInt(PAYLOAD_MAX_BYTES)) {
    throw malformed(`the payload may have at most ${PAYLOAD_MAX_BYTES} bytes, not ${payloadSize}`);
  }
  const payloadSizeBytes = Number(payloadSize);
  const geometry = geometryOf(sizes, payloadSizeBytes);
  const chunkCount = view.getBigUint64(PRELUDE_AT.chunkCount);
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
