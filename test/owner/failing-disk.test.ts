/**
 * A disk that fails in the middle, for each command that reads or writes a whole model: the kernel answers one call with
 * an error (strace). The command says so and ends as failed, and every file is as it was.
 */
import { createHash, randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { canTrace, type Program, refusing, start } from './kills.ts';

const MODEL_BYTES = 12 << 20;
const TIMEOUT_MS = 120_000;
let folder = '';

const program = (line: string): Program => ({
  args: line.split(' '),
  cwd: folder,
  env: { PATH: process.env.PATH, HOME: folder, UV_THREADPOOL_SIZE: '1' },
});

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'strongroom-disk-'));
  for (const name of ['data.key', 'next.key'])
    writeFileSync(join(folder, name), randomBytes(32), { mode: 0o600 });
  mkdirSync(join(folder, 'store'));
  writeFileSync(join(folder, 'model.onnx'), randomBytes(MODEL_BYTES));
  for (const line of [
    'keygen -o keys',
    'seal --name iris --version 1 --key-file data.key --sign keys/signing.key.pem -o iris.sealed model.onnx',
    'seal --format encmodel --key-file data.key -o iris.enc model.onnx',
    'publish iris.sealed --to store',
  ]) {
    expect(await start(program(line)).ended).toMatchObject({ code: 0 });
  }
}, TIMEOUT_MS);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Every name below the folder with its digest. */
function everything(): string {
  const names = readdirSync(folder, { recursive: true, withFileTypes: true });
  const lines = names.map((entry) => {
    const path = join(entry.parentPath, entry.name);
    const digest = entry.isFile() ? createHash('sha256').update(readFileSync(path)).digest('hex') : '';
    return `${path} ${digest}`;
  });
  return lines.sort().join('\n');
}

const COMMANDS = {
  seal: 'seal --name iris --version 1 --key-file data.key -o out.sealed model.onnx',
  open: 'open iris.sealed --key-file data.key -o out',
  reseal:
    'reseal iris.sealed --key-file data.key --new-key-file next.key --sign keys/signing.key.pem -o out.sealed',
  publish: 'publish iris.sealed --to other/place',
  fetch: 'fetch store/iris.sealed -o out.sealed',
  'seal --format encmodel': 'seal --format encmodel --key-file data.key -o out.enc model.onnx',
  'open of an ENCMODEL': 'open iris.enc --key-file data.key -o out.onnx',
  convert:
    'convert iris.enc --legacy-key-file data.key --as model.onnx --name iris --version 1 --key-file next.key -o out.sealed',
};

const READS = 'pread64,?readv,?preadv';
const WRITES = 'pwrite64,?writev,?pwritev';
const FAULTS: readonly (readonly [what: string, calls: string, fault: string])[] = [
  ['cannot be read in the middle', READS, 'EIO:when=3'],
  ['is full in the middle', WRITES, 'ENOSPC:when=3'],
  ['cannot keep what was written', 'fsync', 'EIO:when=1'],
];

describe.runIf(canTrace)(`a disk that fails${canTrace ? '' : ' (skipped: needs strace)'}`, () => {
  for (const [what, calls, fault] of FAULTS) {
    it.each(Object.entries(COMMANDS))(
      `and ${what} ends %s with an error, and leaves nothing`,
      async (_name, line) => {
        const before = everything();
        const { code, stderr } = await start(program(line), refusing({ [calls]: fault })).ended;
        expect({ code, stderr }).toEqual({
          code: expect.toSatisfy((value: number) => value > 0),
          stderr: expect.not.stringContaining('USAGE'),
        });
        expect(everything()).toBe(before);
      },
      TIMEOUT_MS,
    );
  }

  it(
    'is no verified model',
    async () => {
      const line = 'verify iris.sealed --key-file data.key';
      expect(await start(program(line)).ended).toMatchObject({ code: 0 });
      const { code } = await start(program(line), refusing({ [READS]: 'EIO:when=3' })).ended;
      expect(code).toBeGreaterThan(0);
    },
    TIMEOUT_MS,
  );
});
