import { createHash, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { measureImage } from '../../../review/image/measure.ts';
import { describeWithVectors } from '../../vectors.ts';

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
const register = (...parts: string[]) =>
  createHash('sha384')
    .update(new Uint8Array(48))
    .update(createHash('sha384').update(parts.join('')).digest())
    .digest('hex');
const part = (text: string) => [Buffer.from(text)];

describe('measurements', () => {
  it('cover contents in a row: all of it, what boots, and the rest', async () => {
    const { pcr0, pcr1, pcr2, pcr8 } = await measureImage({
      kernel: part('kernel'),
      commandLine: 'command line',
      ramdisks: [part('one'), part('two'), part('three')],
    });
    expect(hex(pcr0)).toBe(register('kernel', 'command line', 'one', 'two', 'three'));
    expect(hex(pcr1)).toBe(register('kernel', 'command line', 'one'));
    expect(hex(pcr2)).toBe(register('two', 'three'));
    expect(hex(pcr8)).toBe('00'.repeat(48));
  });

  it('do not depend on the pieces in which contents arrive', async () => {
    async function* bytes(text: string) {
      for (const byte of Buffer.from(text)) yield Uint8Array.of(byte);
    }
    const parts = { commandLine: 'c', ramdisks: [] };
    const whole = await measureImage({
      ...parts,
      kernel: part('kernel'),
      ramdisks: [part('abc'), part('de')],
    });
    const pieces = await measureImage({
      ...parts,
      kernel: bytes('kernel'),
      ramdisks: [bytes('abc'), bytes('de')],
    });
    expect(pieces).toEqual(whole);
  });

  it('of an image with one ramdisk: PCR0 is PCR1, and PCR2 the well-known value of nothing', async () => {
    const { pcr0, pcr1, pcr2 } = await measureImage({
      kernel: part('k'),
      commandLine: 'c',
      ramdisks: [part('r')],
    });
    expect(hex(pcr0)).toBe(hex(pcr1));
    expect(hex(pcr2)).toBe(
      '21b9efbc184807662e966d34f390821309eeac6802309798826296bf3e8bec7c10edb30948c90ba67310f7b964fc500a',
    );
  });

  it('need a ramdisk', async () => {
    await expect(measureImage({ kernel: part('k'), commandLine: 'c', ramdisks: [] })).rejects.toThrow(
      TypeError,
    );
  });
});

describeWithVectors('the measurements of the published images', (folder) => {
  const { files } = JSON.parse(readFileSync(join(folder, 'eif', 'manifest.json'), 'utf8')) as {
    files: readonly { file: string; expected: string; pcrs?: Record<string, string> }[];
  };
  const images = files.filter(({ expected, file }) => expected === 'valid' && !file.includes('/'));

  it.each(images.map(({ file, pcrs = {} }) => [file, pcrs] as const))('%s', async (name, expected) => {
    const eif = readFileSync(join(folder, 'eif', name));
    const parts = sections(eif);
    const data = (type: number) => parts.filter((part) => part.type === type).map((part) => part.data);
    const [kernel, commandLine] = [data(1), Buffer.concat(data(2)).toString('latin1')];
    const certificate = expected.PCR8
      ? new X509Certificate(readFileSync(join(folder, 'eif', 'signer-es384.cert.pem'))).raw
      : undefined;
    const measured = await measureImage({
      kernel,
      commandLine,
      ramdisks: data(3).map((ramdisk) => [ramdisk]),
      ...(certificate === undefined ? {} : { signingCertificateDer: certificate }),
    });
    expect(hex(measured.pcr0)).toBe(expected.PCR0);
    expect(hex(measured.pcr1)).toBe(expected.PCR1);
    expect(hex(measured.pcr2)).toBe(expected.PCR2);
    if (certificate !== undefined) expect(hex(measured.pcr8)).toBe(expected.PCR8);
  });
});

/** Enough of an EIF reader for files that are known to be good. */
function sections(eif: Buffer): readonly { type: number; data: Buffer }[] {
  const HEADER_BYTES = 548;
  const found = [];
  for (let offset = HEADER_BYTES; offset < eif.length; ) {
    const size = Number(eif.readBigUInt64BE(offset + 4));
    found.push({ type: eif.readUInt16BE(offset), data: eif.subarray(offset + 12, offset + 12 + size) });
    offset += 12 + size;
  }
  return found;
}
