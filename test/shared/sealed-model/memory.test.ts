import { type ChildProcess, spawn } from 'node:child_process';
import { hkdfSync } from 'node:crypto';
import { closeSync, mkdtempSync, openSync, readFileSync, readSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PRODUCTION_SIZES } from '../../../shared/sealed-model/format.ts';
import { keyInfo, withKeySchedule } from '../../../shared/sealed-model/keys.ts';
import { bytesOf, sealBytes, type TestSeal } from './seals.ts';

const HARDENED = ['--disallow-code-generation-from-strings', '--disable-proto=delete'];

let folder = '';
let seal: TestSeal;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'strongroom-memory-'));
  seal = await sealBytes(bytesOf((80 << 20) + 1), { sizes: PRODUCTION_SIZES });
  writeFileSync(join(folder, 'head'), seal.sealed.head);
  writeFileSync(join(folder, 'payload'), new Uint8Array(seal.payload));
  writeFileSync(
    join(folder, 'masked'),
    seal.dataKey.map((byte) => byte ^ 0xa5),
  );
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Which of the needles stand anywhere in the memory of a process. */
function search(pid: number, needles: Readonly<Record<string, Uint8Array>>): string[] {
  const found = new Set<string>();
  const memory = openSync(`/proc/${pid}/mem`, 'r');
  const piece = Buffer.alloc(8 << 20);
  try {
    for (const line of readFileSync(`/proc/${pid}/maps`, 'utf8').split('\n')) {
      const range = /^([0-9a-f]+)-([0-9a-f]+) r/.exec(line);
      if (range === null || line.includes('[v')) continue;
      const end = Number.parseInt(range[2] as string, 16);
      // Pieces overlap by a needle's length, so that none is cut in two.
      for (let at = Number.parseInt(range[1] as string, 16); at < end; at += piece.length - 64) {
        let length = 0;
        try {
          length = readSync(memory, piece, 0, Math.min(piece.length, end - at), at);
        } catch {
          break; // A mapping that cannot be read, or is gone by now.
        }
        const bytes = piece.subarray(0, length);
        for (const [name, needle] of Object.entries(needles))
          if (bytes.includes(Buffer.from(needle.buffer, needle.byteOffset, needle.length))) found.add(name);
      }
    }
  } finally {
    closeSync(memory);
    piece.fill(0);
  }
  return [...found].sort();
}

function canLookIntoChildren(): boolean {
  try {
    closeSync(openSync('/proc/self/mem', 'r'));
    return process.getuid?.() === 0;
  } catch {
    return false;
  }
}

describe('keys in the memory of the process that opens', () => {
  it.skipIf(!canLookIntoChildren())(
    'are there while they are needed and nowhere once the model is open (needs root, to look into a process)',
    async () => {
      const child = spawn(
        process.execPath,
        [
          ...HARDENED,
          join(import.meta.dirname, 'memory-child.ts'),
          ...['head', 'payload', 'masked'].map((name) => join(folder, name)),
        ],
        { stdio: ['pipe', 'pipe', 'inherit'] },
      );
      const stages = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
      const next = async (name: string): Promise<ChildProcess> => {
        expect((await stages.next()).value).toBe(name);
        return child;
      };
      const payloadKey = new Uint8Array(32);
      withKeySchedule(seal.dataKey, seal.head.parts.salt, seal.head.context, (keys) =>
        keys.payloadKeys(payloadKey),
      );
      const info = keyInfo('header', seal.head.context);
      const headerKey = new Uint8Array(hkdfSync('sha512', seal.dataKey, seal.head.parts.salt, info, 32));
      const needles = {
        dataKey: seal.dataKey,
        headerKey,
        payloadKey,
        weights: seal.image.subarray(1000, 1032),
      };
      const look = (): string[] => search(child.pid as number, needles);

      await next('key');
      expect(look()).toEqual(['dataKey']);
      child.stdin.write('\n');
      await next('opening');
      expect(look()).toEqual(expect.arrayContaining(['payloadKey', 'weights']));
      child.stdin.write('\n');
      await next('open');
      expect(look()).toEqual(['weights']);
      child.stdin.end('\n');
      await new Promise((resolve) => child.once('exit', resolve));
      expect(child.exitCode).toBe(0);
    },
  );
});
