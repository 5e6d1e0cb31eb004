import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { PcrBank } from '../../../simulator/nsm/pcr-bank.ts';

const sha384 = (...parts: Uint8Array[]) => createHash('sha384').update(Buffer.concat(parts)).digest('hex');
const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
const ZERO = new Uint8Array(48);
const DATA = Uint8Array.of(1, 2, 3);

const fresh = () => new PcrBank(new Map([[0, new Uint8Array(48).fill(7)]]));

describe('a fresh bank', () => {
  it('has registers 0 to 15 locked and 16 to 31 open and zero', () => {
    const bank = fresh();
    for (let index = 0; index < 32; index += 1) {
      const { lock, data } = bank.describe(index);
      expect(lock).toBe(index < 16);
      expect(hex(data)).toBe(hex(index === 0 ? new Uint8Array(48).fill(7) : ZERO));
    }
    expect([...bank.locked().keys()]).toEqual(Array.from({ length: 16 }, (_, index) => index));
  });

  it('starts with no register of the guest and none of another length', () => {
    expect(() => new PcrBank(new Map([[16, ZERO]]))).toThrow(RangeError);
    expect(() => new PcrBank(new Map([[0, new Uint8Array(32)]]))).toThrow(RangeError);
  });

  it('hands out copies: nobody outside can change a register', () => {
    const bank = fresh();
    bank.describe(0).data.fill(9);
    bank.locked().get(0)?.fill(9);
    expect(hex(bank.describe(0).data)).toBe('07'.repeat(48));
  });
});

describe('extending', () => {
  it('chains SHA-384 over the old value and the raw data', () => {
    const bank = fresh();
    expect(hex(bank.extend(16, DATA))).toBe(sha384(ZERO, DATA));
    expect(hex(bank.extend(16, DATA))).toBe(sha384(Buffer.from(sha384(ZERO, DATA), 'hex'), DATA));
  });

  it.each([0, 15])('fails for register %i of the hypervisor', (index) => {
    expect(() => fresh().extend(index, DATA)).toThrow(expect.objectContaining({ fault: 'ReadOnlyIndex' }));
  });

  it('fails for a register beyond the last', () => {
    expect(() => fresh().extend(32, DATA)).toThrow(expect.objectContaining({ fault: 'InvalidIndex' }));
  });

  it('fails once the register is locked, and leaves its value', () => {
    const bank = fresh();
    bank.extend(16, DATA);
    bank.lock(16);
    expect(() => bank.extend(16, DATA)).toThrow(expect.objectContaining({ fault: 'ReadOnlyIndex' }));
    expect(hex(bank.describe(16).data)).toBe(sha384(ZERO, DATA));
    expect(bank.locked().has(16)).toBe(true);
  });
});

describe('locking', () => {
  it('fails for a register that is locked already', () => {
    const bank = fresh();
    bank.lock(31);
    for (const index of [0, 15, 31]) {
      expect(() => bank.lock(index)).toThrow(expect.objectContaining({ fault: 'ReadOnlyIndex' }));
    }
    expect(() => bank.lock(32)).toThrow(expect.objectContaining({ fault: 'InvalidIndex' }));
  });

  it('takes ranges up to 32, and a range that covers locked registers is no error', () => {
    const bank = fresh();
    bank.lockRange(0);
    bank.lockRange(17);
    expect(bank.describe(16).lock).toBe(true);
    expect(bank.describe(17).lock).toBe(false);
    bank.lockRange(32);
    expect(bank.locked().size).toBe(32);
    expect(() => bank.lockRange(33)).toThrow(expect.objectContaining({ fault: 'InvalidIndex' }));
  });
});
