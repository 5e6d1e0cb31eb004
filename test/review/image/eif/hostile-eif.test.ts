/** Image files that lie with a right checksum: to a reader that allocates, that looks up, that walks, or that lists. */
import { spawnSync } from 'node:child_process';
import { generateKeyPairSync, sign } from 'node:crypto';
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { crc32, gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { measureEif } from '../../../../review/image/eif/measure-eif.ts';
import { RamdiskLister } from '../../../../review/image/eif/ramdisk.ts';
import {
  cborArray,
  cborBytes,
  cborHead,
  cborIntegers,
  cborText,
  eifFile,
  GOOD,
  type HandMadeEif,
  part,
  testSigner,
} from './eif-file.ts';

const AT = new Date('2026-01-01T00:00:00Z');
const OFFSETS = 0x1c;
const SIZES = 0x11c;
const LARGEST = 2n ** 64n - 1n;

async function codeOf(hostile: HandMadeEif): Promise<string> {
  const before = process.memoryUsage().arrayBuffers;
  try {
    await measureEif([eifFile(hostile)], { at: AT });
    return 'accepted';
  } catch (error) {
    // A few buffers of streams at most, whatever the file claims.
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(8 << 20);
    return (error as { code: string }).code;
  }
}

describe('an image file with a right checksum is refused', () => {
  const offset = (index: number, change: (offsets: readonly bigint[]) => bigint) => (header: Buffer) => {
    const offsets = GOOD.map((_, at) => header.readBigUInt64BE(OFFSETS + 8 * at));
    header.writeBigUInt64BE(change(offsets), OFFSETS + 8 * index);
  };
  const size = (index: number, value: bigint) => (header: Buffer) =>
    void header.writeBigUInt64BE(value, SIZES + 8 * index);
  const says = (index: number, saysBytes: bigint) =>
    GOOD.map((section, at) => (at === index ? { ...section, saysBytes } : section));
  const cases: readonly (readonly [string, HandMadeEif, string])[] = [
    [
      'whose two ramdisks are one for a loader that looks up',
      { sections: GOOD, header: offset(4, (at) => at[3] as bigint) },
      'EIF_TABLES',
    ],
    [
      'whose ramdisk begins inside another',
      { sections: GOOD, header: offset(4, (at) => (at[4] as bigint) - 1n) },
      'EIF_TABLES',
    ],
    ['whose ramdisk begins in the header', { sections: GOOD, header: offset(3, () => 0n) }, 'EIF_TABLES'],
    [
      'whose ramdisk begins behind the end',
      { sections: GOOD, header: offset(4, () => 2n ** 40n) },
      'EIF_TABLES',
    ],
    [
      'whose offset is the largest number',
      { sections: GOOD, header: offset(4, () => LARGEST) },
      'EIF_TABLES',
    ],
    ['whose size is the largest number', { sections: GOOD, header: size(4, LARGEST) }, 'EIF_LIMIT'],
    [
      'whose size is the largest number everywhere',
      { sections: says(4, LARGEST), header: size(4, LARGEST) },
      'EIF_LIMIT',
    ],
    [
      'whose size and header come round to nothing',
      { sections: GOOD, header: size(3, 2n ** 64n - 12n) },
      'EIF_LIMIT',
    ],
    [
      'whose sections are each allowed and together are not',
      {
        sections: GOOD,
        header: (h) => {
          for (let index = 1; index < GOOD.length; index++) {
            offset(index, (at) => (at[index] as bigint) + 2n ** 39n - h.readBigUInt64BE(SIZES))(h);
          }
          size(0, 2n ** 39n)(h);
          size(4, 2n ** 39n)(h);
        },
      },
      'EIF_LIMIT',
    ],
    [
      'that claims a terabyte in a few bytes',
      { sections: says(0, 2n ** 39n), header: size(0, 2n ** 39n) },
      'EIF_TABLES',
    ],
    [
      'whose last section claims a terabyte',
      { sections: says(4, 2n ** 39n), header: size(4, 2n ** 39n) },
      'EIF_TRUNCATED',
    ],
    ['whose table gives a section one byte less', { sections: GOOD, header: size(4, 10n) }, 'EIF_TABLES'],
    ['whose section says one byte less', { sections: says(4, 10n) }, 'EIF_TABLES'],
    [
      'whose last section is shorter in both',
      { sections: says(4, 10n), header: size(4, 10n) },
      'EIF_TRAILING_BYTES',
    ],
    ['of no sections', { sections: [] }, 'EIF_SECTIONS'],
    ['of two sections', { sections: GOOD.slice(0, 2) }, 'EIF_SECTIONS'],
    [
      'of more sections than a table has room for',
      { sections: GOOD, header: (h) => void h.writeUInt16BE(0xffff, 0x1a) },
      'EIF_SECTIONS',
    ],
    [
      'of 32 sections, of which most are nowhere',
      { sections: GOOD, header: (h) => void h.writeUInt16BE(32, 0x1a) },
      'EIF_TABLES',
    ],
    [
      'that counts one section less than it has',
      { sections: GOOD, header: (h) => void h.writeUInt16BE(4, 0x1a) },
      'EIF_TABLES',
    ],
    [
      'that hides a section from whoever counts',
      {
        sections: GOOD,
        header: (h) => {
          h.writeUInt16BE(4, 0x1a);
          h.fill(0, OFFSETS + 32, OFFSETS + 40);
          h.fill(0, SIZES + 32, SIZES + 40);
        },
      },
      'EIF_TRAILING_BYTES',
    ],
    [
      'with a command line of a gigabyte',
      { sections: says(1, 2n ** 30n), header: size(1, 2n ** 30n) },
      'EIF_TABLES',
    ],
    [
      'with metadata that nests without end',
      { sections: GOOD.map((s) => (s.kind === 5 ? part('metadata', '{"a":'.repeat(20_000)) : s)) },
      'EIF_METADATA',
    ],
  ];
  it.each(cases)('%s', async (_, hostile, code) => {
    expect(await codeOf(hostile)).toBe(code);
  });
});

describe('a signature section is refused', () => {
  const signer = testSigner('secp384r1');
  interface Forgery {
    readonly header?: string;
    readonly payload?: Uint8Array;
    readonly key?: string;
    readonly certificate?: string;
    readonly hash?: string;
    readonly prefix?: string;
  }
  const payloadOf = (index: number, value: Uint8Array) =>
    Buffer.concat([
      cborHead(5, 2),
      cborText('register_index'),
      cborHead(0, index),
      cborText('register_value'),
      cborIntegers(value),
    ]);

  async function codeOfSignature(
    forge: (registers: { pcr0: Uint8Array; pcr1: Uint8Array; pcr2: Uint8Array }) => Forgery,
  ) {
    const { measurements } = await measureEif([eifFile({ sections: GOOD })], { at: AT });
    const {
      header = 'a1013822',
      payload = payloadOf(0, measurements.pcr0),
      ...forgery
    } = forge(measurements);
    const headerBytes = Buffer.from(header, 'hex');
    const signed = cborArray([
      cborText('Signature1'),
      cborBytes(headerBytes),
      cborBytes(Buffer.alloc(0)),
      cborBytes(payload),
    ]);
    const signature = sign(forgery.hash ?? 'sha384', signed, {
      key: forgery.key ?? signer.keyPem,
      dsaEncoding: 'ieee-p1363',
    });
    const cose = Buffer.concat([
      Buffer.from(forgery.prefix ?? '', 'hex'),
      cborArray([cborBytes(headerBytes), cborHead(5, 0), cborBytes(payload), cborBytes(signature)]),
    ]);
    const section = cborArray([
      Buffer.concat([
        cborHead(5, 2),
        cborText('signing_certificate'),
        cborIntegers(Buffer.from(forgery.certificate ?? signer.certificatePem)),
        cborText('signature'),
        cborIntegers(cose),
      ]),
    ]);
    try {
      await measureEif([eifFile({ sections: [...GOOD, part('signature', section)] })], { at: AT });
      return 'accepted';
    } catch (error) {
      return (error as { code: string }).code;
    }
  }

  it('never if it is good: what follows spoils one thing of it', async () => {
    expect(await codeOfSignature(() => ({}))).toBe('accepted');
  });

  const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({
    type: 'pkcs8',
    format: 'pem',
  });
  const cases: readonly (readonly [string, Parameters<typeof codeOfSignature>[0], string])[] = [
    [
      'over PCR1, which more images share',
      ({ pcr1 }) => ({ payload: payloadOf(1, pcr1) }),
      'EIF_SIGNATURE_WRONG',
    ],
    ['over PCR2 in the name of PCR0', ({ pcr2 }) => ({ payload: payloadOf(0, pcr2) }), 'EIF_SIGNATURE_WRONG'],
    [
      'over a PCR0 that goes on',
      ({ pcr0 }) => ({ payload: payloadOf(0, Buffer.concat([pcr0, Buffer.of(0)])) }),
      'EIF_SIGNATURE_WRONG',
    ],
    [
      'over a PCR0 that is a byte string',
      ({ pcr0 }) => ({
        payload: Buffer.concat([
          cborHead(5, 2),
          cborText('register_index'),
          cborHead(0, 0),
          cborText('register_value'),
          cborBytes(pcr0),
        ]),
      }),
      'EIF_SIGNATURE_WRONG',
    ],
    ['over the register alone', ({ pcr0 }) => ({ payload: pcr0 }), 'EIF_SIGNATURE_WRONG'],
    ['over nothing', () => ({ payload: Buffer.alloc(0) }), 'EIF_SIGNATURE_WRONG'],
    ['of ES256K', () => ({ header: 'a101382e' }), 'EIF_SIGNATURE_FORM'],
    ['of PS384 by an RSA key', () => ({ header: 'a1013825', key: rsa as string }), 'EIF_SIGNATURE_FORM'],
    ['of HMAC', () => ({ header: 'a10105' }), 'EIF_SIGNATURE_FORM'],
    ['of no algorithm', () => ({ header: 'a0' }), 'EIF_SIGNATURE_FORM'],
    ['of an algorithm by name', () => ({ header: 'a101654553333834' }), 'EIF_SIGNATURE_FORM'],
    ['with a key id beside the algorithm', () => ({ header: 'a201382204416b' }), 'EIF_SIGNATURE_FORM'],
    ['with its algorithm written longer than needed', () => ({ header: 'a101390022' }), 'EIF_SIGNATURE_FORM'],
    ['in a tag', () => ({ prefix: 'd2' }), 'EIF_SIGNATURE_FORM'],
    ['of ES384 made with another hash', () => ({ hash: 'sha256' }), 'EIF_SIGNATURE_WRONG'],
  ];
  it.each(cases)('%s', async (_, forge, code) => {
    expect(await codeOfSignature(forge)).toBe(code);
  });
});

describe('a ramdisk that is a bomb', () => {
  it('is measured as it stands, and its list is refused', async () => {
    const archive = gzipSync(Buffer.alloc(64 << 20));
    const sections = [...GOOD.slice(0, 4), part('ramdisk', archive)];
    const lister = new RamdiskLister(1 << 20);
    const { measurements } = await measureEif([eifFile({ sections })], { at: AT, ramdisks: lister });
    expect(measurements.pcr2).toHaveLength(48);
    expect(lister.outcomes[1]?.refused?.code).toMatch(/^CPIO_/);
  });

  it('is given up when it has expanded beyond the bound, though what it says of itself is in order', async () => {
    const name = 'zeros\0';
    const size = 256 << 20;
    const fields = [1, 0o100644, 0, 0, 1, 0, size, 0, 0, 0, 0, name.length, 0];
    const head = Buffer.from(
      `070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}${name}`,
    );
    const bomb = gzipSync(Buffer.concat([head, Buffer.alloc(size)]));
    expect(bomb.length).toBeLessThan(1 << 20);
    const sections = [...GOOD.slice(0, 4), part('ramdisk', bomb)];
    const lister = new RamdiskLister(128 << 20);
    await measureEif([eifFile({ sections })], { at: AT, ramdisks: lister });
    expect(lister.outcomes[1]?.refused?.code).toBe('CPIO_LIMIT');
  });
});

describe('an image of a gigabyte', () => {
  it('is measured in the memory that one of a kilobyte takes, and a few buffers', () => {
    const folder = mkdtempSync(join(tmpdir(), 'strongroom-gigabyte-'));
    try {
      const small = measuredInAProcess(sparseImage(join(folder, 'small.eif'), 1 << 10));
      const large = measuredInAProcess(sparseImage(join(folder, 'large.eif'), 1 << 30));
      expect(large.pcr0).toMatch(/^[0-9a-f]{96}$/);
      expect(large.pcr0).not.toBe(small.pcr0);
      expect(large.maxRssKib - small.maxRssKib).toBeLessThan(128 << 10);
    } finally {
      rmSync(folder, { recursive: true });
    }
  }, 240_000);
});

/** Its last ramdisk is `zeros` bytes long and takes no room on the disk. */
function sparseImage(path: string, zeros: number): string {
  const shape = eifFile({ sections: [...GOOD, part('ramdisk', '')] });
  shape.writeBigUInt64BE(BigInt(zeros), SIZES + 8 * GOOD.length);
  shape.writeBigUInt64BE(BigInt(zeros), shape.length - 8);
  let crc = crc32(shape.subarray(548), crc32(shape.subarray(0, 544)));
  const slab = Buffer.alloc(Math.min(zeros, 16 << 20));
  for (let left = zeros; left > 0; left -= slab.length) crc = crc32(slab, crc);
  shape.writeUInt32BE(crc, 544);
  const fd = openSync(path, 'w');
  writeSync(fd, shape);
  ftruncateSync(fd, shape.length + zeros);
  closeSync(fd);
  return path;
}

/** By a Node of its own, whose memory is that of this work alone. */
function measuredInAProcess(path: string): { readonly pcr0: string; readonly maxRssKib: number } {
  const module = (name: string) =>
    JSON.stringify(join(import.meta.dirname, '../../../../review/image/eif', name));
  const script = `
    import { fileStream } from ${module('file-stream.ts')};
    import { measureEif } from ${module('measure-eif.ts')};
    const options = { at: new Date(), threadFromBytes: 0 };
    const { measurements } = await measureEif(fileStream(${JSON.stringify(path)}), options);
    const pcr0 = Buffer.from(measurements.pcr0).toString('hex');
    console.log(JSON.stringify({ pcr0, maxRssKib: process.resourceUsage().maxRSS }));`;
  writeFileSync(`${path}.mjs`, script);
  const { stdout, stderr } = spawnSync(process.execPath, [`${path}.mjs`], { encoding: 'utf8' });
  if (stdout === '') throw new Error(stderr);
  return JSON.parse(stdout) as { pcr0: string; maxRssKib: number };
}
