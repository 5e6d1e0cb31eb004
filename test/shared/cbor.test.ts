import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import * as cbor2 from 'cbor2';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type CborLimits, type CborValue, decodeCbor, encodeCbor } from '../../shared/cbor.ts';
import { scanCbor } from '../../shared/codec/cbor-scan.ts';
import { codeOf } from '../../shared/errors.ts';

const hex = (text: string) => new Uint8Array(Buffer.from(text.replaceAll(' ', ''), 'hex'));
const text = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
const code = (bytes: Uint8Array, limits?: Partial<CborLimits>): string | undefined => {
  try {
    decodeCbor(bytes, limits);
    return undefined;
  } catch (error) {
    return codeOf(error) ?? `not ours: ${String(error)}`;
  }
};

describe('reading CBOR', () => {
  it.each<[string, CborValue]>([
    ['00', 0],
    ['17', 23],
    ['18 18', 24],
    ['19 0100', 256],
    ['1a 00010000', 65_536],
    ['1b 0000000100000000', 4_294_967_296],
    ['1b 001fffffffffffff', Number.MAX_SAFE_INTEGER],
    ['1b 0020000000000000', 9_007_199_254_740_992n],
    ['1b ffffffffffffffff', 18_446_744_073_709_551_615n],
    ['20', -1],
    ['3a ffffffff', -4_294_967_296],
    ['3b 001ffffffffffffe', Number.MIN_SAFE_INTEGER],
    ['3b ffffffffffffffff', -18_446_744_073_709_551_616n],
    ['40', new Uint8Array(0)],
    ['43 010203', Uint8Array.of(1, 2, 3)],
    ['60', ''],
    ['64 f09f9490', '🔐'],
    ['80', []],
    ['9f 01 02 ff', [1, 2]],
    ['a0', new Map()],
    ['bf 61 61 01 ff', new Map([['a', 1]])],
    [
      'a2 00 f4 20 f5',
      new Map([
        [0, false],
        [-1, true],
      ]),
    ],
    ['f6', null],
  ])('%s', (bytes, value) => {
    expect(decodeCbor(hex(bytes))).toEqual(value);
  });

  it('gives byte strings as views of the input and plain Uint8Arrays, whatever it was handed', () => {
    const input = Buffer.from('43010203', 'hex');
    const value = decodeCbor(input) as Uint8Array;
    expect(value.buffer).toBe(input.buffer);
    expect(Buffer.isBuffer(value)).toBe(false);
    expect(Object.keys(input)).not.toContain('dataView');
  });

  it.each([
    ['nothing', '', 'CBOR_MALFORMED'],
    ['a second item', '00 00', 'CBOR_TRAILING_BYTES'],
    ['a byte after an indefinite map', 'bf ff 00', 'CBOR_TRAILING_BYTES'],
    ['a head that ends early', '19 01', 'CBOR_MALFORMED'],
    ['a string that ends early', '42 01', 'CBOR_MALFORMED'],
    ['a string of 2^64 - 1 bytes', '5b ffffffffffffffff', 'CBOR_MALFORMED'],
    ['an array that ends early', '82 00', 'CBOR_MALFORMED'],
    ['an array of 2^64 - 1 items', '9b ffffffffffffffff', 'CBOR_MALFORMED'],
    ['a map of 2^63 pairs, which overflows', 'bb 8000000000000000', 'CBOR_MALFORMED'],
    ['a map that ends after a key', 'a1 00', 'CBOR_MALFORMED'],
    ['a reserved initial byte', '1c', 'CBOR_MALFORMED'],
    ['an indefinite integer', '1f', 'CBOR_MALFORMED'],
    ['an indefinite tag', 'df 00', 'CBOR_MALFORMED'],
    ['a byte string in chunks', '5f 41 01 ff', 'CBOR_REFUSED'],
    ['text in chunks', '7f 61 61 ff', 'CBOR_REFUSED'],
    ['a break on its own', 'ff', 'CBOR_MALFORMED'],
    ['a break that ends a definite array', '82 00 ff', 'CBOR_MALFORMED'],
    ['a break that ends a definite map', 'a2 00 00 ff', 'CBOR_MALFORMED'],
    ['a break between key and value', 'bf 00 ff', 'CBOR_MALFORMED'],
    ['a missing break', '9f 00', 'CBOR_MALFORMED'],
    ['a tag', 'c0 00', 'CBOR_REFUSED'],
    ['a tag inside', '81 d2 00', 'CBOR_REFUSED'],
    ['a bignum, which is a tag', 'c2 41 01', 'CBOR_REFUSED'],
    ['a half float', 'f9 3c00', 'CBOR_REFUSED'],
    ['a single float', 'fa 3f800000', 'CBOR_REFUSED'],
    ['a double float', 'fb 3ff0000000000000', 'CBOR_REFUSED'],
    ['undefined', 'f7', 'CBOR_REFUSED'],
    ['an unassigned simple value', 'e0', 'CBOR_REFUSED'],
    ['a simple value in two bytes', 'f8 ff', 'CBOR_REFUSED'],
    ['text that is not UTF-8', '61 ff', 'CBOR_MALFORMED'],
    ['text with an encoded surrogate', '63 eda080', 'CBOR_MALFORMED'],
    ['text in an overlong form', '62 c0af', 'CBOR_MALFORMED'],
    ['text that begins with a byte order mark', '64 efbbbf61', 'CBOR_REFUSED'],
    ['a byte string as a key', 'a1 40 00', 'CBOR_REFUSED'],
    ['an array as a key', 'a1 80 00', 'CBOR_REFUSED'],
    ['null as a key', 'a1 f6 00', 'CBOR_REFUSED'],
    ['a duplicate text key', 'a2 61 61 00 61 61 01', 'CBOR_DUPLICATE_KEY'],
    ['a duplicate integer key', 'a2 00 00 00 01', 'CBOR_DUPLICATE_KEY'],
    ['a duplicate negative key', 'a2 20 00 20 01', 'CBOR_DUPLICATE_KEY'],
    ['a duplicate key in an indefinite map', 'bf 00 00 00 01 ff', 'CBOR_DUPLICATE_KEY'],
    ['an integer longer than needed', '18 17', 'CBOR_NOT_MINIMAL'],
    ['an 8-byte integer that fits 4', '1b 00000000ffffffff', 'CBOR_NOT_MINIMAL'],
    ['a length longer than needed', '58 01 00', 'CBOR_NOT_MINIMAL'],
    ['a count longer than needed', '98 00', 'CBOR_NOT_MINIMAL'],
  ])('refuses %s', (_what, bytes, expected) => {
    expect(code(hex(bytes))).toBe(expected);
  });

  it('tells an integer key from the text of the same digits, and 0 from -1', () => {
    expect((decodeCbor(hex('a3 00 00 20 01 61 30 02')) as Map<CborValue, CborValue>).size).toBe(3);
  });

  it('sees one key in two widths as a duplicate where long heads are accepted', () => {
    expect(code(hex('a2 00 00 1800 01'), { nonMinimal: 'accept' })).toBe('CBOR_DUPLICATE_KEY');
    expect(code(hex('a2 61 61 00 7801 61 01'), { nonMinimal: 'accept' })).toBe('CBOR_DUPLICATE_KEY');
    expect(decodeCbor(hex('1b 0000000000000005'), { nonMinimal: 'accept' })).toBe(5);
  });

  it('accepts the one outer tag that the caller names, and only around the whole', () => {
    expect(decodeCbor(hex('d2 81 00'), { outerTag: 18 })).toEqual([0]);
    expect(decodeCbor(hex('81 00'), { outerTag: 18 })).toEqual([0]);
    expect(code(hex('d8 62 81 00'), { outerTag: 18 })).toBe('CBOR_REFUSED');
    expect(code(hex('d2 d2 81 00'), { outerTag: 18 })).toBe('CBOR_REFUSED');
    expect(code(hex('d8 12 81 00'), { outerTag: 18 })).toBe('CBOR_NOT_MINIMAL');
    expect(code(hex('d2'), { outerTag: 18 })).toBe('CBOR_MALFORMED');
  });

  it('has its breaks checked by the scan alone, before cbor-x meets them', () => {
    const limits = {
      maxBytes: 9,
      maxDepth: 9,
      maxItems: 9,
      outerTag: undefined,
      nonMinimal: 'refuse',
    } as const;
    expect(() => scanCbor(hex('bf 00 ff'), limits)).toThrowError(/a break where nothing ends/);
    expect(scanCbor(hex('bf 00 00 ff'), limits)).toBe(0);
  });

  it('is not led astray by text that cbor-x takes for a break', () => {
    const trap = Buffer.from('[object Object]').toString('hex');
    expect(code(hex(`bf 61 78 bf 6f ${trap} 61 76 ff ff`))).toBe('CBOR_MALFORMED');
    expect(code(hex(`9f 6f ${trap} 00 ff`))).toBe('CBOR_MALFORMED');
    expect(decodeCbor(hex(`81 6f ${trap}`))).toEqual(['[object Object]']);
  });

  it('bounds size, depth and number of items', () => {
    expect(code(new Uint8Array(65_537))).toBe('CBOR_LIMIT');
    expect(code(hex('82 00 00'), { maxBytes: 2 })).toBe('CBOR_LIMIT');
    expect(code(hex('82 00 00'), { maxItems: 2 })).toBe('CBOR_LIMIT');
    expect(code(hex('82 00 00'), { maxItems: 3, maxBytes: 3 })).toBeUndefined();
    expect(code(hex('81 81 00'), { maxDepth: 1 })).toBe('CBOR_LIMIT');
    expect(code(hex('81 81 00'), { maxDepth: 2 })).toBeUndefined();
  });

  it('stops at the depth bound however deep the nesting goes, without recursing', () => {
    expect(code(new Uint8Array(60_000).fill(0x81))).toBe('CBOR_LIMIT');
    expect(code(new Uint8Array(60_000).fill(0x9f))).toBe('CBOR_LIMIT');
  });
});

const key = fc.oneof(
  fc.string({ unit: 'grapheme', maxLength: 80 }).filter((value) => !value.startsWith('\uFEFF')),
  fc.integer(),
  fc.bigInt({ min: -(2n ** 64n), max: 2n ** 64n - 1n }).map((value) => {
    const number = Number(value);
    return Number.isSafeInteger(number) ? number : value;
  }),
);
const { value: anyValue } = fc.letrec<{ value: CborValue }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 4 },
    key,
    fc.constantFrom(null, true, false),
    fc.uint8Array({ maxLength: 300 }),
    fc.array(tie('value'), { maxLength: 6 }),
    fc
      .uniqueArray(fc.tuple(key, tie('value')), { maxLength: 6, selector: ([name]) => name })
      .map((entries) => new Map(entries)),
  ),
}));

/** cbor2 gives plain objects for maps whose keys are all text unless it is told otherwise. */
const theirs = (bytes: Uint8Array) =>
  cbor2.decode(bytes, {
    preferMap: true,
    rejectDuplicateKeys: true,
    rejectStreaming: false,
  } as cbor2.DecodeOptions) as CborValue;

describe('against cbor2', () => {
  it('reads what we write, and we read it back', () => {
    fc.assert(
      fc.property(anyValue, (value) => {
        const bytes = encodeCbor(value);
        expect(decodeCbor(bytes)).toEqual(value);
        expect(theirs(bytes)).toEqual(value);
      }),
      { numRuns: 300 },
    );
  });

  it('agrees on whatever we accept, however the bytes were damaged', () => {
    let accepted = 0;
    fc.assert(
      fc.property(anyValue, fc.nat(), fc.nat(255), (value, where, byte) => {
        const bytes = encodeCbor(value);
        bytes[where % bytes.length] = byte;
        if (code(bytes, { nonMinimal: 'accept' }) !== undefined) return;
        accepted += 1;
        expect(theirs(bytes)).toEqual(decodeCbor(bytes, { nonMinimal: 'accept' }));
      }),
      { numRuns: 600 },
    );
    expect(accepted).toBeGreaterThan(50);
  });

  it('throws its own errors only, on any bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
        expect(code(bytes) ?? 'CBOR_').toMatch(/^CBOR_/);
      }),
      { numRuns: 500 },
    );
  });
});

describe('writing CBOR', () => {
  it('writes definite, minimal heads and keeps the order of a map', () => {
    expect(
      text(
        encodeCbor(
          new Map<CborValue, CborValue>([
            ['b', 255],
            [1, new Uint8Array(24)],
          ]),
        ),
      ),
    ).toBe(`a2616218ff015818${'00'.repeat(24)}`);
  });

  it.each<[string, unknown]>([
    ['a fraction', 0.5],
    ['NaN', Number.NaN],
    ['an unsafe number', 2 ** 53],
    ['an integer of 65 bits', 2n ** 64n],
    ['a negative integer of 65 bits', -(2n ** 64n) - 1n],
    ['undefined', undefined],
    ['a plain object', {}],
    ['a lone surrogate', '\ud800'],
  ])('refuses %s', (_what, value) => {
    expect(() => encodeCbor(value as CborValue)).toThrowError(
      expect.objectContaining({ code: 'CBOR_REFUSED' }),
    );
  });
});

describe('in the image', () => {
  it('loads no native code and needs no code generation at run time', () => {
    const script = `
      const { decodeCbor } = await import(process.argv[1]);
      for (let i = 0; i < 9; i++) decodeCbor(Uint8Array.of(0xa1, 0x61, 0x61, 0x01));
      const report = process.report.getReport();
      const native = report.sharedObjects.filter((file) => file.endsWith('.node'));
      const { isNativeAccelerationEnabled } = await import('cbor-x/decode-no-eval');
      console.log(JSON.stringify({ native, isNativeAccelerationEnabled }));`;
    const out = execFileSync(
      process.execPath,
      [
        '--disallow-code-generation-from-strings',
        '--input-type=module',
        '--eval',
        script,
        join(import.meta.dirname, '..', '..', 'shared', 'cbor.ts'),
      ],
      { encoding: 'utf8', cwd: join(import.meta.dirname, '..', '..') },
    );
    expect(JSON.parse(out)).toEqual({ native: [], isNativeAccelerationEnabled: false });
  });
});
