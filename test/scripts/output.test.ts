/** The command line as a process: what becomes of its outputs, and of its work when the terminal closes. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

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

describe('a terminal that closes', () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'sr-'));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  it.each(['strongroom.ts', 'strongroom.mjs'])(
    'leaves nothing of a seal behind (%s)',
    async (entry) => {
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
      child.kill('SIGHUP');
      expect(await once(child, 'exit')).toEqual([3, null]);
      expect(await told).toContain('code: ');
      expect(readdirSync(folder)).toEqual(['key']);
    },
    60_000,
  );
});
