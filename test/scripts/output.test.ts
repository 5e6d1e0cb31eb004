/** The command line as a process: what becomes of its outputs, and of its work when the terminal ends it. */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { promisify } from 'node:util';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';

const SCRIPTS = join(import.meta.dirname, '..', '..', 'scripts');
const MAIN = join(SCRIPTS, 'strongroom.ts');
const HELP = ['keygen', '--help'];

describe('results that do not arrive', () => {
  let full: number;
  beforeEach(() => {
    full = openSync('/dev/full', 'w');
  });
  afterEach(() => closeSync(full));

  it.each([
    ['a help text', HELP],
    ['an error in JSON', ['unseal', '--json']],
  ])('are no success: %s on a full disk', async (_what, args) => {
    const child = spawn(process.execPath, [MAIN, ...args], { stdio: ['ignore', full, 'pipe'] });
    const [told, [code]] = await Promise.all([text(child.stderr as never), once(child, 'exit')]);
    expect(code).toBe(2);
    expect(told).toMatch(/ENOSPC[\s\S]*code: OUTPUT_UNWRITABLE\n {2}next: /);
    expect(told.match(/code: /g)).toHaveLength(1);
  });

  it('are nothing to complain of when the reader has left', async () => {
    const child = spawn(process.execPath, [MAIN, ...HELP], { stdio: ['ignore', 'pipe', 'pipe'] });
    child.stdout.destroy();
    const [told, [code]] = await Promise.all([text(child.stderr), once(child, 'exit')]);
    expect({ told, code }).toEqual({ told: '', code: 0 });
  });

  it('do not change the exit code where only what was said to a person is lost', async () => {
    const child = spawn(process.execPath, [MAIN, 'unseal'], { stdio: ['ignore', 'ignore', full] });
    expect(await once(child, 'exit')).toEqual([2, null]);
  });
});

describe('a model that is opened into a file', () => {
  let folder: string;
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'sr-'));
    writeFileSync(join(folder, 'key'), new Uint8Array(32), { mode: 0o600 });
    writeFileSync(join(folder, 'm.onnx'), new Uint8Array(6_000).fill(7));
    const line = 'seal --name m --version 1 --key-file key -o m.sealed m.onnx'.split(' ');
    await promisify(execFile)(process.execPath, [MAIN, ...line], { cwd: folder });
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  // A limit on the file's size cuts a write short just as a full disk does.
  it.each([
    { limitKib: 4, code: 2, sizeBytes: 4_096 },
    { limitKib: 8, code: 0, sizeBytes: 6_000 },
  ])('is whole, or an error is told: $limitKib KiB of room', async ({ limitKib, code, sizeBytes }) => {
    const shell = `ulimit -f ${limitKib}; exec "$0" "$1" open m.sealed --key-file key -o - > out`;
    const child = spawn('bash', ['-c', shell, process.execPath, MAIN], {
      cwd: folder,
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    const [told, [ended]] = await Promise.all([text(child.stderr), once(child, 'exit')]);
    expect({ ended, sizeBytes: statSync(join(folder, 'out')).size }).toEqual({ ended: code, sizeBytes });
    expect(told).toMatch(code === 0 ? /^$/ : /EFBIG[\s\S]*code: OUTPUT_UNWRITABLE/);
  });
});

describe('a terminal that closes, or asks for a core file', () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'sr-'));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  it.each([
    ['SIGHUP', 'strongroom.ts'],
    ['SIGHUP', 'strongroom.mjs'],
    ['SIGQUIT', 'strongroom.ts'],
  ] as const)(
    'leaves nothing of a seal behind, nor a core file: %s to %s',
    async (signal, entry) => {
      writeFileSync(join(folder, 'key'), new Uint8Array(32), { mode: 0o600 });
      const line = 'seal --name m --version 1 --as m.onnx --key-file key -o out/m.sealed -'.split(' ');
      const child = spawn(process.execPath, [join(SCRIPTS, entry), ...line], {
        cwd: folder,
        stdio: ['pipe', 'ignore', 'pipe'],
      });
      const told = text(child.stderr);
      child.stdin.write('the beginning of a model');
      await expect.poll(() => readdirSync(folder), { timeout: 30_000 }).toContain('out');
      await expect.poll(() => readdirSync(join(folder, 'out')), { timeout: 30_000 }).toHaveLength(1);
      child.kill(signal);
      expect(await once(child, 'exit')).toEqual([3, null]);
      expect(await told).toContain('code: ');
      expect(readdirSync(folder)).toEqual(['key']);
    },
    60_000,
  );
});
