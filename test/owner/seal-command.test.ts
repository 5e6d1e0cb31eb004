import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

const STRONGROOM = join(import.meta.dirname, '../../scripts/strongroom.ts');
/** What npx starts: it finds the pinned Node and runs the other with it. */
const STRONGROOM_BIN = join(import.meta.dirname, '../../scripts/strongroom.mjs');

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'strongroom-seal-'));
  writeFileSync(join(folder, 'data.key'), randomBytes(32), { mode: 0o600 });
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function seal(...more: string[]): ChildProcess {
  const options = ['--name', 'iris', '--version', '1', '--key-file', 'data.key', '-o', 'iris.sealed'];
  return spawn(process.execPath, [STRONGROOM, 'seal', ...options, ...more], { cwd: folder });
}

async function finish(child: ChildProcess): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const texts = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const)
    child[name]?.on('data', (piece) => (texts[name] += piece));
  const [code] = await once(child, 'close');
  return { code, ...texts };
}

const sealed = (): string[] => readdirSync(folder).filter((name) => name.includes('iris.sealed'));

async function untilSealing(): Promise<void> {
  for (let tries = 0; tries < 5000 && sealed().length === 0; tries++) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  expect(sealed()).toHaveLength(1);
}

describe('strongroom seal', () => {
  it('seals a file, prints one JSON document, and shows no progress when piped', async () => {
    writeFileSync(join(folder, 'model.onnx'), randomBytes(5000));
    const { code, stdout, stderr } = await finish(seal('--json', 'model.onnx'));
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(JSON.parse(stdout)).toMatchObject({
      folder: 'iris.sealed',
      manifest: { name: 'iris', format: 'onnx' },
    });
    expect(readdirSync(join(folder, 'iris.sealed')).sort()).toEqual(['head', 'manifest.json', 'payload']);

    const again = await finish(seal('model.onnx'));
    expect(again.code).toBe(2);
    expect(again.stderr).toContain('OWNER_WOULD_OVERWRITE');
  });

  it('seals a pipe', async () => {
    const child = seal('--as', 'model.onnx', '-');
    child.stdin?.end(randomBytes(100_000));
    expect((await finish(child)).code).toBe(0);
  });

  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    it(`leaves nothing after ${signal}`, async () => {
      const child = seal('--as', 'model.onnx', '-');
      child.stdin?.on('error', () => {});
      child.stdin?.write(randomBytes(3 << 20));
      await untilSealing();
      child.kill(signal);
      const { code, stderr } = await finish(child);
      expect({ code, stderr }).toMatchObject({ code: 3, stderr: expect.stringContaining('SEALED_ABORTED') });
      expect(sealed()).toEqual([]);
    });
  }

  it('leaves nothing under the final name when it is killed', async () => {
    const child = seal('--as', 'model.onnx', '-');
    child.stdin?.on('error', () => {});
    child.stdin?.write(randomBytes(3 << 20));
    await untilSealing();
    child.kill('SIGKILL');
    await finish(child);
    expect(sealed().every((name) => name.startsWith('.iris.sealed.partial-'))).toBe(true);

    writeFileSync(join(folder, 'model.onnx'), randomBytes(5000));
    const next = await finish(seal('model.onnx'));
    expect(next).toMatchObject({
      code: 0,
      stderr: expect.stringMatching(/^removed .*\.partial-.*ciphertext/),
    });
    expect(sealed()).toEqual(['iris.sealed']);
  });

  it('leaves alone, and names, what another seal is writing or what was left elsewhere', async () => {
    const elsewhere = '.iris.sealed.partial-00000000-1-1-000000000000';
    mkdirSync(join(folder, elsewhere));
    const child = seal('--as', 'model.onnx', '-');
    child.stdin?.on('error', () => {});
    child.stdin?.write(randomBytes(3 << 20));
    for (let tries = 0; tries < 5000 && sealed().length < 2; tries++) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    const running = sealed().find((name) => name !== elsewhere) as string;
    writeFileSync(join(folder, 'model.onnx'), randomBytes(5000));
    const next = await finish(seal('model.onnx'));
    expect(next.code).toBe(0);
    expect(next.stderr).toContain(`another seal is writing ${join(folder, running)}`);
    expect(next.stderr).toContain(`${join(folder, elsewhere)} (ciphertext) was left`);
    expect(sealed().sort()).toEqual([elsewhere, running, 'iris.sealed'].sort());

    child.stdin?.end();
    expect(await finish(child)).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('OWNER_WOULD_OVERWRITE'),
    });
    expect(sealed().sort()).toEqual([elsewhere, 'iris.sealed'].sort());
  });

  it('cleans up although a supervisor signals both the process group and its first process', async () => {
    const options = ['--name', 'iris', '--version', '1', '--key-file', 'data.key', '-o', 'iris.sealed'];
    const child = spawn(process.execPath, [STRONGROOM_BIN, 'seal', ...options, '--as', 'm.onnx', '-'], {
      cwd: folder,
      detached: true,
    });
    child.stdin.on('error', () => {});
    child.stdin.write(randomBytes(3 << 20));
    await untilSealing();
    process.kill(-(child.pid as number), 'SIGTERM');
    child.kill('SIGTERM');
    expect(await finish(child)).toMatchObject({ code: 3 });
    expect(sealed()).toEqual([]);
  });

  it('leaves nothing when there is no room, and says so in one JSON document', async () => {
    writeFileSync(join(folder, 'model.onnx'), randomBytes(3 << 20));
    const options = '--name iris --version 1 --key-file data.key -o iris.sealed --json model.onnx';
    const line = `ulimit -f 1000; exec "${process.execPath}" "${STRONGROOM}" seal ${options}`;
    const { code, stdout, stderr } = await finish(spawn('bash', ['-c', line], { cwd: folder }));
    expect({ code, stderr }).toEqual({ code: 2, stderr: '' });
    expect(JSON.parse(stdout)).toMatchObject({ error: { code: 'OUTPUT_UNWRITABLE' } });
    expect(sealed()).toEqual([]);
  });

  it.each([
    ['a folder as key', ['--sign', '.'], 2, 'OWNER_KEY_UNUSABLE'],
    ['a model as key', ['--recovery-key', 'model.onnx'], 2, 'OWNER_KEY_UNUSABLE'],
    ['a private key to publish with', ['--recovery-key', 'open.pem'], 2, 'OWNER_KEY_UNUSABLE'],
    ['a key that others may read', ['--sign', 'open.pem'], 1, 'OWNER_KEY_EXPOSED'],
    ['a key that is not there', ['--sign', 'none.pem'], 2, 'INPUT_UNREADABLE'],
    ['an unknown option', ['--wat'], 2, 'USAGE'],
    ['a pipe beside files', ['-'], 2, 'USAGE'],
    ['a folder that holds a link', ['--format', 'raw'], 2, 'OWNER_INPUT_UNUSABLE', 'linked'],
    ['a folder that would hold the output', ['--format', 'raw'], 2, 'OWNER_INPUT_UNUSABLE', '.'],
    ['a file without a byte', [], 2, 'OWNER_INPUT_UNUSABLE', 'empty.onnx'],
  ] as const)('refuses %s, and leaves nothing', async (_what, options, exit, code, input?: string) => {
    writeFileSync(join(folder, 'model.onnx'), randomBytes(100_000));
    writeFileSync(join(folder, 'empty.onnx'), '');
    writeFileSync(join(folder, 'open.pem'), '-----BEGIN PRIVATE KEY-----\n', { mode: 0o644 });
    mkdirSync(join(folder, 'linked'));
    symlinkSync('../model.onnx', join(folder, 'linked/model.onnx'));
    const result = await finish(seal(...options, '--json', input ?? 'model.onnx'));
    expect(result).toMatchObject({ code: exit, stderr: '' });
    expect(JSON.parse(result.stdout)).toMatchObject({ error: { code } });
    expect(sealed()).toEqual([]);
  });

  it('removes the folders that it had made for its output', async () => {
    writeFileSync(join(folder, 'empty.onnx'), '');
    const { code } = await finish(seal('-o', 'deep/er/iris.sealed', 'empty.onnx'));
    expect(code).toBe(2);
    expect(existsSync(join(folder, 'deep'))).toBe(false);
  });

  it('says what is missing', async () => {
    expect(await finish(seal())).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('seal needs files'),
    });
    expect(await finish(seal('-'))).toMatchObject({ code: 2, stderr: expect.stringContaining('--as') });
  });
});
