import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

const STRONGROOM = join(import.meta.dirname, '../../scripts/strongroom.ts');

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
  for (let tries = 0; tries < 2000 && sealed().length === 0; tries++) {
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
  });

  it('says what is missing', async () => {
    expect(await finish(seal())).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('seal needs files'),
    });
    expect(await finish(seal('-'))).toMatchObject({ code: 2, stderr: expect.stringContaining('--as') });
  });
});
