import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { extendPcr, isZeroPcr, PCR_BYTES, pcrOfMeasuredBytes, pcrOfText, zeroPcr } from '../../shared/pcr.ts';
import { describeWithVectors } from '../vectors.ts';

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');

it('a register that was extended differs from zero and keeps its size', () => {
  const extended = extendPcr(zeroPcr(), Uint8Array.of(1));
  expect(extended.length).toBe(PCR_BYTES);
  expect(isZeroPcr(extended)).toBe(false);
  expect(isZeroPcr(zeroPcr())).toBe(true);
});

it('zeros of another length are not a zero register', () => {
  expect(isZeroPcr(new Uint8Array(47))).toBe(false);
  expect(isZeroPcr(new Uint8Array(0))).toBe(false);
});

it('PCR2 of an image with a single ramdisk measures no bytes at all', () => {
  expect(hex(pcrOfMeasuredBytes(new Uint8Array(0)))).toBe(
    '21b9efbc184807662e966d34f390821309eeac6802309798826296bf3e8bec7c10edb30948c90ba67310f7b964fc500a',
  );
});

describeWithVectors('every real document', (folder) => {
  const manifest = JSON.parse(readFileSync(join(folder, 'attestation', 'manifest.json'), 'utf8')) as {
    file: string;
    expected: string;
    module_id: string;
    pcrs_nonzero: Record<string, string>;
  }[];

  it('has PCR4 of its instance id', () => {
    const valid = manifest.filter((entry) => entry.expected === 'valid');
    expect(valid.length).toBeGreaterThan(0);
    for (const entry of valid) {
      const [instance] = entry.module_id.split('-enc') as [string];
      expect(hex(pcrOfText(instance)), entry.file).toBe(entry.pcrs_nonzero['4']);
    }
  });
});
