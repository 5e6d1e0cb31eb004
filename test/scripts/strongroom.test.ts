import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { Readable, Writable } from 'node:stream';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { COMMANDS } from '../../scripts/commands.ts';
import { main } from '../../scripts/strongroom.ts';

const LAUNCHER = join(import.meta.dirname, '..', '..', 'scripts', 'strongroom.mjs');
const run = promisify(execFile);

async function strongroom(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const written = { stdout: '', stderr: '' };
  const into = (name: 'stdout' | 'stderr') =>
    new Writable({
      write(chunk, _encoding, done) {
        written[name] += String(chunk);
        done();
      },
    });
  const code = await main(args, {
    stdin: process.stdin,
    stdout: into('stdout'),
    stderr: into('stderr'),
    signal: new AbortController().signal,
  });
  return { code, ...written };
}

/** A key file in the folder where `out` is to be. */
function key(out: string): string {
  const path = join(dirname(out), 'key');
  writeFileSync(path, new Uint8Array(32), { mode: 0o600 });
  return path;
}

describe('the command line', () => {
  it('lists every command with one line each', async () => {
    const { code, stdout } = await strongroom('--help');
    expect(code).toBe(0);
    for (const name of Object.keys(COMMANDS)) expect(stdout).toMatch(new RegExp(`^  ${name} `, 'm'));
  });

  it.each(Object.keys(COMMANDS))('has help with an example and exit codes for %s', async (name) => {
    const { code, stdout } = await strongroom(...name.split(' '), '--help');
    expect(code).toBe(0);
    expect(stdout).toMatch(/^Usage: strongroom /);
    expect(stdout).toMatch(/Examples?:/);
    expect(stdout).toMatch(/Exit codes:/);
  });

  it('gives its commands the names under which they are found', async () => {
    for (const [name, load] of Object.entries(COMMANDS)) expect((await load()).command.name).toBe(name);
  });

  it('refuses an unknown command and an unknown option with exit code 2 and what to do next', async () => {
    const unknown = await strongroom('unseal');
    expect(unknown).toMatchObject({ code: 2, stdout: '' });
    expect(unknown.stderr).toMatch(/USAGE[\s\S]*next: /);
    expect(await strongroom('demo', '--fast')).toMatchObject({ code: 2, stdout: '' });
  });

  it('reports an error as one JSON document when asked for JSON', async () => {
    const { code, stdout, stderr } = await strongroom('attestation', 'verify', '/nowhere/document', '--json');
    expect(code).toBe(2);
    expect(stderr).toBe('');
    expect(JSON.parse(stdout)).toMatchObject({ error: { code: 'INPUT_UNREADABLE' } });
  });

  it('names the commands that begin with a word that is none alone', async () => {
    const names = Object.keys(COMMANDS).filter((name) => name.startsWith('policy '));
    expect(names.length).toBeGreaterThan(1);
    expect((await strongroom('policy')).stderr).toContain(`There are: ${names.join(', ')}.`);
  });

  it('names a folder where a file is expected', async () => {
    const folder = import.meta.dirname;
    for (const line of [
      ['ask', 'https://127.0.0.1:1', '--expect', folder, '--model', 'm', '--input', '-'],
      ['simulate', folder, '--name', 'x'],
    ]) {
      const { code, stdout, stderr } = await strongroom(...line, '--json');
      expect({ code, stderr }).toEqual({ code: 2, stderr: '' });
      const { error } = JSON.parse(stdout);
      expect(error).toMatchObject({ code: 'INPUT_UNREADABLE', message: expect.stringContaining(folder) });
    }
  });

  it('says that a result cannot be written where its hidden file cannot be made', async () => {
    // A name so long that the hidden one beside it exceeds what a file system takes.
    const bundle = join(mkdtempSync(join(tmpdir(), 'sr-')), 'x'.repeat(220));
    const line = [
      'seal',
      '--format',
      'encmodel',
      '--key-file',
      key(bundle),
      '-o',
      bundle,
      LAUNCHER,
      '--json',
    ];
    const { code, stdout } = await strongroom(...line);
    rmSync(dirname(bundle), { recursive: true });
    expect({ code, ...JSON.parse(stdout) }).toMatchObject({ code: 2, error: { code: 'OUTPUT_UNWRITABLE' } });
  });

  it('reports what nobody foresaw as one JSON document too', async () => {
    const stdin = Object.assign(new Readable({ read() {} }), { isTTY: false });
    stdin.destroy(new RangeError('out of luck'));
    const written: string[] = [];
    const stdout = new Writable({
      write(chunk, _encoding, done) {
        written.push(String(chunk));
        done();
      },
    });
    const line = ['attestation', 'verify', '-', '--json'];
    const io = { stdin, stdout, stderr: stdout, signal: new AbortController().signal };
    expect(await main(line, io)).toBe(2);
    expect(JSON.parse(written.join(''))).toMatchObject({
      error: { code: 'UNEXPECTED', message: 'out of luck' },
    });
  });

  it('is started by any Node, and runs on the pinned one with its exit code', async () => {
    const { stdout } = await run(process.execPath, [LAUNCHER, '--help']);
    expect(stdout).toContain('Usage: strongroom');
    await expect(run(process.execPath, [LAUNCHER, 'unseal'])).rejects.toMatchObject({ code: 2 });
  });
});
