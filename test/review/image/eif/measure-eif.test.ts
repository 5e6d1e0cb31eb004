import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { EifError } from '../../../../review/image/eif/errors.ts';
import { fileStream } from '../../../../review/image/eif/file-stream.ts';
import { type MeasureEifOptions, measureEif } from '../../../../review/image/eif/measure-eif.ts';
import { ThreadHashLane } from '../../../../review/image/hash-lane.ts';
import { describeWithVectors } from '../../../vectors.ts';
import { eifFile, GOOD, type HandMadeEif, KIND, part } from './eif-file.ts';

const AT = new Date('2026-01-01T00:00:00Z');
const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
const register = (...parts: readonly (string | Uint8Array)[]) => {
  const inner = createHash('sha384');
  for (const bytes of parts) inner.update(bytes);
  return createHash('sha384').update(new Uint8Array(48)).update(inner.digest()).digest('hex');
};
const measure = (file: Uint8Array, options: Partial<MeasureEifOptions> = {}) =>
  measureEif([file], { at: AT, ...options });

async function codeOf(file: Uint8Array): Promise<string> {
  try {
    await measure(file);
    return 'accepted';
  } catch (error) {
    if (!(error instanceof EifError)) throw error;
    expect(error.exitCode).toBe(2);
    return error.code;
  }
}

describe('an image file', () => {
  it('is measured: kernel, command line and ramdisks, never metadata or headers', async () => {
    const { measurements, commandLine, unmeasuredMetadata, header, signature } = await measure(
      eifFile({ sections: GOOD }),
    );
    expect(hex(measurements.pcr0)).toBe(register('a kernel', 'console=ttyS0', 'bootstrap', 'application'));
    expect(hex(measurements.pcr1)).toBe(register('a kernel', 'console=ttyS0', 'bootstrap'));
    expect(hex(measurements.pcr2)).toBe(register('application'));
    expect(hex(measurements.pcr8)).toBe('00'.repeat(48));
    expect(commandLine).toBe('console=ttyS0');
    expect({ ...unmeasuredMetadata }).toEqual({ ImageName: 'test' });
    expect(header.architecture).toBe('x86_64');
    expect(signature).toBeUndefined();
  });

  it('measures the same whole, in pieces and byte by byte', async () => {
    const file = eifFile({ sections: GOOD });
    const whole = await measure(file);
    function* pieces(size: number) {
      for (let at = 0; at < file.length; at += size) yield file.subarray(at, at + size);
    }
    for (const size of [1, 7, 547, 548, 549]) {
      expect(await measureEif(pieces(size), { at: AT })).toEqual(whole);
    }
    expect(await measureEif([new Uint8Array(), file, new Uint8Array()], { at: AT })).toEqual(whole);
  });

  it('measures the same with a second thread', async () => {
    const big = Buffer.alloc(3_000_001, 'weights');
    const file = eifFile({ sections: [...GOOD, part('ramdisk', big)] });
    const alone = await measure(file);
    expect(await measure(file, { threadFromBytes: 0 })).toEqual(alone);
    expect(hex(alone.measurements.pcr2)).toBe(register('application', big));
  });

  it('measures whatever metadata says to the same registers', async () => {
    const other = GOOD.map((section) =>
      section.kind === KIND.metadata ? part('metadata', '{"ImageName":"another"}') : section,
    );
    const { measurements } = await measure(eifFile({ sections: other }));
    expect(measurements).toEqual((await measure(eifFile({ sections: GOOD }))).measurements);
  });

  it('of version 2 or 3 needs no metadata, and is measured', async () => {
    const sections = GOOD.filter(({ kind }) => kind !== KIND.metadata);
    for (const version of [2, 3]) {
      const { unmeasuredMetadata } = await measure(eifFile({ version, sections }));
      expect(unmeasuredMetadata).toBeUndefined();
    }
  });

  it('of a gigabyte is no matter of memory: a long ramdisk is never held', async () => {
    const slab = Buffer.alloc(1 << 20, 1);
    const slabs = 48;
    const shape = eifFile({ sections: [...GOOD, part('ramdisk', slab)] });
    const sizes = 0x11c + 8 * GOOD.length;
    shape.writeBigUInt64BE(BigInt(slabs * slab.length), sizes);
    const sectionHeader = shape.length - slab.length - 8;
    shape.writeBigUInt64BE(BigInt(slabs * slab.length), sectionHeader);
    function* file() {
      yield shape.subarray(0, shape.length - slab.length);
      for (let count = 0; count < slabs; count++) yield slab;
    }
    let largest = 0;
    const before = process.memoryUsage().arrayBuffers;
    const measured = measureEif(file(), {
      at: AT,
      onProgress: () => {
        largest = Math.max(largest, process.memoryUsage().arrayBuffers - before);
      },
    });
    // The checksum of this file was never made; everything before it was read.
    await expect(measured).rejects.toMatchObject({ code: 'EIF_CRC' });
    expect(largest).toBeLessThan(16 << 20);
  });
});

describe('an image file is refused', () => {
  const without = (kind: number) => GOOD.filter((section) => section.kind !== kind);
  const swap = (first: number, second: number) =>
    GOOD.map(
      (section, index) => GOOD[index === first ? second : index === second ? first : index] ?? section,
    );
  const replaced = (kind: keyof typeof KIND, data: string | Uint8Array) =>
    GOOD.map((section) => (section.kind === KIND[kind] ? part(kind, data) : section));
  const cases: readonly (readonly [string, HandMadeEif, string])[] = [
    ['that begins otherwise', { sections: GOOD, header: (h) => h.write('.elf', 0) }, 'EIF_NOT_AN_IMAGE'],
    ['of version 0', { version: 0, sections: GOOD }, 'EIF_VERSION'],
    ['of version 5', { version: 5, sections: GOOD }, 'EIF_VERSION'],
    ['with an unknown flag', { flags: 2, sections: GOOD }, 'EIF_HEADER'],
    ['with a reserved field', { sections: GOOD, header: (h) => h.writeUInt16BE(1, 0x18) }, 'EIF_HEADER'],
    [
      'with the unused field used',
      { sections: GOOD, header: (h) => h.writeUInt32BE(1, 0x21c) },
      'EIF_HEADER',
    ],
    ['of 33 sections', { sections: [...GOOD, ...Array(28).fill(part('ramdisk', 'r'))] }, 'EIF_SECTIONS'],
    [
      'whose table has an offset more',
      { sections: GOOD, header: (h) => h.writeUInt8(1, 0x11b) },
      'EIF_TABLES',
    ],
    ['whose table has a size more', { sections: GOOD, header: (h) => h.writeUInt8(1, 0x21b) }, 'EIF_TABLES'],
    [
      'whose offsets skip over a gap',
      { sections: GOOD, header: (h) => h.writeBigUInt64BE(1000n, 0x1c + 8) },
      'EIF_TABLES',
    ],
    [
      'whose tables swap two ramdisks for a loader that looks up',
      {
        sections: GOOD,
        header: (h) => {
          const [third, fourth] = [h.readBigUInt64BE(0x1c + 24), h.readBigUInt64BE(0x1c + 32)];
          h.writeBigUInt64BE(fourth, 0x1c + 24);
          h.writeBigUInt64BE(third, 0x1c + 32);
        },
      },
      'EIF_TABLES',
    ],
    [
      'whose section has more bytes than the table says',
      { sections: GOOD.map((section, at) => (at === 3 ? { ...section, saysBytes: 2n ** 63n } : section)) },
      'EIF_TABLES',
    ],
    [
      'whose size no memory holds',
      { sections: GOOD, header: (h) => h.writeBigUInt64BE(2n ** 63n, 0x11c + 32) },
      'EIF_LIMIT',
    ],
    ['with flags on a section', { sections: GOOD.map((s) => ({ ...s, flags: 1 })) }, 'EIF_HEADER'],
    [
      'with a section of unknown kind',
      { sections: [...GOOD, { ...part('ramdisk', 'x'), kind: 6 }] },
      'EIF_SECTIONS',
    ],
    ['without a kernel', { sections: without(KIND.kernel) }, 'EIF_SECTIONS'],
    ['without a command line', { sections: without(KIND.cmdline) }, 'EIF_SECTIONS'],
    ['without a ramdisk', { sections: without(KIND.ramdisk) }, 'EIF_SECTIONS'],
    ['of version 4 without metadata', { sections: without(KIND.metadata) }, 'EIF_SECTIONS'],
    ['of version 3 with metadata', { version: 3, sections: GOOD }, 'EIF_SECTIONS'],
    ['with two kernels', { sections: [...GOOD, part('kernel', 'k')] }, 'EIF_SECTIONS'],
    ['with two command lines', { sections: [...GOOD, part('cmdline', 'c')] }, 'EIF_SECTIONS'],
    ['with two of metadata', { sections: [...GOOD, part('metadata', '{}')] }, 'EIF_SECTIONS'],
    ['with the command line first', { sections: swap(0, 1) }, 'EIF_SECTIONS'],
    ['with a ramdisk before the kernel', { sections: swap(0, 3) }, 'EIF_SECTIONS'],
    ['with a ramdisk before the command line', { sections: swap(1, 3) }, 'EIF_SECTIONS'],
    ['with an empty kernel', { sections: replaced('kernel', '') }, 'EIF_SECTIONS'],
    ['with an empty ramdisk', { sections: [...GOOD, part('ramdisk', '')] }, 'EIF_SECTIONS'],
    ['with an endless command line', { sections: replaced('cmdline', 'c'.repeat(4097)) }, 'EIF_LIMIT'],
    ['with a NUL in the command line', { sections: replaced('cmdline', 'a\0b') }, 'EIF_COMMAND_LINE'],
    [
      'with a command line that is no text',
      { sections: replaced('cmdline', Buffer.of(0xff)) },
      'EIF_COMMAND_LINE',
    ],
    [
      'with metadata of a megabyte',
      { sections: replaced('metadata', Buffer.alloc(1048577, ' ')) },
      'EIF_LIMIT',
    ],
    ['with metadata that is a list', { sections: replaced('metadata', '[]') }, 'EIF_METADATA'],
    ['with a member of metadata twice', { sections: replaced('metadata', '{"a":1,"a":2}') }, 'EIF_METADATA'],
    ['with a wrong checksum', { sections: GOOD, crc: 1 }, 'EIF_CRC'],
    ['with one byte after it', { sections: GOOD, trailing: Buffer.of(0) }, 'EIF_TRAILING_BYTES'],
  ];
  it.each(cases)('%s', async (_, hostile, code) => {
    expect(await codeOf(eifFile(hostile))).toBe(code);
  });

  it('at any length shorter than its own', async () => {
    const file = eifFile({ sections: GOOD });
    for (let length = 0; length < file.length; length += 13) {
      expect(await codeOf(file.subarray(0, length))).toBe('EIF_TRUNCATED');
    }
  });

  it('if any one bit of it is changed, but for the two unused numbers and flags that fit', async () => {
    const file = eifFile({ sections: GOOD });
    await fc.assert(
      fc.asyncProperty(fc.nat({ max: file.length - 1 }), fc.nat({ max: 7 }), async (at, bit) => {
        const changed = Buffer.from(file);
        changed.writeUInt8((file[at] as number) ^ (1 << bit), at);
        expect(await codeOf(changed)).not.toBe('accepted');
      }),
      { numRuns: 300 },
    );
  });

  it('without anything but an EifError, whatever it holds', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.record({ kind: fc.nat({ max: 6 }), data: fc.uint8Array({ maxLength: 40 }) }), {
          maxLength: 8,
        }),
        fc.nat({ max: 5 }),
        async (sections, version) => void (await codeOf(eifFile({ version, sections }))),
      ),
      { numRuns: 200 },
    );
  });

  it('lets go of its source at once', async () => {
    let closed = false;
    async function* source() {
      try {
        yield Buffer.alloc(548);
        yield Buffer.alloc(1);
      } finally {
        closed = true;
      }
    }
    await expect(measureEif(source(), { at: AT })).rejects.toThrow(EifError);
    expect(closed).toBe(true);
  });
});

describe('a hash lane of its own thread', () => {
  it('gives the digest so far, and goes on', async () => {
    const lane = new ThreadHashLane();
    const text = Buffer.alloc(5 << 20, 'abc');
    await lane.update(text);
    expect(hex(await lane.digestSoFar())).toBe(createHash('sha384').update(text).digest('hex'));
    await lane.update(Buffer.from('d'));
    expect(hex(await lane.digestSoFar())).toBe(createHash('sha384').update(text).update('d').digest('hex'));
    await lane.close();
  });
});

describeWithVectors('the published images', (folder) => {
  interface Vector {
    readonly file: string;
    readonly expected: string;
    readonly pcrs: Readonly<Record<string, string>> | null;
  }
  const { files } = JSON.parse(readFileSync(join(folder, 'eif', 'manifest.json'), 'utf8')) as {
    files: readonly Vector[];
  };

  it.each(files)('$file: $expected', async ({ file, expected, pcrs }) => {
    const measured = measureEif(fileStream(join(folder, 'eif', file)), { at: AT });
    if (expected === 'reject') {
      await expect(measured).rejects.toMatchObject({ name: 'EifError', exitCode: 2 });
      return;
    }
    const { measurements, signature } = await measured;
    expect(hex(measurements.pcr0)).toBe(pcrs?.PCR0);
    expect(hex(measurements.pcr1)).toBe(pcrs?.PCR1);
    expect(hex(measurements.pcr2)).toBe(pcrs?.PCR2);
    expect(hex(measurements.pcr8)).toBe(pcrs?.PCR8 ?? '00'.repeat(48));
    expect(signature?.algorithm).toBe(expected.includes('signature') ? 'ES384' : undefined);
  });
});
