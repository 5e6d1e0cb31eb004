/**
 * ONNX Runtime reports home unless it is told not to. The engine tells it, and could not be talked to anyway;
 * here strace watches that nothing even tries. CI is not set: it would silence the telemetry by itself.
 */
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { reachableProject } from '../support/reachable.ts';

const hasStrace = spawnSync('strace', ['-f', '-o', '/dev/null', 'true']).status === 0;
const folder = join(reachableProject(), 'test', 'attacks', 'engine-telemetry');
/** The runtime's first look-up comes about ten seconds after its first session. */
const WATCH_MS = 12_000;
/** Its first files come at once. Long enough to see them, and too short for the control to call anybody. */
const CONTROL_MS = 2_000;

let scratch: string;
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), 'strongroom-telemetry-'));
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

/** The system calls of a script and its children that make sockets or files. */
async function trace(
  script: string,
  watchMs: number,
  environment: Record<string, string>,
): Promise<string[]> {
  const log = join(scratch, `${script}.${Object.keys(environment).length}.strace`);
  const watched = 'trace=socket,connect,open,openat,openat2,creat,mkdir,mkdirat,execve';
  const child = spawn(
    'strace',
    ['-f', '-qq', '-e', watched, '-o', log, process.execPath, join(folder, script), String(watchMs)],
    { env: { HOME: scratch, TMPDIR: scratch, ...environment }, stdio: ['ignore', 'inherit', 'inherit'] },
  );
  expect(await new Promise((resolve) => child.once('close', resolve))).toBe(0);
  return readFileSync(log, 'latin1').split('\n');
}

const networkCalls = (calls: readonly string[]): string[] =>
  calls.filter((call) => /socket\(AF_(INET|NETLINK)/.test(call));
/** Attempts count, whether they succeed or not. /dev/null and the nameless file of the model are no files. */
const writtenFiles = (calls: readonly string[]): string[] =>
  calls.filter(
    (call) =>
      /(O_WRONLY|O_RDWR|O_CREAT|creat\(|mkdir)/.test(call) &&
      !/"\/dev\/null"|O_TMPFILE|"\/dev\/tty"/.test(call),
  );

describe.skipIf(!hasStrace)(`the real engine${hasStrace ? '' : ' (needs strace)'}`, () => {
  it.concurrent('opens no network socket and writes no file', async () => {
    const calls = await trace('real-engine.ts', WATCH_MS, {});
    // Nobody but root may see the memory of a confined engine, and so the names of the files that it opens.
    if (process.getuid?.() === 0) expect(calls.join()).toContain('libonnxruntime.so');
    expect(networkCalls(calls)).toEqual([]);
    expect(writtenFiles(calls)).toEqual([]);
    // The model's other files are handed over as memory: nobody looks for them by their names.
    expect(calls.filter((call) => call.includes('.data"'))).toEqual([]);
  });

  it.concurrent('of text opens no network socket, writes no file, starts no program', async () => {
    const calls = await trace('real-text-engine.ts', CONTROL_MS, {});
    if (process.getuid?.() === 0) {
      expect(calls.join()).toContain('llama-addon.node');
      // It knows its model by the descriptor alone.
      expect(calls.filter((call) => /\.gguf"/.test(call))).toEqual([]);
    }
    expect(networkCalls(calls)).toEqual([]);
    expect(writtenFiles(calls)).toEqual([]);
    // The test's own process, and the engine.
    expect(calls.filter((call) => call.includes('execve('))).toHaveLength(2);
  });

  it.concurrent('is watched by a test that can fail: without the setting, the runtime begins to report', async () => {
    const calls = await trace('bare-runtime.ts', CONTROL_MS, {});
    expect(writtenFiles(calls)).not.toEqual([]);
  });

  it.concurrent('gets its silence from the setting', async () => {
    const calls = await trace('bare-runtime.ts', WATCH_MS, { ORT_DISABLE_TELEMETRY: '1' });
    expect(writtenFiles(calls)).toEqual([]);
    expect(networkCalls(calls)).toEqual([]);
  });
});
