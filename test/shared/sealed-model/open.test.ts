import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { openSealedModel } from '../../../shared/sealed-model/open.ts';
import { openTagsOnly } from '../../../shared/sealed-model/open-tags-only.ts';
import { startOpeningThreads } from '../../../shared/sealed-model/opening-threads.ts';
import { SealedModelReader, wipeAndFree } from '../../../shared/sealed-model/reader.ts';
import { fileSource, memorySource, type PayloadSource } from '../../../shared/sealed-model/source.ts';
import { UnlockedHead, unlockHead } from '../../../shared/sealed-model/unlock.ts';
import { bytesOf, remote, SMALL, sealBytes, sealFiles, type TestSeal } from './seals.ts';

let folder = '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'strongroom-open-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function openInto(seal: TestSeal, source: PayloadSource, options = {}): Promise<Uint8Array> {
  using unlocked = unlockHead(seal.head, seal.dataKey);
  const buffer = new SharedArrayBuffer(seal.head.payloadSizeBytes);
  try {
    await openSealedModel(unlocked, source, { kind: 'memory', buffer }, { workers: 2, ...options });
  } catch (error) {
    expect(new Uint8Array(buffer).every((byte) => byte === 0)).toBe(true);
    throw error;
  }
  return new Uint8Array(buffer);
}

const flipAt = (at: number) => (offset: number, target: Uint8Array) => {
  if (offset <= at && at < offset + target.length) target[at - offset] = (target[at - offset] as number) ^ 1;
};

describe('opening gives back what was sealed', () => {
  it('from memory, a file and a remote source, into memory and files', async () => {
    const files = { 'a/config.json': bytesOf(700), 'a/empty': bytesOf(0), 'weights.onnx': bytesOf(5000) };
    const seal = await sealFiles(files);
    const payloadFile = join(folder, 'payload');
    writeFileSync(payloadFile, new Uint8Array(seal.payload));
    await using onDisk = await fileSource(payloadFile);
    for (const source of [memorySource(seal.payload), onDisk, remote(seal.payload)]) {
      expect(Buffer.compare(await openInto(seal, source), seal.image)).toBe(0);

      using unlocked = unlockHead(seal.head, seal.dataKey);
      const paths = seal.head.files.map((_, index) => join(folder, `opened-${index}`));
      const fds = paths.map((path) => openSync(path, 'w+'));
      await openSealedModel(unlocked, source, { kind: 'files', fds });
      for (const fd of fds) closeSync(fd);
      for (const [index, { path }] of seal.head.files.entries()) {
        const opened = readFileSync(paths[index] as string);
        expect(Buffer.compare(opened, files[path as keyof typeof files]), path).toBe(0);
      }
    }
  });

  it('for any files, any allowed sizes and any number of threads', async () => {
    const cases = fc.record({
      lengths: fc.array(fc.integer({ min: 0, max: 6000 }), { minLength: 1, maxLength: 4 }),
      chunkLog2: fc.integer({ min: 8, max: 10 }),
      segmentExtra: fc.integer({ min: 0, max: 3 }),
      epochExtra: fc.integer({ min: 0, max: 2 }),
      workers: fc.integer({ min: 1, max: 3 }),
      direct: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(cases, async ({ lengths, chunkLog2, segmentExtra, epochExtra, workers, direct }) => {
        const segmentLog2 = chunkLog2 + segmentExtra;
        const sizes = { chunkLog2, segmentLog2, epochLog2: segmentLog2 + epochExtra };
        const files = Object.fromEntries(lengths.map((length, index) => [`f${index}`, bytesOf(length)]));
        const seal = await sealFiles(files, { sizes });
        const source = direct ? memorySource(seal.payload) : remote(seal.payload);
        expect(Buffer.compare(await openInto(seal, source, { workers }), seal.image)).toBe(0);
      }),
      { numRuns: 30 },
    );
    // Every run starts threads of its own.
  }, 120_000);

  it('at production sizes, across a segment', async () => {
    const seal = await sealBytes(bytesOf((64 << 20) + 12_345), {
      sizes: { chunkLog2: 20, segmentLog2: 26, epochLog2: 36 },
    });
    const progress: number[] = [];
    const opened = await openInto(seal, remote(seal.payload), {
      onProgress: (done: number) => progress.push(done),
    });
    expect(Buffer.compare(opened, seal.image)).toBe(0);
    expect(progress.at(-1)).toBe(seal.image.length);
  });

  it('with threads that were started beforehand, and those end with the opening', async () => {
    const seal = await sealBytes(bytesOf(3000));
    const workers = startOpeningThreads(2);
    expect(Buffer.compare(await openInto(seal, remote(seal.payload), { workers }), seal.image)).toBe(0);
    await expect(openInto(seal, remote(seal.payload), { workers })).rejects.toThrow(/served an opening/);
  });
});

describe('a damaged chunk', () => {
  it('is fetched again and the opening goes on, whichever source can mend', async () => {
    const seal = await sealBytes(bytesOf(5000));
    let left = 3;
    const reads: number[] = [];
    const source = remote(seal.payload, (offset, target) => {
      reads.push(offset);
      if (offset === 256 * 9 && left-- > 0) flipAt(offset)(offset, target);
    });
    expect(Buffer.compare(await openInto(seal, source), seal.image)).toBe(0);
    expect(reads.filter((offset) => offset === 256 * 9)).toHaveLength(4);
    expect(reads).toHaveLength(20 + 3);
  });

  it('is fetched a bounded number of times, then everything is refused and wiped', async () => {
    const seal = await sealBytes(bytesOf(5000));
    let reads = 0;
    const source = remote(seal.payload, (offset, target) => {
      if (offset === 256 * 9) reads++;
      flipAt(256 * 9 + 7)(offset, target);
    });
    await expect(openInto(seal, source, { refetchLimit: 2 })).rejects.toMatchObject({
      code: 'SEALED_CHUNK_REFUSED',
      message: expect.stringContaining('Chunk 9 '),
    });
    expect(reads).toBe(3);
  });

  it('is refused wherever the damage is', async () => {
    const seal = await sealBytes(bytesOf(3000));
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 0, max: 2999 }), async (at) => {
        const source = remote(seal.payload, flipAt(at));
        await expect(openInto(seal, source, { refetchLimit: 0, workers: 1 })).rejects.toMatchObject({
          code: 'SEALED_CHUNK_REFUSED',
        });
      }),
      { numRuns: 12 },
    );
  });

  it('leaves no plaintext in the files that it was opened into', async () => {
    const seal = await sealBytes(bytesOf(5000));
    const path = join(folder, 'refused');
    const fd = openSync(path, 'w+');
    using unlocked = unlockHead(seal.head, seal.dataKey);
    const source = remote(seal.payload, flipAt(4999));
    await expect(
      openSealedModel(unlocked, source, { kind: 'files', fds: [fd] }, { workers: 1 }),
    ).rejects.toMatchObject({ code: 'SEALED_CHUNK_REFUSED' });
    closeSync(fd);
    expect(readFileSync(path)).toHaveLength(0);
  });
});

describe('a source that fails', () => {
  it('is asked again, a bounded number of times', async () => {
    const seal = await sealBytes(bytesOf(3000));
    let failures = 2;
    const flaky = remote(seal.payload, () => {
      if (failures-- > 0) throw new Error('connection reset');
    });
    expect(Buffer.compare(await openInto(seal, flaky), seal.image)).toBe(0);
    const dead = remote(seal.payload, () => {
      throw new Error('connection refused');
    });
    await expect(openInto(seal, dead)).rejects.toMatchObject({
      code: 'SEALED_SOURCE_FAILED',
      message: expect.stringContaining('connection refused'),
    });
  });

  it('never ends: the opening stops when it is aborted', async () => {
    const seal = await sealBytes(bytesOf(3000));
    const source = remote(seal.payload, () => new Promise<void>(() => {}));
    const signal = AbortSignal.timeout(50);
    await expect(openInto(seal, source, { signal })).rejects.toMatchObject({ code: 'SEALED_ABORTED' });
    await expect(openInto(seal, source, { signal })).rejects.toMatchObject({ code: 'SEALED_ABORTED' });
  });

  it('answers in any order and pace', async () => {
    const seal = await sealBytes(bytesOf(9000));
    const source = remote(
      seal.payload,
      (offset) => new Promise<void>((resolve) => setTimeout(resolve, (offset * 7) % 5)),
    );
    expect(Buffer.compare(await openInto(seal, source), seal.image)).toBe(0);
  });
});

describe('the target', () => {
  it('must have the exact size, one regular file per file, and be writable', async () => {
    const seal = await sealBytes(bytesOf(300));
    using unlocked = unlockHead(seal.head, seal.dataKey);
    const source = memorySource(seal.payload);
    const path = join(folder, 'read-only');
    writeFileSync(path, '');
    const readOnly = openSync(path, 'r');
    const device = openSync('/dev/null', 'r+');
    const full = openSync('/dev/full', 'r+');
    const targets = [
      { kind: 'memory', buffer: new SharedArrayBuffer(299) },
      { kind: 'files', fds: [] },
      { kind: 'files', fds: [device] },
      { kind: 'files', fds: [full] },
    ] as const;
    for (const target of targets) {
      await expect(openSealedModel(unlocked, source, target)).rejects.toMatchObject({
        code: 'SEALED_TARGET_UNUSABLE',
      });
    }
    await expect(openSealedModel(unlocked, source, { kind: 'files', fds: [readOnly] })).rejects.toThrow();
    for (const fd of [readOnly, device, full]) closeSync(fd);
  });
});

describe('an unlocked head', () => {
  it('opens nothing once its keys are wiped', async () => {
    const seal = await sealBytes(bytesOf(300));
    const unlocked = unlockHead(seal.head, seal.dataKey);
    unlocked.wipe();
    const target = { kind: 'memory', buffer: new SharedArrayBuffer(300) } as const;
    await expect(openSealedModel(unlocked, memorySource(seal.payload), target)).rejects.toMatchObject({
      code: 'SEALED_HEAD_LOCKED',
    });
  });

  it('cannot be made by anyone but unlockHead', async () => {
    const seal = await sealBytes(bytesOf(300));
    expect(() => new UnlockedHead(Symbol('forged'), seal.head, new SharedArrayBuffer(32))).toThrow(
      expect.objectContaining({ code: 'SEALED_HEAD_LOCKED' }),
    );
    const lookAlike = Object.create(UnlockedHead.prototype, { head: { value: seal.head } }) as UnlockedHead;
    const target = { kind: 'memory', buffer: new SharedArrayBuffer(300) } as const;
    await expect(openSealedModel(lookAlike, memorySource(seal.payload), target)).rejects.toMatchObject({
      code: 'SEALED_HEAD_LOCKED',
    });
  });
});

describe('random access', () => {
  it('reads any range, authenticated, in any order', async () => {
    const seal = await sealFiles({ a: bytesOf(700), b: bytesOf(4000) }, { sizes: SMALL });
    const size = seal.image.length;
    using unlocked = unlockHead(seal.head, seal.dataKey);
    for (const source of [memorySource(seal.payload), remote(seal.payload)]) {
      await using reader = new SealedModelReader(unlocked, source, { workers: 2 });
      const range = fc.tuple(fc.integer({ min: 0, max: size }), fc.integer({ min: 0, max: size }));
      await fc.assert(
        fc.asyncProperty(range, async ([a, b]) => {
          const [start, end] = [Math.min(a, b), Math.max(a, b)];
          const read = await reader.read(start, end - start);
          expect(Buffer.compare(read, seal.image.subarray(start, end))).toBe(0);
        }),
        { numRuns: 60 },
      );
    }
  });

  it('refuses ranges that a tampered segment touches, and still reads the others', async () => {
    const seal = await sealBytes(bytesOf(4096));
    using unlocked = unlockHead(seal.head, seal.dataKey);
    // The flipped byte is outside the range that is asked for, but in its segment.
    await using reader = new SealedModelReader(unlocked, remote(seal.payload, flipAt(2047)), { workers: 2 });
    await expect(reader.read(1030, 5)).rejects.toMatchObject({ code: 'SEALED_CHUNK_REFUSED' });
    expect(Buffer.compare(await reader.read(10, 1000), seal.image.subarray(10, 1010))).toBe(0);
    await expect(reader.read(1000, 30)).rejects.toMatchObject({ code: 'SEALED_CHUNK_REFUSED' });
    expect(Buffer.compare(await reader.read(2048, 2048), seal.image.subarray(2048))).toBe(0);
  });

  it('takes no more memory for many reads than for one', async () => {
    const seal = await sealBytes(bytesOf(20 * 1024));
    using unlocked = unlockHead(seal.head, seal.dataKey);
    await using reader = new SealedModelReader(unlocked, memorySource(seal.payload), { workers: 1 });
    await reader.read(0, 1024);
    const allocate = vi.spyOn(globalThis, 'SharedArrayBuffer');
    try {
      for (let segment = 1; segment < 20; segment++) {
        const read = await reader.read(segment * 1024, 1024);
        expect(Buffer.compare(read, seal.image.subarray(segment * 1024, (segment + 1) * 1024))).toBe(0);
        wipeAndFree(read);
        expect(read.buffer.detached).toBe(true);
      }
      expect(allocate).not.toHaveBeenCalled();
    } finally {
      allocate.mockRestore();
    }
  });

  it('refuses ranges outside the model', async () => {
    const seal = await sealBytes(bytesOf(100));
    using unlocked = unlockHead(seal.head, seal.dataKey);
    await using reader = new SealedModelReader(unlocked, memorySource(seal.payload));
    for (const [offset, length] of [
      [0, 101],
      [100, 1],
      [-1, 1],
      [0.5, 1],
      [0, -1],
      [Number.NaN, 1],
    ] as const) {
      await expect(reader.read(offset, length)).rejects.toMatchObject({ code: 'SEALED_RANGE_INVALID' });
    }
    expect(await reader.read(100, 0)).toHaveLength(0);
  });
});

describe('tags alone', () => {
  it('open the same plaintext', async () => {
    const seal = await sealBytes(bytesOf(5000));
    using unlocked = unlockHead(seal.head, seal.dataKey);
    const buffer = new SharedArrayBuffer(5000);
    await openTagsOnly(unlocked, memorySource(seal.payload), { kind: 'memory', buffer });
    expect(Buffer.compare(new Uint8Array(buffer), seal.image)).toBe(0);
  });
});
