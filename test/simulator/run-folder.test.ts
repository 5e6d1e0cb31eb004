import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createRunFolder, refuseClosedFolder, removeLeftovers } from '../../simulator/run-folder.ts';

let parent: string;
beforeEach(() => {
  parent = mkdtempSync(join(tmpdir(), 'strongroom-runs-'));
});
afterEach(() => rmSync(parent, { recursive: true, force: true }));

const NOW = new Date();

describe('the folder of a run', () => {
  it('goes with everything in it, read-only folders included', () => {
    const run = createRunFolder({ parent, now: NOW });
    mkdirSync(join(run.path, 'a/b'), { recursive: true });
    writeFileSync(join(run.path, 'a/b/c'), '');
    for (const path of ['a/b/c', 'a/b', 'a']) chmodSync(join(run.path, path), 0o555);
    run.remove();
    expect(existsSync(run.path)).toBe(false);
    run.remove();
  });

  it('is left alone by other runs while its process lives', () => {
    const run = createRunFolder({ parent, now: NOW });
    createRunFolder({ parent, now: new Date(NOW.getTime() + 86_400_000) });
    expect(existsSync(run.path)).toBe(true);
  });

  it('is removed by the next run when its process was killed', async () => {
    const module = join(import.meta.dirname, '../../simulator/run-folder.ts');
    const script = `import { createRunFolder } from ${JSON.stringify(module)};
      console.log(createRunFolder({ parent: ${JSON.stringify(parent)}, now: new Date() }).path); setInterval(() => {}, 1000);`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const path = String((await once(child.stdout, 'data'))[0]).trim();
    removeLeftovers(parent, NOW);
    expect(existsSync(path)).toBe(true);
    child.kill('SIGKILL');
    await once(child, 'exit');
    removeLeftovers(parent, NOW);
    expect(existsSync(path)).toBe(false);
  });

  it('is not saved by a new process that got the same pid', () => {
    const path = join(parent, 'strongroom-run-reused');
    mkdirSync(path);
    writeFileSync(join(path, 'owner'), `${process.pid} 1\n`);
    removeLeftovers(parent, NOW);
    expect(existsSync(path)).toBe(false);
  });

  it('has a minute to name its owner', () => {
    const path = join(parent, 'strongroom-run-young');
    mkdirSync(path);
    removeLeftovers(parent, NOW);
    expect(existsSync(path)).toBe(true);
    utimesSync(path, new Date(0), new Date(NOW.getTime() - 61_000));
    removeLeftovers(parent, NOW);
    expect(existsSync(path)).toBe(false);
  });

  it('is nothing else: other names and links stay', () => {
    mkdirSync(join(parent, 'other'));
    symlinkSync(join(parent, 'other'), join(parent, 'strongroom-run-link'));
    removeLeftovers(parent, new Date(NOW.getTime() + 86_400_000));
    expect(existsSync(join(parent, 'strongroom-run-link'))).toBe(true);
    expect(existsSync(join(parent, 'other'))).toBe(true);
  });
});

describe.runIf(process.getuid?.() === 0)('a temporary folder, as root', () => {
  it('is refused when the uids of engines cannot enter it', () => {
    const inner = join(parent, 'inner');
    mkdirSync(inner);
    chmodSync(parent, 0o711);
    refuseClosedFolder(inner);
    chmodSync(parent, 0o700);
    expect(() => refuseClosedFolder(inner)).toThrow(
      expect.objectContaining({ code: 'SIMULATION_FOLDER_CLOSED' }),
    );
  });
});
