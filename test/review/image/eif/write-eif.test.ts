import { createPrivateKey } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { measureEif } from '../../../../review/image/eif/measure-eif.ts';
import { type EifParts, writeEif } from '../../../../review/image/eif/write-eif.ts';
import { describeWithVectors } from '../../../vectors.ts';
import { type TestSigner, testSigner } from './eif-file.ts';

/** The certificates are made after this line is read: a moment at which they are sure to have begun. */
const AT = new Date(Date.now() + 3_600_000);
const once = { replace: false, at: AT };
const bytes = (text: string) => () => [Buffer.from(text)];
const PARTS: EifParts = {
  architecture: 'x86_64',
  kernel: bytes('kernel'),
  commandLine: 'console=ttyS0',
  ramdisks: [bytes('bootstrap'), bytes('application')],
  metadata: { ImageName: 'test' },
};

let folder: string;
let output: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'strongroom-write-eif-'));
  output = join(folder, 'image.eif');
});
afterEach(() => rmSync(folder, { recursive: true }));

let signer: TestSigner;
let other: TestSigner;
let smaller: TestSigner;
beforeAll(() => {
  signer = testSigner('secp384r1');
  other = testSigner('secp384r1');
  smaller = testSigner('prime256v1');
});
const signed = (key: TestSigner, certificate: TestSigner): EifParts => ({
  ...PARTS,
  signer: {
    privateKey: createPrivateKey(key.keyPem),
    certificatePem: Buffer.from(certificate.certificatePem),
  },
});

describe('an image that is written', () => {
  it('is read back as it was meant, whatever its architecture', async () => {
    for (const architecture of ['x86_64', 'aarch64'] as const) {
      const written = await writeEif({ ...PARTS, architecture }, output, { replace: true, at: AT });
      expect(await measureEif([readFileSync(output)], { at: AT })).toEqual(written);
      expect(written.header.architecture).toBe(architecture);
      expect(written.sections.map(({ kind }) => kind)).toEqual([
        'kernel',
        'cmdline',
        'metadata',
        'ramdisk',
        'ramdisk',
      ]);
    }
  });

  it('is the same file each time, unless signed; and a signature moves PCR8 alone', async () => {
    await writeEif(PARTS, output, once);
    await writeEif(PARTS, join(folder, 'again.eif'), once);
    expect(readFileSync(join(folder, 'again.eif')).equals(readFileSync(output))).toBe(true);

    const plain = await measureEif([readFileSync(output)], { at: AT });
    const { measurements, signature } = await writeEif(signed(signer, signer), join(folder, 's.eif'), once);
    expect(signature).toMatchObject({ algorithm: 'ES384', dates: 'valid' });
    expect({ ...measurements, pcr8: undefined }).toEqual({ ...plain.measurements, pcr8: undefined });
    expect(measurements.pcr8).not.toEqual(plain.measurements.pcr8);
  });

  it('leaves nothing else behind', async () => {
    await writeEif(PARTS, output, once);
    expect(readdirSync(folder)).toEqual(['image.eif']);
  });
});

describe('no image is written', () => {
  const refused = async (parts: EifParts, code: string) => {
    await expect(writeEif(parts, output, once)).rejects.toMatchObject({ code });
    expect(existsSync(output)).toBe(false);
    expect(readdirSync(folder)).toEqual([]);
  };

  it('over another file, unless told to', async () => {
    writeFileSync(output, 'precious');
    await expect(writeEif(PARTS, output, once)).rejects.toMatchObject({ code: 'EIF_OUTPUT' });
    expect(readFileSync(output, 'utf8')).toBe('precious');
    await writeEif(PARTS, output, { replace: true, at: AT });
    expect(readFileSync(output).subarray(0, 4).toString()).toBe('.eif');
  });

  it('over a file that comes to be while it is written', async () => {
    const kernel = () => {
      writeFileSync(output, 'precious');
      return [Buffer.from('kernel')];
    };
    await expect(writeEif({ ...PARTS, kernel }, output, once)).rejects.toMatchObject({ code: 'EIF_OUTPUT' });
    expect(readFileSync(output, 'utf8')).toBe('precious');
  });

  it('with a key that is not the certificate’s, or not on P-384', async () => {
    await refused(signed(signer, other), 'EIF_INPUT');
    await refused(signed(smaller, smaller), 'EIF_INPUT');
  });

  it('with a command line of two lines, or of other than ASCII', async () => {
    await refused({ ...PARTS, commandLine: 'quiet\n' }, 'EIF_INPUT');
    await refused({ ...PARTS, commandLine: 'qui\u00ebt' }, 'EIF_INPUT');
  });

  it('from inputs that change between measuring and writing, in length or in content', async () => {
    for (const second of ['longer than before', 'kernex']) {
      let reads = 0;
      const kernel = () => [Buffer.from(reads++ === 0 ? 'kernel' : second)];
      await refused({ ...PARTS, kernel }, 'EIF_READ_BACK');
    }
  });

  it('once it is interrupted, while measuring or while writing', async () => {
    for (const when of [1, 2]) {
      const interrupt = new AbortController();
      let reads = 0;
      const kernel = () => {
        reads++;
        if (reads === when) interrupt.abort(new Error('interrupted'));
        return [Buffer.from('kernel')];
      };
      const options = { ...once, signal: interrupt.signal };
      await expect(writeEif({ ...PARTS, kernel }, output, options)).rejects.toThrow('interrupted');
      expect(readdirSync(folder)).toEqual([]);
    }
  });

  it('if an input cannot be read to its end', async () => {
    let reads = 0;
    async function* broken() {
      yield Buffer.from('boot');
      if (reads++ > 0) throw new Error('disk');
    }
    await expect(writeEif({ ...PARTS, ramdisks: [broken] }, output, once)).rejects.toThrow('disk');
    expect(readdirSync(folder)).toEqual([]);
  });
});

describeWithVectors('the writer, given the parts of a published image', (vectors) => {
  it.each(['v4-x86_64.eif', 'v4-aarch64.eif', 'v4-single-ramdisk.eif'])(
    'writes %s, byte for byte',
    async (name) => {
      const published = readFileSync(join(vectors, 'eif', name));
      const { header, sections, commandLine, unmeasuredMetadata } = await measureEif([published], { at: AT });
      const data = sections.map(({ kind, offset, sizeBytes }) => {
        return { kind, content: published.subarray(offset + 12, offset + 12 + sizeBytes) };
      });
      const of = (wanted: string) =>
        data
          .filter(({ kind }) => kind === wanted)
          .map(({ content }) => () => [content]);
      await writeEif(
        {
          architecture: header.architecture,
          kernel: of('kernel')[0] ?? bytes(''),
          commandLine,
          ramdisks: of('ramdisk'),
          metadata: unmeasuredMetadata ?? {},
        },
        output,
        once,
      );
      expect(readFileSync(output).equals(published)).toBe(true);
    },
  );
});
