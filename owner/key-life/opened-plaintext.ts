/**
 * The plaintext of a sealed model, for sealing it again: opened in memory a segment at a time, strictly, with the next
 * segment on its way while this one is being sealed. Nothing of it touches a disk, and it is wiped behind the reader.
 */
import { join } from 'node:path';
import { SealedModelReader } from '../../shared/sealed-model/reader.ts';
import { fileSource, type PayloadSource } from '../../shared/sealed-model/source.ts';
import type { UnlockedHead } from '../../shared/sealed-model/unlock.ts';
import type { Plaintext } from '../plaintext.ts';

/** Reads must come in about the order of the payload, as a seal's do: older segments are forgotten. */
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

class SegmentWindow {
  readonly #reader: SealedModelReader;
  readonly #payloadSizeBytes: number;
  readonly #segmentBytes: number;
  /** In order of their first use. */
  readonly #segments = new Map<number, Promise<Uint8Array>>();

  constructor(reader: SealedModelReader, geometry: Geometry) {
    this.#reader = reader;
    this.#payloadSizeBytes = geometry.payloadSizeBytes;
    this.#segmentBytes = geometry.chunkBytes * geometry.chunksPerSegment;
  }

  /** `target` may reach over the end of a segment. */
  async read(offsetBytes: number, target: Uint8Array): Promise<void> {
    for (let done = 0; done < target.length; ) {
      const at = offsetBytes + done;
      const segment = Math.floor(at / this.#segmentBytes);
      const opening = this.#open(segment);
      this.#open(segment + 1).catch(() => {}); // whoever reads it hears of it
      const bytes = await opening;
      const part = bytes.subarray(at - segment * this.#segmentBytes).subarray(0, target.length - done);
      target.set(part, done);
      done += part.length;
    }
  }

  #open(segment: number): Promise<Uint8Array> {
    const held = this.#segments.get(segment);
    if (held !== undefined) return held;
    const start = segment * this.#segmentBytes;
    const length = Math.max(0, Math.min(this.#segmentBytes, this.#payloadSizeBytes - start));
    const opening = length === 0 ? Promise.resolve(new Uint8Array(0)) : this.#reader.read(start, length);
    this.#segments.set(segment, opening);
    for (const [oldest, bytes] of this.#segments) {
      if (this.#segments.size <= SEGMENTS_HELD) break;
      this.#segments.delete(oldest);
      void wiped(bytes);
    }
    return opening;
  }

  async wipe(): Promise<void> {
    await Promise.all([...this.#segments.values()].map(wiped));
    this.#segments.clear();
  }
}

async function wiped(opening: Promise<Uint8Array>): Promise<void> {
  await opening.then(
    (bytes) => bytes.fill(0),
    () => {},
  );
}
