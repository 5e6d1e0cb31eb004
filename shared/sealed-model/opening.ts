/** What both ways of opening a whole payload share: check the target, run the workers, wipe on failure. */
import { fstatSync, ftruncateSync } from 'node:fs';
import { SealedModelError } from './errors.ts';
import type { Head } from './head.ts';
import type { JobTarget } from './open-protocol.ts';
import { type OpeningOptions, OpeningPool } from './opening-pool.ts';
import { OpeningThreads } from './opening-threads.ts';
import type { PayloadSource } from './source.ts';
import type { UnlockedHead } from './unlock.ts';

export type OpenTarget =
  /** Memory of exactly the payload's size; the files lie in it at their offsets. */
  | { readonly kind: 'memory'; readonly buffer: SharedArrayBuffer }
  /** Open, writable, regular files in the order of the head's files. */
  | { readonly kind: 'files'; readonly fds: readonly number[] };

export interface OpenOptions extends OpeningOptions {
  readonly signal?: AbortSignal;
  readonly onProgress?: (openedBytes: number) => void;
}

export async function openPayload(
  unlocked: UnlockedHead,
  source: PayloadSource,
  target: OpenTarget,
  options: OpenOptions & { readonly checkDigests: boolean },
): Promise<void> {
  const { head } = unlocked;
  const segments = { first: 0, end: head.geometry.segmentCount };
  let openedBytes = 0;
  const onOpened = (sizeBytes: number): void => {
    openedBytes += sizeBytes;
    options.onProgress?.(openedBytes);
  };
  let pool: OpeningPool | undefined;
  let prepared = false;
  let opened = false;
  try {
    pool = new OpeningPool(unlocked, source, options, segments.end);
    prepareTarget(head, target);
    prepared = true;
    await pool.run(segments, jobTarget(target), options.checkDigests, { signal: options.signal, onOpened });
    opened = true;
  } finally {
    await pool?.close();
    if (options.workers instanceof OpeningThreads) await options.workers.close();
    if (prepared && !opened) wipeTarget(target);
  }
}

function jobTarget(target: OpenTarget): JobTarget {
  return target.kind === 'memory' ? { kind: 'memory', buffer: target.buffer, firstChunk: 0 } : target;
}

function prepareTarget(head: Head, target: OpenTarget): void {
  if (target.kind === 'memory') {
    if (target.buffer.byteLength === head.payloadSizeBytes) return;
    throw unusable(`memory of ${head.payloadSizeBytes} bytes is needed, not ${target.buffer.byteLength}`);
  }
  if (target.fds.length !== head.files.length) {
    throw unusable(`${head.files.length} descriptors are needed, not ${target.fds.length}`);
  }
  for (const [index, fd] of target.fds.entries()) {
    if (!fstatSync(fd).isFile()) throw unusable(`descriptor ${index} is not a regular file`);
    ftruncateSync(fd, head.files[index]?.sizeBytes); // what a file held before is overwritten whole, or wiped
  }
}

function wipeTarget(target: OpenTarget): void {
  if (target.kind === 'memory') new Uint8Array(target.buffer).fill(0);
  else for (const fd of target.fds) ftruncateSync(fd, 0);
}

function unusable(why: string): SealedModelError {
  return new SealedModelError('SEALED_TARGET_UNUSABLE', `The model cannot be opened there: ${why}.`);
}
