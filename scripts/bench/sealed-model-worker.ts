/** The yardsticks of the sealed-model benchmark: what one thread does, told by message and timed outside. */
import { createCipheriv, createHash, randomBytes } from 'node:crypto';
import { parentPort } from 'node:worker_threads';

export interface Yardstick {
  readonly kind: 'copy' | 'hash' | 'cipher';
  readonly from: SharedArrayBuffer;
  readonly to: SharedArrayBuffer;
  readonly start: number;
  readonly end: number;
}

const PIECE_BYTES = 1 << 20;
const SLAB_BYTES = 512 << 10;

parentPort?.on('message', (message: Yardstick | 'close') => {
  if (message === 'close') {
    parentPort?.close();
    return;
  }
  const { kind, from, to, start, end } = message;
  if (kind === 'copy') {
    const [source, target] = [Buffer.from(from), Buffer.from(to)];
    for (let at = start; at < end; at += PIECE_BYTES)
      source.copy(target, at, at, Math.min(at + PIECE_BYTES, end));
  } else if (kind === 'hash') {
    const hash = createHash('sha256');
    const source = Buffer.from(from);
    for (let at = start; at < end; at += PIECE_BYTES)
      hash.update(source.subarray(at, Math.min(at + PIECE_BYTES, end)));
    hash.digest();
  } else {
    // Node's own OpenSSL out of the cache: the same slab again and again, freed at once.
    const cipher = createCipheriv('aes-256-gcm', randomBytes(32), randomBytes(12));
    const slab = new Uint8Array(SLAB_BYTES);
    for (let at = start; at < end; at += SLAB_BYTES) (cipher.update(slab).buffer as ArrayBuffer).transfer(0);
  }
  parentPort?.postMessage('done');
});
parentPort?.postMessage('ready');
