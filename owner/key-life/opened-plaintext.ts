/**
 * The plaintext of a sealed model, for sealing it again: opened in memory a segment at a time, strictly, with the next
 * segment on its way while this one is being sealed. Nothing of it touches a disk, and it is wiped behind the reader.
 */
import { join } from 'node:path';
import { SealedModelReader } from '../../shared/sealed-model/reader.ts';
import { fileSource, type PayloadSource } from '../../shared/sealed-model/source.ts';
import type { UnlockedHead } from '../../shared/sealed-model/unlock.ts';
import type { Plaintext } from '../plaintext.ts';

/** Reads come in about the order of the payload, as a seal's do; a segment that was forgotten is opened again. */
const SEGMENTS_HELD = 3;

export async function openedPlaintext(sealedFolder: string, unlocked: UnlockedHead): Promise<Plaintext> {
  const { head } = unlocked;
  const payload = await fileSource(join(sealedFolder, 'payload'));
  const reader = new SealedModelReader(unlocked, payload);
  const image = new SegmentWindow(reader, head.geometry);
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
      await reader.close();
      await image.wipe();
      await payload.close();
    },
  };
}

interface Geometry {
  readonly payloadSizeBytes: number;
  readonly chunkBytes: number;
  readonly chunksPerSegment: number;
}

interface HeldSegment {
  readonly opening: Promise<Uint8Array>;
  /** Reads that have it in hand. It is wiped only when there is none: a wiped segment would be sealed as zeros. */
  users: number;
}

class SegmentWindow {
  readonly #reader: SealedModelReader;
  readonly #payloadSizeBytes: number;
  readonly #segmentBytes: number;
  /** In order of their first use. */
  readonly #held = new Map<number, HeldSegment>();

  constructor(reader: SealedModelReader, geometry: Geometry) {
    this.#reader = reader;
    this.#payloadSizeBytes = geometry.payloadSizeBytes;
    this.#segmentBytes = geometry.chunkBytes * geometry.chunksPerSegment;
  }

  /** `target` may reach over the end of a segment. Several reads may be under way. */
  async read(offsetBytes: number, target: Uint8Array): Promise<void> {
    for (let done = 0; done < target.length; ) {
      const at = offsetBytes + done;
      const segment = Math.floor(at / this.#segmentBytes);
      const held = this.#hold(segment);
      held.users++;
      try {
        this.#hold(segment + 1);
        const bytes = await held.opening;
        const part = bytes.subarray(at - segment * this.#segmentBytes).subarray(0, target.length - done);
        if (part.length === 0) throw new RangeError('a read beyond the end of the payload');
        target.set(part, done);
        done += part.length;
      } finally {
        held.users--;
        this.#forget();
      }
    }
  }

  #hold(segment: number): HeldSegment {
    const found = this.#held.get(segment);
    if (found !== undefined) return found;
    const start = segment * this.#segmentBytes;
    const length = Math.max(0, Math.min(this.#segmentBytes, this.#payloadSizeBytes - start));
    const opening = length === 0 ? Promise.resolve(new Uint8Array(0)) : this.#reader.read(start, length);
    opening.catch(() => {}); // whoever reads it hears of it
    const held = { opening, users: 0 };
    this.#held.set(segment, held);
    return held;
  }

  #forget(): void {
    for (const [segment, { opening, users }] of this.#held) {
      if (this.#held.size <= SEGMENTS_HELD) return;
      if (users > 0) continue;
      this.#held.delete(segment);
      void wiped(opening);
    }
  }

  async wipe(): Promise<void> {
    const all = [...this.#held.values()];
    this.#held.clear();
    await Promise.all(all.map(({ opening }) => wiped(opening)));
  }
}

async function wiped(opening: Promise<Uint8Array>): Promise<void> {
  await opening.then(
    (bytes) => bytes.fill(0),
    () => {},
  );
}
