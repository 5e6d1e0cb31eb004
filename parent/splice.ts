import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';

export interface SpliceOptions {
  /** The longest time without a byte in either direction. */
  readonly idleTimeoutMs: number;
  /** Told of every chunk as it passes. */
  readonly onMoved?: (direction: Direction, sizeBytes: number) => void;
}

/** `up` is from the first stream to the second. */
export type Direction = 'up' | 'down';

export type SpliceEnd = 'finished' | 'broken' | 'idle';

export interface Splice {
  /** Ends both sides at once. */
  abort(): void;
  /** Resolves when both sides are gone; never rejects. */
  readonly ended: Promise<SpliceEnd>;
  /** Bytes carried so far. */
  readonly carried: Readonly<Record<Direction, number>>;
}

/**
 * Joins two sockets: bytes untouched, memory bounded by their buffers, and the end of one direction is passed
 * on while the other keeps flowing. When one side breaks the other is reset, so that no cut looks like an end.
 * Nobody else may keep what the two give: its memory is freed as soon as it has been passed on.
 */
export function splice(first: Duplex, second: Duplex, options: SpliceOptions): Splice {
  const carried = { up: 0, down: 0 };
  const { promise: ended, resolve } = Promise.withResolvers<SpliceEnd>();
  let open = 2;
  let outcome: SpliceEnd = 'finished';
  const idle = setTimeout(() => abort('idle'), options.idleTimeoutMs);

  function abort(reason: SpliceEnd): void {
    if (open === 0) return;
    if (outcome === 'finished') outcome = reason;
    reset(first);
    reset(second);
  }

  function moved(direction: Direction, sizeBytes: number): void {
    carried[direction] += sizeBytes;
    idle.refresh();
    options.onMoved?.(direction, sizeBytes);
  }

  for (const side of [first, second]) {
    side.on('error', () => abort('broken'));
    side.on('close', () => {
      if (!side.readableEnded || !side.writableFinished) abort('broken');
      open -= 1;
      if (open > 0) return;
      clearTimeout(idle);
      resolve(outcome);
    });
  }
  carry(first, second, (sizeBytes) => moved('up', sizeBytes));
  carry(second, first, (sizeBytes) => moved('down', sizeBytes));
  if (first.destroyed || second.destroyed) abort('broken');
  return { abort: () => abort('broken'), ended, carried };
}

/** What `pipe` does, but goes on at once when the kernel has taken a chunk, and frees what has been written. */
function carry(from: Duplex, to: Duplex, moved: (sizeBytes: number) => void): void {
  from.on('data', (chunk: Buffer) => {
    moved(chunk.length);
    const roomLeft = to.write(chunk, isWorthFreeing(chunk) ? (error) => error ?? free(chunk) : undefined);
    // A chunk that the kernel took at once leaves nothing to wait for.
    if (!roomLeft && to.writableLength > 0) from.pause();
  });
  to.on('drain', () => {
    if (from.isPaused()) from.resume();
  });
  if (from.readableEnded) to.end();
  else from.once('end', () => to.end());
  from.resume();
}

const WORTH_FREEING_BYTES = 16 * 1024;

/**
 * A socket reads each chunk into memory of its own. Left to the garbage collector, gigabytes a second of it cost
 * more time than carrying the bytes, and every read lands in memory that no cache holds (docs/link.md section 4.3).
 * A part of a larger buffer, such as bytes behind an HTTP header, may have other readers and is left alone.
 */
function isWorthFreeing(chunk: Buffer): boolean {
  return chunk.length >= WORTH_FREEING_BYTES && chunk.length === chunk.buffer.byteLength;
}

function free(chunk: Buffer): void {
  (chunk.buffer as ArrayBuffer).transfer(0);
}

/**
 * A TCP peer sees a reset; a UNIX socket or vsock knows only the end of the connection. While an end is on its way,
 * Node cannot reset (libuv's uv_tcp_close_reset: EINVAL) and would leave the descriptor open for ever; by then every
 * byte before that end has been written, so that closing cuts nothing.
 */
export function reset(stream: Duplex): void {
  const ending = stream.writableEnded && !stream.writableFinished && stream.writableLength === 0;
  if (stream instanceof Socket && stream.remotePort !== undefined && !ending) stream.resetAndDestroy();
  else stream.destroy();
}
