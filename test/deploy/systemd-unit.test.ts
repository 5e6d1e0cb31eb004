import { execFile, execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';

const ROOT = join(import.meta.dirname, '..', '..');
const unit = readFileSync(join(ROOT, 'deploy', 'strongroom.service'), 'utf8');
const setting = (name: string): string => new RegExp(`^${name}=(.*)$`, 'm').exec(unit)?.[1] ?? '';

describe('the systemd unit', () => {
  it.skipIf(!hasSystemd())('is one that systemd understands (needs systemd-analyze)', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'sr-unit-'));
    try {
      const allocator = '[Service]\nType=oneshot\nExecStart=/bin/true\n';
      writeFileSync(join(folder, 'nitro-enclaves-allocator.service'), allocator);
      const installed = unit.replaceAll('/opt/strongroom', ROOT);
      writeFileSync(join(folder, 'strongroom.service'), installed);
      const run = promisify(execFile)('systemd-analyze', ['verify', join(folder, 'strongroom.service')], {
        env: { ...process.env, SYSTEMD_UNIT_PATH: `${folder}:` },
      });
      const { stderr } = await run.catch((error: { stderr: string }) => error);
      const ours = stderr.split('\n').filter((line) => line.includes('strongroom.service'));
      // A machine without the manual pages or users says so; an error in the unit names its line.
      expect(ours.filter((line) => /:\d+:|Unknown|not executable|not found/.test(line))).toEqual([]);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it('waits longer for the end than drain, a start under way and the termination take', () => {
    const drainSeconds = 30;
    const startGraceSeconds = 20;
    const terminateSeconds = 60;
    expect(Number(setting('TimeoutStopSec'))).toBeGreaterThan(
      drainSeconds + startGraceSeconds + terminateSeconds,
    );
  });

  it('signals the parent alone, and takes what is left with it', () => {
    expect(setting('KillMode')).toBe('mixed');
    expect(setting('KillSignal')).toBe('SIGTERM');
    expect(setting('Restart')).toBe('on-failure');
    expect(setting('RestartForceExitStatus')).toBe('SIGHUP');
  });

  it('names files of this project', () => {
    const [, ...words] = setting('ExecStart').split(' ');
    expect(words[0]).toBe('/opt/strongroom/scripts/strongroom.ts');
    expect(readFileSync(join(ROOT, 'scripts/strongroom.ts'), 'utf8')).not.toBe('');
  });
});

function hasSystemd(): boolean {
  try {
    execFileSync('systemd-analyze', ['--version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}
