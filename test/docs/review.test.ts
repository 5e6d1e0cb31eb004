/** The commands of docs/review.md, run as they stand there, on what a simulation hands to a reviewer. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const PROJECT = join(import.meta.dirname, '..', '..');
const PAGE = readFileSync(join(PROJECT, 'docs', 'review.md'), 'utf8');
/** Lines of the page that begin with the command itself: those that need no image file. */
const LINES = [...PAGE.matchAll(/^ {4}(strongroom .*)$/gm)].map(([, line = '']) => line);

describe('docs/review.md', () => {
  let out: string;
  let simulation: ChildProcess;
  beforeAll(async () => {
    out = mkdtempSync(join(tmpdir(), 'strongroom-review-'));
    writeFileSync(
      join(out, 'strongroom'),
      `#!/bin/sh\nexec '${process.execPath}' '${join(PROJECT, 'scripts/strongroom.ts')}' "$@"\n`,
      { mode: 0o755 },
    );
    simulation = spawn(process.execPath, ['scripts/strongroom.ts', 'simulate', '--folder', out], {
      cwd: PROJECT,
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    for await (const piece of simulation.stdout as AsyncIterable<Buffer>)
      if (/Ctrl-C/.test(String(piece))) break;
    simulation.kill('SIGINT');
    await once(simulation, 'exit');
  });
  afterAll(() => {
    simulation?.kill('SIGKILL');
    rmSync(out, { recursive: true, force: true });
  });

  it('has its commands in the order in which they work', async () => {
    expect(LINES.map((line) => line.split(' ').slice(1, 3).join(' '))).toEqual([
      'policy review',
      'attestation verify',
      'keygen --only',
      'evidence bundle',
      'evidence verify',
    ]);
    const printed: string[] = [];
    for (const line of LINES) {
      const { stdout } = await promisify(execFile)('sh', ['-c', line], {
        cwd: join(out, 'review'),
        env: { ...process.env, PATH: `${out}:${process.env.PATH}` },
      });
      printed.push(stdout);
    }
    const [review = '', attestation, , bundle, verified] = printed;
    expect(PAGE).toContain(`    ${review.split('\n')[0]}\n`);
    expect(attestation).toContain('Genuine: trust simulation.');
    expect(bundle).toContain('[x] 7.2');
    expect(verified).toMatch(/^In order at .*, IN SIMULATION: /);
    expect(verified).toContain('[x] 3.2');
  });

  it('names every file that a reviewer is handed', () => {
    for (const name of ['image', 'deployment', 'policy', 'context', 'release', 'manifest']) {
      expect(PAGE).toContain(`\`${name}.json\``);
      expect(() => JSON.parse(readFileSync(join(out, 'review', `${name}.json`), 'utf8'))).not.toThrow();
    }
  });
});
