/** The sealer's side of prelude.ts; not in the image. */
import { FORMAT_VERSION, geometryOf, MAGIC, PRELUDE_BYTES, SUITE_AES256GCM_HKDFSHA512 } from './format.ts';
import { PRELUDE_AT, type Prelude } from './prelude.ts';

export function encodePrelude({ sizes, coreBytes, payloadSizeBytes }: Prelude): Uint8Array {
  const bytes = new Uint8Array(PRELUDE_BYTES);
  const view = new DataView(bytes.buffer);
  bytes.set(MAGIC, PRELUDE_AT.magic);
  view.setUint16(PRELUDE_AT.version, FORMAT_VERSION);
  view.setUint16(PRELUDE_AT.suite, SUITE_AES256GCM_HKDFSHA512);
  view.setUint8(PRELUDE_AT.chunkLog2, sizes.chunkLog2);
  view.setUint8(PRELUDE_AT.segmentLog2, sizes.segmentLog2);
  view.setUint8(PRELUDE_AT.epochLog2, sizes.epochLog2);
  view.setUint32(PRELUDE_AT.coreBytes, coreBytes);
  view.setBigUint64(PRELUDE_AT.chunkCount, BigInt(geometryOf(sizes, payloadSizeBytes).chunkCount));
  view.setBigUint64(PRELUDE_AT.payloadSize, BigInt(payloadSizeBytes));
  return bytes;
}
