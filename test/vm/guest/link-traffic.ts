import { createHash, randomFillSync } from 'node:crypto';
import { once } from 'node:events';
import type { Duplex } from 'node:stream';

export const PORTS = { echo: 9_001, bulk: 9_002, endsFirst: 9_003, foreign: 9_004, tls: 9_005, back: 9_006 };

const CHUNK_BYTES = 1 << 20;

/** Random bytes with back-pressure; resolves to their SHA-256, hexadecimal. Leaves the stream open. */
export async function sendBulk(stream: Duplex, sizeBytes: number): Promise<string> {
  const hash = createHash('sha256');
  const chunk = randomFillSync(new Uint8Array(CHUNK_BYTES));
  for (let sent = 0; sent < sizeBytes; sent += CHUNK_BYTES) {
    // Every chunk differs, and is a copy, because the stream still holds the one before.
    new DataView(chunk.buffer).setUint32(0, sent, true);
    const piece = Buffer.from(chunk.subarray(0, Math.min(CHUNK_BYTES, sizeBytes - sent)));
    hash.update(piece);
    if (!stream.write(piece)) await once(stream, 'drain');
  }
  return hash.digest('hex');
}
