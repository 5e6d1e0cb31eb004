/**
 * The plaintext of a sealed model, for sealing it again: opened strictly in memory, segment by segment, the next one on
 * its way while this one is being sealed. Nothing of it touches a disk. The memory is a few segments that are used
 * again and again, since shared memory that is dropped stays until the garbage collector happens to look.
 */
import { join } from 'node:path';
import type { Geometry } from '../../shared/sealed-model/format.ts';
import { OpeningPool } from '../../shared/sealed-model/opening-pool.ts';
import { fileSource, type PayloadSource } from '../../shared/sealed-model/source.ts';
import type { UnlockedHead } from '../../shared/sealed-model/unlock.ts';
import type { Plaintext } from '../plaintext.ts';

/** One being read, one before it that slower reads are not done with, one on its way. */
const SEGMENTS_HELD = 3;

export async function openedPlaintext(sealedFolder: string, unlocked: UnlockedHead): Promise<Plaintext> {
  const { head } = unlocked;
  const payload = await fileSource(join(sealedFolder, 'payload'));
  const image = new SegmentWindow(unlocked, payload);
  return {
    files: head.files.map(({ path, sizeBytes }) => ({ path, sizeBytes })),
    inputs: head.files.map(
      ({ offset, sizeBytes }): PayloadSource => ({
        sizeBytes,
        read: (at, target) => image.read(offset + at, target),
      }),
    ),
    async expectUnchanged() {}, // every byte was authenticated when it was read
    async [Symbol.asyncDispose]() {
      await image.close();
      await payload.close();
    },
  };
}

interface Slot {
  readonly buffer: SharedArrayBuffer;
  segment: number;
  opening: Promise<void>;
  isOpening: boolean;
  /** Reads that copy from it: until there is none, no other segment may take its place. */
  users: number;
}

class SegmentWindow {
  readonly #unlocked: UnlockedHead;
  readonly #payload: PayloadSource;
  readonly #geometry: Geometry;
  readonly #segmentBytes: number;
  readonly #slots: Slot[] = [];
  #pool: OpeningPool | undefined;
  /** The pool's workers share the work of one opening at a time. */
  #turn: Promise<void> = Promise.resolve();
  #change = Promise.withResolvers<void>();

  constructor(unlocked: UnlockedHead, payload: PayloadSource) {
    this.#unlocked = unlocked;
    this.#payload = payload;
    this.#geometry = unlocked.head.geometry;
    this.#segmentBytes = this.#geometry.chunkBytes * this.#geometry.chunksPerSegment;
  }

  /** `target` may reach over the end of a segment. Several reads may be under way, in any order. */
  async read(offsetBytes: number, target: Uint8Array): Promise<void> {
    if (offsetBytes + target.length > this.#geometry.payloadSizeBytes) {
      throw new RangeError('a read beyond the end of the payload');
    }
    for (let done = 0; done < target.length; ) {
      const at = offsetBytes + done;
      const segment = Math.floor(at / this.#segmentBytes);
      const slot = await this.#take(segment);
      try {
        this.#lookAhead(segment + 1);
        await slot.opening;
        const inside = at - segment * this.#segmentBytes;
        const length = Math.min(this.#segmentBytes - inside, target.length - done);
        target.set(new Uint8Array(slot.buffer, inside, length), done);
        done += length;
      } finally {
        slot.users--;
        this.#tellWaiting();
      }
    }
  }

  /** Counts the caller among the segment's users; waits while every slot has users of its own. */
  async #take(segment: number): Promise<Slot> {
    for (;;) {
      const slot = this.#slots.find((held) => held.segment === segment) ?? this.#open(segment);
      if (slot !== undefined) {
        slot.users++;
        return slot;
      }
      await this.#change.promise;
    }
  }

  #lookAhead(segment: number): void {
    const exists = segment < this.#geometry.segmentCount;
    if (exists && !this.#slots.some((held) => held.segment === segment)) this.#open(segment);
  }

  /** Undefined if no slot is free. Of those that are, the one furthest behind goes. */
  #open(segment: number): Slot | undefined {
    const free = this.#slots
      .filter(({ users, isOpening }) => users === 0 && !isOpening)
      .sort((a, b) => a.segment - b.segment)[0];
    const slot = this.#slots.length < SEGMENTS_HELD ? this.#newSlot() : free;
    if (slot === undefined) return undefined;
    slot.segment = segment;
    slot.isOpening = true;
    slot.opening = this.#turn.then(() => this.#fill(slot));
    this.#turn = slot.opening
      .catch(() => {}) // whoever reads it hears of it
      .finally(() => {
        slot.isOpening = false;
        this.#tellWaiting();
      });
    return slot;
  }

  #newSlot(): Slot {
    const sizeBytes = Math.min(this.#segmentBytes, this.#geometry.payloadSizeBytes);
    const slot: Slot = {
      buffer: new SharedArrayBuffer(sizeBytes),
      segment: -1,
      opening: Promise.resolve(),
      isOpening: false,
      users: 0,
    };
    this.#slots.push(slot);
    return slot;
  }

  async #fill({ buffer, segment }: Slot): Promise<void> {
    this.#pool ??= new OpeningPool(this.#unlocked, this.#payload, { workers: 1 }, 1);
    const firstChunk = segment * this.#geometry.chunksPerSegment;
    await this.#pool.run(
      { first: segment, end: segment + 1 },
      { kind: 'memory', buffer, firstChunk },
      true, // strictly: tags and digests
      {},
    );
  }

  #tellWaiting(): void {
    this.#change.resolve();
    this.#change = Promise.withResolvers<void>();
  }

  async close(): Promise<void> {
    await this.#turn;
    await this.#pool?.close();
    for (const { buffer } of this.#slots) new Uint8Array(buffer).fill(0);
  }
}
