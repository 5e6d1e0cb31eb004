import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';

export interface SpliceOptions {
  /** The longest time without a byte in either direction. */
  readonly idleTimeoutMs: number;
}

export type SpliceEnd = 'finished' | 'broken' | 'idle';

export interface Splice {
  /** Ends both sides at once. */
  abort(): void;
  /** Resolves when both sides are gone; never rejects. */
  readonly ended: Promise<SpliceEnd>;
  /** Bytes carried so far: `up` from the first stream to the second. */
  readonly carried: { readonly up: number; readonly down: number };
}

/**
 * Joins two streams: bytes untouched, memory bounded by their buffers, and the end of one direction is passed
 * on while the other keeps flowing. When one side breaks the other is reset, so that no cut looks like an end.
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
  first.on('data', (chunk: Buffer) => {
    carried.up += chunk.length;
    idle.refresh();
  });
  second.on('data', (chunk: Buffer) => {
    carried.down += chunk.length;
    idle.refresh();
  });
  first.pipe(second);
  second.pipe(first);
  if (first.destroyed || second.destroyed) abort('broken');
  return { abort: () => abort('broken'), ended, carried };
}

/** A TCP peer sees a reset; a UNIX socket or vsock knows only the end of the connection. */
export function reset(stream: Duplex): void {
  if (stream instanceof Socket && stream.remotePort !== undefined) stream.resetAndDestroy();
  else stream.destroy();
}
