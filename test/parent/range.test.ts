import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isForbiddenAddress } from '../../parent/egress/addresses.ts';
import { isDnsName, parseAuthority } from '../../parent/egress/allow-list.ts';
import { parseModelPath } from '../../parent/routes/models.ts';
import { parseRange } from '../../parent/routes/range.ts';

const RUNS = { numRuns: 300 };

describe('parsers of what the enclave sends, for any input', () => {
  it('a range always lies inside the file', () => {
    const header = fc.oneof(
      fc.string(),
      fc.tuple(fc.nat(), fc.nat()).map(([first, last]) => `bytes=${first}-${last}`),
      fc.nat().map((first) => `bytes=${first}-`),
      fc.nat().map((count) => `bytes=-${count}`),
    );
    fc.assert(
      fc.property(header, fc.nat(), (text, sizeBytes) => {
        const range = parseRange(text, sizeBytes);
        if (typeof range === 'string') return range === 'unsatisfiable';
        return 0 <= range.first && range.first <= range.last && range.last < sizeBytes;
      }),
      RUNS,
    );
  });

  it('a range inside the file is exactly what was asked for', () => {
    fc.assert(
      fc.property(fc.nat(), fc.nat(), fc.nat(), (first, length, rest) => {
        const last = first + length;
        expect(parseRange(`bytes=${first}-${last}`, last + 1 + rest)).toEqual({ first, last });
      }),
      RUNS,
    );
  });

  it('a model’s path has two plain names and nothing between them', () => {
    const path = fc.oneof(
      fc.string(),
      fc.string().map((name) => `/models/${name}/payload`),
      fc.webUrl().map((url) => new URL(url).pathname),
    );
    fc.assert(
      fc.property(path, (text) => {
        const found = parseModelPath(text);
        if (found === undefined) return true;
        return !/[/\\%\0]|^\./.test(found.name) && text === `/models/${found.name}/${found.file}`;
      }),
      RUNS,
    );
  });

  it('no spelling of an IPv4 address is a destination', () => {
    const spellings = fc.nat(0xffff_ffff).chain((address) => {
      const bytes = [address >>> 24, (address >>> 16) & 255, (address >>> 8) & 255, address & 255];
      return fc.constantFrom(
        String(address),
        `0x${address.toString(16)}`,
        `0${address.toString(8)}`,
        bytes.join('.'),
        bytes.map((byte) => `0x${byte.toString(16)}`).join('.'),
        bytes.map((byte) => `0${byte.toString(8)}`).join('.'),
        `${bytes[0]}.${address & 0xff_ffff}`,
        `${bytes[0]}.${bytes[1]}.${address & 0xffff}`,
        `[::ffff:${bytes.join('.')}]`,
      );
    });
    fc.assert(
      fc.property(spellings, (host) => !isDnsName(host) && parseAuthority(`${host}:443`) === undefined),
      RUNS,
    );
  });

  it('whatever address the URL parser reads behind an allowed name, there is none', () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom(...'0123456789abcdefx.-'), maxLength: 20 }), (host) => {
        if (!isDnsName(host)) return true;
        return new URL(`http://${host}/`).hostname === host && !/^[\d.]+$/.test(host);
      }),
      { numRuns: 2_000 },
    );
  });

  it('an IPv4 address is as forbidden inside NAT64 as it is alone', () => {
    fc.assert(
      fc.property(
        fc.ipV4(),
        (address) => isForbiddenAddress(`64:ff9b::${address}`) === isForbiddenAddress(address),
      ),
      RUNS,
    );
  });
});
