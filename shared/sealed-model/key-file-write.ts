/** The owner's side of key-file.ts; not in the image. */
import { canonicalJson } from './canonical-json.ts';
import { KEY_FILE_FORMAT, type KeyFile } from './key-file.ts';

export function encodeKeyFile({ context, wraps }: KeyFile): Uint8Array {
  return new TextEncoder().encode(
    `${canonicalJson({
      context: base64(context),
      format: KEY_FILE_FORMAT,
      wraps: wraps.map(({ kind, keyArn, ciphertextBlob, label }) => ({
        kind,
        keyArn,
        ciphertextBlob: base64(ciphertextBlob),
        label,
      })),
    })}\n`,
  );
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('base64');
}
