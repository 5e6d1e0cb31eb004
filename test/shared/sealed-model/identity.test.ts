import { describe, expect, it } from 'vitest';
import { canonicalJson } from '../../../shared/sealed-model/canonical-json.ts';
import { geometryOf, PRODUCTION_SIZES } from '../../../shared/sealed-model/format.ts';
import { faultOfIdentity, faultOfPaths } from '../../../shared/sealed-model/identity.ts';
import { planSeal } from '../../../shared/sealed-model/seal-plan.ts';
import { IRIS } from './seals.ts';

describe('names, versions and paths', () => {
  it('of ordinary models are allowed', () => {
    for (const name of ['a', 'iris', 'Llama-3.1_8B', 'a.b', 'x'.repeat(64)]) {
      expect(faultOfIdentity({ ...IRIS, name }), name).toBeUndefined();
    }
    expect(faultOfIdentity({ ...IRIS, versionLabel: 'März 2026 – geprüft' })).toBeUndefined();
    expect(faultOfPaths(['a', 'b/c.onnx', 'b/d', 'ü/model 1.bin'])).toBeUndefined();
  });

  it('that could be mistaken for something else are refused', () => {
    for (const name of ['', '.', '..', '-a', '.a', 'a/b', 'a b', 'ä', 'x'.repeat(65), 'a\n']) {
      expect(faultOfIdentity({ ...IRIS, name }), JSON.stringify(name)).toBeDefined();
    }
    for (const version of [0, -1, 1.5, Number.NaN, 2 ** 53]) {
      expect(faultOfIdentity({ ...IRIS, version }), String(version)).toBeDefined();
    }
    for (const versionLabel of ['', 'a\nb', 'x'.repeat(129), '\ud800', '\u2028']) {
      expect(faultOfIdentity({ ...IRIS, versionLabel }), JSON.stringify(versionLabel)).toBeDefined();
    }
    const paths = [
      '',
      '/a',
      'a/',
      'a//b',
      './a',
      'a/../b',
      'a\\b',
      'a\0b',
      'a\nb',
      '\ud800',
      'x'.repeat(256),
    ];
    for (const path of [...paths, Array(33).fill('a').join('/'), Array(600).fill('ab').join('/')]) {
      expect(faultOfPaths([path]), JSON.stringify(path)).toBeDefined();
    }
    for (const list of [
      ['b', 'a'],
      ['a', 'a'],
      ['a', 'a/b'],
    ])
      expect(faultOfPaths(list)).toBeDefined();
  });

  it('a file and the folder of the same name are told apart even with names sorted between them', () => {
    expect(faultOfPaths(['a', 'a.b', 'a/c'])).toMatch(/both a file and a folder/);
  });
});

describe('a plan', () => {
  const salt = new Uint8Array(32);
  it('puts every file at a multiple of 2 MiB in production', () => {
    const files = [
      { path: 'b', sizeBytes: 3 },
      { path: 'a', sizeBytes: (2 << 20) + 1 },
    ];
    const plan = planSeal(IRIS, files, salt);
    expect(plan.files.map(({ path, offset }) => [path, offset])).toEqual([
      ['a', 0],
      ['b', 4 << 20],
    ]);
  });

  it('beyond the limits of the format is refused', () => {
    const invalid = expect.objectContaining({ code: 'SEALED_INPUT_INVALID' });
    const file = (sizeBytes: number, path = 'a') => ({ path, sizeBytes });
    expect(() => planSeal(IRIS, [file(2 ** 40)], salt)).not.toThrow();
    expect(() => planSeal(IRIS, [file(2 ** 40 + 1)], salt)).toThrow(invalid);
    expect(() => planSeal(IRIS, [], salt)).toThrow(invalid);
    expect(() =>
      planSeal(
        IRIS,
        Array.from({ length: 4097 }, (_, at) => file(0, `f${at}`)),
        salt,
      ),
    ).toThrow(invalid);
    expect(() => planSeal(IRIS, [file(1)], salt.subarray(1))).toThrow(invalid);
    const tiny = { chunkLog2: 8, segmentLog2: 8, epochLog2: 8 };
    expect(() => planSeal(IRIS, [file(256 * 1024)], salt, tiny)).not.toThrow();
    expect(() => planSeal(IRIS, [file(256 * 1024 + 1)], salt, tiny)).toThrow(invalid);
    expect(() => planSeal(IRIS, [file(1)], salt, { ...PRODUCTION_SIZES, epochLog2: 37 })).toThrow(invalid);
  });

  it('never lets one key encrypt more than 64 GiB', () => {
    const { epochCount, chunksPerEpoch, chunkBytes } = geometryOf(PRODUCTION_SIZES, 2 ** 40);
    expect(epochCount).toBe(16);
    expect(chunksPerEpoch * chunkBytes).toBe(2 ** 36);
  });
});

describe('canonical JSON', () => {
  it('is RFC 8785: sorted members, shortest escapes, no spaces', () => {
    expect(canonicalJson({ b: [1, 'x'], a: '\u000a"\\é€', '€': 'z', c: undefined })).toBe(
      '{"a":"\\n\\"\\\\é€","b":[1,"x"],"€":"z"}',
    );
    for (const value of [1.5, Number.NaN, -0, 2 ** 53, '\ud800'])
      expect(() => canonicalJson(value)).toThrow(TypeError);
  });
});
