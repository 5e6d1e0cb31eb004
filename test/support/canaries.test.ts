import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { CanarySearch, canary, keyCanaries, textCanary } from './canaries.ts';
import { MAY_LOOK_INTO_PROCESSES, searchFolders, searchProcess } from './memory-scan.ts';

const secret = randomBytes(32);
const search = new CanarySearch([canary('secret', secret)]);
const noise = (bytes: number): Buffer => randomBytes(bytes);
const formsIn = (haystack: Buffer): string[] => search.in(haystack).map(({ form }) => form);

describe('the search for canaries', () => {
  it.each([
    ['raw', secret],
    ['reversed', Buffer.from(secret).reverse()],
    ['hex', Buffer.from(secret.toString('hex'))],
    ['HEX', Buffer.from(secret.toString('hex').toUpperCase())],
    ['hex in UTF-16', Buffer.from(secret.toString('hex'), 'utf16le')],
  ])('finds it %s, at the beginning, in the middle and at the end', (form, bytes) => {
    for (const [before, after] of [
      [0, 100],
      [101, 50],
      [7, 0],
    ] as const) {
      expect(formsIn(Buffer.concat([noise(before), bytes, noise(after)]))).toContain(form);
    }
  });

  it.each([0, 1, 2])('finds it in base64 and base64url behind %i other bytes', (shift) => {
    for (const encoding of ['base64', 'base64url'] as const) {
      const text = Buffer.concat([noise(shift + 3), secret, noise(5)]).toString(encoding);
      expect(formsIn(Buffer.from(`"${text}"`))).not.toEqual([]);
      expect(formsIn(Buffer.from(`"${text}"`, 'utf16le'))).not.toEqual([]);
    }
  });

  it('finds a text in UTF-16, and half of a key', () => {
    const text = 'what nobody else may read';
    const forText = new CanarySearch([textCanary('text', text)]);
    expect(forText.in(Buffer.from(`(${text})`, 'utf16le'))).toEqual([{ canary: 'text', form: 'UTF-16' }]);
    const forKey = new CanarySearch(keyCanaries('key', secret));
    expect(forKey.in(secret.subarray(16))).toEqual([{ canary: 'key', form: 'raw' }]);
  });

  it('finds nothing in noise, nor a canary that lacks its last byte', () => {
    expect(formsIn(noise(1 << 20))).toEqual([]);
    const anotherLastByte = Buffer.from([(secret[31] as number) ^ 1]);
    const almost = Buffer.concat([noise(40), secret.subarray(0, 31), anotherLastByte, noise(40)]);
    expect(formsIn(almost)).toEqual([]);
  });

  it('finds every one of many among each other', () => {
    const secrets = Array.from({ length: 50 }, () => randomBytes(16));
    const many = new CanarySearch(secrets.map((bytes, index) => canary(`${index}`, bytes)));
    const hits = many.in(Buffer.concat(secrets.flatMap((bytes) => [bytes, noise(3)])));
    expect(new Set(hits.map((hit) => hit.canary)).size).toBe(50);
  });

  it('finds what lies across two pieces of a file', () => {
    const folder = mkdtempSync(join(tmpdir(), 'strongroom-canaries-'));
    try {
      writeFileSync(join(folder, 'file'), Buffer.concat([Buffer.alloc((16 << 20) - 5), secret]));
      expect(searchFolders([folder], search)).toEqual([
        { canary: 'secret', form: 'raw', place: join(folder, 'file') },
      ]);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it.skipIf(!MAY_LOOK_INTO_PROCESSES)(
    'finds it in arguments, environment and memory of a process',
    async () => {
      const hex = secret.toString('hex');
      const program = `const kept = Buffer.from(process.argv[1], 'hex'); console.log(kept.length); setInterval(() => kept, 1e3)`;
      const child = spawn(process.execPath, ['-e', program, hex], { env: { SECRET: hex } });
      try {
        await once(child.stdout, 'data');
        const places = searchProcess(child.pid as number, search).map(
          ({ form, place }) => `${form}: ${place}`,
        );
        expect(places).toEqual(expect.arrayContaining(['hex: its environ', 'hex: its cmdline']));
        expect(places.some((place) => place.startsWith('raw: memory'))).toBe(true);
      } finally {
        child.kill('SIGKILL');
      }
    },
  );
});
