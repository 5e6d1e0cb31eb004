/** `inspect`, `verify`, `open`, `exec`, `sign --oms` and `seal --format encmodel|envmodel` as they are typed. */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CreateKeyCommand } from '@aws-sdk/client-kms';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { writeOwnerKeys } from '../../../owner/keygen.ts';
import { flip } from '../../owner/sealed-folders.ts';
import { admin, principal, role, type Stand, startStand } from '../../simulator/kms/support.ts';
import { eventually } from '../../support/eventually.ts';

const STRONGROOM = join(import.meta.dirname, '../../../scripts/strongroom.ts');
const owner = principal(role('Owner'), { sessionToken: 'token' });
const model = randomBytes(3_000_000);
const config = Buffer.from('{"layers":3}');
const MARK = randomBytes(16).toString('hex');

let stand: Stand;
let folder: string;
let place: string;
let keyArn: string;

interface Finished {
  readonly code: number | null;
  readonly stdout: Buffer;
  readonly stderr: string;
}

function start(line: string, before = ''): ChildProcess {
  const command = `${before} exec "${process.execPath}" "${STRONGROOM}" ${line}`;
  return spawn('bash', ['-c', command], {
    cwd: folder,
    stdio: ['pipe', 'pipe', 'pipe'],
    env: {
      PATH: process.env.PATH,
      HOME: folder,
      MARK,
      AWS_EC2_METADATA_DISABLED: 'true',
      AWS_ACCESS_KEY_ID: owner.accessKeyId,
      AWS_SECRET_ACCESS_KEY: owner.secretAccessKey,
      AWS_SESSION_TOKEN: owner.sessionToken,
    },
  });
}

async function finish(child: ChildProcess): Promise<Finished> {
  const pieces = { stdout: [] as Buffer[], stderr: [] as Buffer[] };
  for (const name of ['stdout', 'stderr'] as const)
    child[name]?.on('data', (piece) => pieces[name].push(piece));
  const [code] = await once(child, 'close');
  return { code, stdout: Buffer.concat(pieces.stdout), stderr: Buffer.concat(pieces.stderr).toString() };
}

const strongroom = (line: string, before?: string): Promise<Finished> => finish(start(line, before));

beforeAll(async () => {
  stand = await startStand([admin, owner]);
  folder = mkdtempSync(join(tmpdir(), 'strongroom-tools-'));
  const allow = (arn: string, Action: string | string[]) => ({
    Effect: 'Allow',
    Principal: { AWS: arn },
    Action,
    Resource: '*',
  });
  const Statement = [
    allow(admin.arn, 'kms:*'),
    allow(owner.arn, ['kms:DescribeKey', 'kms:Encrypt', 'kms:Decrypt']),
  ];
  const Policy = JSON.stringify({ Version: '2012-10-17', Statement });
  const { KeyMetadata } = await stand.client(admin).send(new CreateKeyCommand({ Policy }));
  keyArn = KeyMetadata?.Arn as string;
  const { port, caCertificatePem } = stand.kms;
  place = `--kms-endpoint https://127.0.0.1:${port} --kms-ca kms-root.pem`;
  writeFileSync(join(folder, 'kms-root.pem'), caCertificatePem);
  await writeOwnerKeys(join(folder, 'keys'), ['signing', 'recovery']);
  writeFileSync(join(folder, 'data.key'), randomBytes(32), { mode: 0o600 });
  mkdirSync(join(folder, 'plain'));
  writeFileSync(join(folder, 'plain/model.onnx'), model);
  writeFileSync(join(folder, 'plain/config.json'), config);
  const keys = `--kms-key ${keyArn} ${place} --recovery-key keys/recovery.pub.pem --sign keys/signing.key.pem`;
  const sealed = await strongroom(
    `seal --name iris --version 3 --key-file data.key ${keys} -o iris.sealed plain`,
  );
  if (sealed.code !== 0) throw new Error(sealed.stderr);
});
afterAll(async () => {
  for (const pid of processesOf('')) process.kill(pid, 'SIGKILL'); // commands of tests that failed
  await stand?.close();
  rmSync(folder, { recursive: true, force: true });
});

describe('strongroom inspect', () => {
  it('shows what is claimed, and marks what the signer vouches for', async () => {
    const claimed = await strongroom('inspect iris.sealed');
    expect(claimed).toMatchObject({ code: 0, stderr: '' });
    const text = claimed.stdout.toString();
    for (const shown of ['iris version 3', 'onnx', 'model.onnx', keyArn, 'strongroom-context', '[ ] name']) {
      expect(text).toContain(shown);
    }
    expect(text).not.toContain('[x]');
    const vouched = (await strongroom('inspect iris.sealed --signer keys/signing.pub.pem')).stdout.toString();
    expect(vouched).toContain('[x] name');
    expect(vouched).toContain('[ ] data key wrapped by 1 KMS key');

    const { stdout } = await strongroom('inspect iris.sealed --json');
    expect(JSON.parse(stdout.toString())).toMatchObject({
      kind: 'sealed-model',
      vouchedFor: false,
      name: 'iris',
      payloadFoundBytes: JSON.parse(stdout.toString()).payloadSizeBytes,
      files: [{ path: 'config.json' }, { path: 'model.onnx', sizeBytes: model.length }],
      wraps: [{ keyArn }],
    });
  });

  it('shows a legacy model, and refuses another signer and what is no model', async () => {
    await strongroom('seal --format encmodel --key-file data.key --aad iris:3 -o shown.enc plain/model.onnx');
    const legacy = await strongroom('inspect shown.enc');
    expect(legacy.stdout.toString()).toMatch(/layout ENCMODEL[\s\S]*opening needs --aad/);
    await strongroom('keygen -o others');
    const other = await strongroom('inspect iris.sealed --signer others/signing.pub.pem --json');
    expect(other.code).toBe(1);
    expect(JSON.parse(other.stdout.toString())).toMatchObject({
      error: { code: 'SEALED_MANIFEST_UNSIGNED' },
    });
    expect(await strongroom('inspect data.key')).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('OWNER_MODEL_UNKNOWN'),
    });
    expect((await strongroom('inspect shown.enc --signer keys/signing.pub.pem')).code).toBe(2);
  });
});

describe('strongroom verify', () => {
  it('says with its exit code what it found: in order, refused, unusable, undecided', async () => {
    const inOrder = await strongroom('verify iris.sealed --signer keys/signing.pub.pem');
    expect(inOrder).toMatchObject({ code: 0, stderr: '' });
    expect(inOrder.stdout.toString()).toMatch(/\[x\] 7\.2[\s\S]*Proven:[\s\S]*Not proven:[\s\S]*In order\./);
    const undecided = await strongroom('verify iris.sealed --json');
    expect(undecided.code).toBe(3);
    expect(JSON.parse(undecided.stdout.toString())).toMatchObject({
      inOrder: false,
      code: 'OWNER_NOBODY_VOUCHES',
    });
    expect((await strongroom('verify iris.sealed --sample wat')).code).toBe(2);
    expect((await strongroom('verify iris.sealed --oms x')).code).toBe(2);

    await strongroom(
      'seal --name bad --version 1 --format x --key-file data.key -o bad.sealed plain/config.json',
    );
    writeFileSync(join(folder, 'bad.sealed/payload'), flip(config, 3));
    const refused = await strongroom('verify bad.sealed --key-file data.key --json');
    expect(refused.code).toBe(1);
    expect(JSON.parse(refused.stdout.toString())).toMatchObject({ code: 'OWNER_PAYLOAD_ALTERED' });
  });

  it('checks with each of the keys, and a sample', async () => {
    for (const key of [
      '--key-file data.key',
      '--recovery keys/recovery.key.pem',
      `--kms-key ${keyArn} ${place}`,
    ]) {
      const found = await strongroom(`verify iris.sealed --signer keys/signing.pub.pem ${key} --sample 10%`);
      expect(found, found.stderr).toMatchObject({ code: 0 });
      expect(found.stdout.toString()).toContain('[x] 7.1');
    }
    expect(
      (await strongroom('verify iris.sealed --key-file data.key --recovery keys/recovery.key.pem')).code,
    ).toBe(2);
  });

  it('checks a Model Signing bundle that sign --oms wrote', async () => {
    for (const method of ['shards', 'files']) {
      const signed = await strongroom(
        `sign iris.sealed --key keys/signing.key.pem --oms ${method}.sig --oms-method ${method}`,
      );
      expect(signed, signed.stderr).toMatchObject({ code: 0, stderr: '' });
      const found = await strongroom(`verify iris.sealed --oms ${method}.sig --signer keys/signing.pub.pem`);
      expect(found, found.stderr).toMatchObject({ code: 0 });
    }
  });

  it('checks legacy models with their key, and decides nothing without', async () => {
    await strongroom('seal --format encmodel --key-file data.key -o v.enc plain/model.onnx');
    expect((await strongroom('verify v.enc --key-file data.key')).code).toBe(0);
    expect((await strongroom('verify v.enc')).code).toBe(3);
    writeFileSync(join(folder, 'w.enc'), flip(readFileSync(join(folder, 'v.enc')), 100_000));
    expect((await strongroom('verify w.enc --key-file data.key')).code).toBe(1);
  });
});

describe('strongroom open', () => {
  it('opens to a folder, and warns of the plaintext', async () => {
    const { code, stderr } = await strongroom('open iris.sealed -o out --recovery keys/recovery.key.pem');
    expect({ code, stderr }).toEqual({
      code: 0,
      stderr: 'warning: plaintext weights now lie in out; remove them when you are done\n',
    });
    expect(readFileSync(join(folder, 'out/model.onnx')).equals(model)).toBe(true);
    const again = await strongroom('open iris.sealed -o out --recovery keys/recovery.key.pem --json');
    expect(JSON.parse(again.stdout.toString())).toMatchObject({ error: { code: 'OWNER_WOULD_OVERWRITE' } });
  });

  it('opens one file to a pipe, and nothing else goes there', async () => {
    const { code, stdout, stderr } = await strongroom(
      'open iris.sealed --file model.onnx -o - --key-file data.key',
    );
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout.equals(model)).toBe(true);
    const unnamed = await strongroom('open iris.sealed -o - --key-file data.key');
    expect(unnamed).toMatchObject({ code: 2, stdout: Buffer.alloc(0) });
    const wrong = await strongroom('open iris.sealed -o - --file model.onnx --key-file keys/signing.key.pem');
    expect(wrong).toMatchObject({ code: 2, stdout: Buffer.alloc(0) });
  });

  it('leaves nothing when there is no room', async () => {
    const { code, stdout } = await strongroom(
      'open iris.sealed -o none --key-file data.key --json',
      'ulimit -f 1000;',
    );
    expect(code).toBe(2);
    expect(JSON.parse(stdout.toString())).toMatchObject({ error: { code: 'OUTPUT_UNWRITABLE' } });
    expect(readdirSync(folder).filter((name) => name.includes('none'))).toEqual([]);
  });

  it('killed at any moment, leaves nothing under the final name, and the next run removes the rest', async () => {
    for (const delayMs of [100, 200, 300, 400, 500, 600]) {
      const child = start('open iris.sealed -o killed --key-file data.key');
      setTimeout(() => child.kill('SIGKILL'), delayMs);
      await finish(child);
      if (existsSync(join(folder, 'killed'))) {
        expect(readFileSync(join(folder, 'killed/model.onnx')).equals(model)).toBe(true);
        rmSync(join(folder, 'killed'), { recursive: true });
      }
    }
    expect((await strongroom('open iris.sealed -o killed --key-file data.key')).code).toBe(0);
    expect(readdirSync(folder).filter((name) => name.includes('killed'))).toEqual(['killed']);
  });
});

describe('strongroom seal --format encmodel and envmodel', () => {
  it('writes an ENCMODEL that opens with its key and associated data alone', async () => {
    const made = await strongroom(
      'seal --format encmodel --key-file data.key --aad iris:3 -o one.enc plain/model.onnx',
    );
    expect(made, made.stderr).toMatchObject({ code: 0, stderr: '' });
    expect(readFileSync(join(folder, 'one.enc')).toString('latin1', 0, 8)).toBe('ENCMODEL');
    const opened = await strongroom('open one.enc -o - --key-file data.key --aad iris:3');
    expect(opened.stdout.equals(model)).toBe(true);
    expect(await strongroom('open one.enc -o - --key-file data.key --aad iris:4')).toMatchObject({
      code: 1,
      stdout: Buffer.alloc(0),
    });
    expect((await strongroom('open one.enc -o one.onnx --key-file data.key --aad iris:3')).code).toBe(0);
    expect(readFileSync(join(folder, 'one.onnx')).equals(model)).toBe(true);
  });

  it('writes an ENVMODEL with metadata, from a pipe', async () => {
    const metadata = "--metadata 'modèle=iris' --metadata version=3";
    const child = start(`seal --format envmodel --kms-key ${keyArn} ${place} ${metadata} -o one.env -`);
    child.stdin?.end(model);
    const made = await finish(child);
    expect(made, made.stderr).toMatchObject({ code: 0 });
    const shown = await strongroom('inspect one.env --json');
    expect(JSON.parse(shown.stdout.toString())).toMatchObject({
      format: 'envmodel',
      kmsKeyId: keyArn,
      metadata: '{"mod\\u00e8le": "iris", "version": "3"}',
    });
    const opened = await strongroom(`open one.env -o - --kms-key ${keyArn} ${place}`);
    expect(opened.stdout.equals(model)).toBe(true);
  });

  it.each([
    ['a name', '--format encmodel --key-file data.key --name iris'],
    ['a signature', '--format encmodel --key-file data.key --sign keys/signing.key.pem'],
    ['metadata', '--format encmodel --key-file data.key --metadata a=b'],
    ['a KMS key', '--format encmodel --key-file data.key --kms-key arn:aws:kms:eu-central-1:1:key/x'],
    ['no key', '--format encmodel'],
    [
      'associated data of an ENVMODEL',
      '--format envmodel --kms-key arn:aws:kms:eu-central-1:111122223333:key/x --aad a',
    ],
    ['half a pair', '--format envmodel --kms-key arn:aws:kms:eu-central-1:111122223333:key/x --metadata a'],
    ['metadata of a sealed model', '--name a --version 1 --key-file data.key --metadata a=b'],
  ])('has no place for %s', async (_what, options) => {
    const refused = await strongroom(`seal ${options} -o none.enc plain/model.onnx --json`);
    expect(refused.code).toBe(2);
    expect(JSON.parse(refused.stdout.toString())).toMatchObject({ error: { code: 'USAGE' } });
    expect(existsSync(join(folder, 'none.enc'))).toBe(false);
  });
});

describe('strongroom seal guesses the format', () => {
  const safetensors = Buffer.concat([
    Buffer.from([2, 0, 0, 0, 0, 0, 0, 0]),
    Buffer.from('{}'),
    randomBytes(9),
  ]);
  it.each<[string, Record<string, Buffer>, string | undefined]>([
    ['GGUF by its magic', { 'model.bin': Buffer.from('GGUF\x03\0\0\0rest') }, 'gguf'],
    ['safetensors by its header', { weights: safetensors }, 'safetensors'],
    ['an extension', { 'a.Tflite': Buffer.from('xxxx') }, 'tflite'],
    [
      'ONNX with external data',
      { 'm.onnx': Buffer.from('x'), 'm.onnx.data': Buffer.from('y'), 'c.json': config },
      'onnx',
    ],
    [
      'shards',
      { 'm-1.safetensors': safetensors, 'm-2.safetensors': safetensors, 'config.json': config },
      'safetensors',
    ],
    ['nothing of two kinds', { 'm.onnx': Buffer.from('x'), 'm.gguf': Buffer.from('GGUF') }, undefined],
    ['nothing without an extension', { weights: Buffer.from('x') }, undefined],
  ])('%s', async (_what, files, format) => {
    const name = `guess-${randomBytes(4).toString('hex')}`;
    mkdirSync(join(folder, name));
    for (const [path, content] of Object.entries(files)) writeFileSync(join(folder, name, path), content);
    const names = Object.keys(files);
    const input = names.length === 1 ? `${name}/${names[0]}` : name;
    const made = await strongroom(
      `seal --name g --version 1 --key-file data.key -o ${name}.sealed ${input} --json`,
    );
    const answer = JSON.parse(made.stdout.toString());
    if (format === undefined) expect(answer).toMatchObject({ error: { code: 'USAGE' } });
    else expect(answer).toMatchObject({ manifest: { format } });
  });
});

const SLEEP = '61234';

/** Processes whose environment carries this test's mark and whose command line begins with `words`. */
function processesOf(words: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        const mine = readFileSync(`/proc/${pid}/environ`, 'latin1').includes(MARK);
        return mine && readFileSync(`/proc/${pid}/cmdline`, 'latin1').startsWith(words);
      } catch {
        return false;
      }
    })
    .map(Number);
}

describe('strongroom exec', () => {
  const memory = (): string[] => readdirSync('/dev/shm').sort();

  it('gives a command the opened files, as often as it likes, and passes its exit code on', async () => {
    const before = memory();
    const script = 'cat "$1" "$1"; ls -l "$2" >&2; exit 7';
    const { code, stdout, stderr } = await strongroom(
      `exec iris.sealed --key-file data.key -- sh -c '${script}' sh {file:model.onnx} {file:config.json}`,
    );
    expect(code).toBe(7);
    expect(stdout.equals(Buffer.concat([model, model]))).toBe(true);
    expect(stderr).toContain('(deleted)');
    expect(memory()).toEqual(before);
  });

  it('gives it a legacy model', async () => {
    await strongroom('seal --format encmodel --key-file data.key -o x.enc plain/model.onnx');
    const { code, stdout } = await strongroom('exec x.enc --key-file data.key -- cat {file}');
    expect({ code, same: stdout.equals(model) }).toEqual({ code: 0, same: true });
  });

  it('leaves options after "--" to the command', async () => {
    const { stdout } = await strongroom(
      'exec iris.sealed --key-file data.key -- echo --help --json -h {file:config.json}',
    );
    expect(stdout.toString()).toMatch(/^--help --json -h \/proc\/\d+\/fd\/\d+\n$/);
  });

  it('says 128 + N if signal N ended the command, and passes signals on', async () => {
    expect(
      (await strongroom("exec iris.sealed --key-file data.key -- sh -c 'kill -9 $$ # {file:config.json}'"))
        .code,
    ).toBe(137);
    for (const [signal, code] of [
      ['SIGTERM', 44],
      ['SIGHUP', 45],
      ['SIGINT', 46],
    ] as const) {
      const trap = `trap "exit ${code}" ${signal.slice(3)}; echo ready; while :; do sleep 0.05; done # {file:config.json}`;
      const child = start(`exec iris.sealed --key-file data.key -- sh -c '${trap}'`);
      await once(child.stdout as NodeJS.ReadableStream, 'data');
      child.kill(signal);
      expect((await finish(child)).code).toBe(code);
    }
  });

  it('leaves nothing on any file system when either is killed', async () => {
    const before = memory();
    const line = `exec iris.sealed --key-file data.key -- sh -c 'exec 9<$1; echo ready; exec sleep ${SLEEP}' sh {file:model.onnx}`;
    for (const victim of ['strongroom', 'command'] as const) {
      const child = start(line);
      const finished = finish(child);
      await once(child.stdout as NodeJS.ReadableStream, 'data');
      const commands = (): number[] => processesOf(`sleep\0${SLEEP}`);
      await eventually(commands).toHaveLength(1);
      const [command] = commands();
      expect(readlinkSync(`/proc/${command}/fd/9`)).toMatch(/^\/dev\/shm\/.*\(deleted\)$/);
      expect(memory()).toEqual(before);
      process.kill(victim === 'strongroom' ? (child.pid as number) : (command as number), 'SIGKILL');
      if (victim === 'strongroom') {
        await once(child, 'exit');
        // The command keeps what it has open, and that alone; it ends in its own time.
        expect(memory()).toEqual(before);
        process.kill(command as number, 'SIGKILL');
      } else expect((await finished).code).toBe(137);
      await finished;
      expect(memory()).toEqual(before);
    }
  });

  it.each([
    ['no command', 'iris.sealed --key-file data.key', 2, 'USAGE'],
    ['a command without the model', 'iris.sealed --key-file data.key -- true', 2, 'USAGE'],
    ['no key', 'iris.sealed -- cat {file}', 2, 'USAGE'],
    [
      'a file that the model lacks',
      'iris.sealed --key-file data.key -- cat {file:nope}',
      2,
      'OWNER_NO_SUCH_FILE',
    ],
    ['one of several, unnamed', 'iris.sealed --key-file data.key -- cat {file}', 2, 'OWNER_NO_SUCH_FILE'],
    ['a disk', 'iris.sealed --key-file data.key --tmpfs /proc -- cat {file}', 2, 'OWNER_NOT_MEMORY'],
    [
      'no such program',
      'iris.sealed --key-file data.key -- ./nope {file:config.json}',
      2,
      'OWNER_COMMAND_NOT_STARTED',
    ],
    [
      'another signer',
      'iris.sealed --key-file data.key --signer others/signing.pub.pem -- cat {file}',
      1,
      'SEALED_MANIFEST_UNSIGNED',
    ],
  ])('refuses %s', async (_what, line, code, cause) => {
    if (line.includes('others') && !existsSync(join(folder, 'others'))) await strongroom('keygen -o others');
    const refused = await strongroom(`exec ${line}`);
    expect(refused).toMatchObject({ code, stdout: Buffer.alloc(0), stderr: expect.stringContaining(cause) });
  });
});
