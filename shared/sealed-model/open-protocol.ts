/**
 * What the main thread and the opening workers say to each other (docs/sealed-model.md section 9.1).
 *
 *   main -> worker   begin: the model, its payload keys, its source
 *                    job: open these segments into this target
 *                    close: wipe and exit
 *   worker -> main   opened: a segment is authenticated and in its place
 *                    free / again: a slot of the ring may be refilled / must be refilled with the same chunk
 *                    idle: no segment is left;  refused: stop everything, with the cause
 */
import type { SealedModelErrorCode } from './errors.ts';
import type { FileRange, Geometry } from './format.ts';
import type { RingMemory } from './ring.ts';
import type { DirectBytes } from './source.ts';

/** What `begin` brings. No secret but the payload keys, and those in shared memory. */
export interface WorkerStart {
  readonly geometry: Geometry;
  readonly context: Uint8Array;
  readonly payloadKeys: SharedArrayBuffer;
  readonly tags: SharedArrayBuffer;
  readonly digests: SharedArrayBuffer;
  readonly files: readonly FileRange[];
  readonly supply: DirectBytes | { readonly kind: 'ring'; readonly memory: RingMemory };
  readonly refetchLimit: number;
  readonly control: SharedArrayBuffer;
}

export interface Job {
  readonly kind: 'job';
  readonly endSegment: number;
  /** Strict: a segment counts as opened when its digest matched, not only its tags. */
  readonly checkDigests: boolean;
  readonly target: JobTarget;
}

export type JobTarget =
  /** `buffer` begins at chunk `firstChunk` and is as long as its chunks. */
  | { readonly kind: 'memory'; readonly buffer: SharedArrayBuffer; readonly firstChunk: number }
  /** One descriptor per file of the head. */
  | { readonly kind: 'files'; readonly fds: readonly number[] };

export type ToWorker =
  | { readonly kind: 'begin'; readonly start: WorkerStart }
  | Job
  | { readonly kind: 'close' };

export type FromWorker =
  | { readonly kind: 'opened'; readonly sizeBytes: number }
  | { readonly kind: 'free' | 'again'; readonly slot: number }
  | { readonly kind: 'idle' }
  | { readonly kind: 'refused'; readonly code: SealedModelErrorCode; readonly message: string };
