/** The owner's commands as a reader of README.md types them, against a simulated KMS, up to a verified answer. */
import { spawn } from 'node:child_process';
import { createPrivateKey, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { PutKeyPolicyCommand } from '@aws-sdk/client-kms';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openRecoveryWrap } from '../../../owner/recovery.ts';
import { localKmsClient } from '../../../scripts/local/kms-client.ts';
import { createKey } from '../../../scripts/local/release.ts';
import { encodeOnnxModel } from '../../../scripts/model/onnx.ts';
import { parseHead } from '../../../shared/sealed-model/head.ts';
import { parseKeyFile } from '../../../shared/sealed-model/key-file.ts';
import { openSealedModel } from '../../../shared/sealed-model/open.ts';
import { fileSource } from '../../../shared/sealed-model/source.ts';
import { unlockHead } from '../../../shared/sealed-model/unlock.ts';
import { ACCOUNT_ID, ROLES } from '../../../simulator/account.ts';
import { LocalStack } from '../../../simulator/local-stack.ts';

const PROJECT = join(import.meta.dirname, '..', '..', '..');
const STORY_TIMEOUT_MS = 90_000;
const ONNX = encodeOnnxModel({
  inputs: [{ name: 'x', type: 'float', shape: ['n', 2] }],
  outputs: [{ name: 'y', type: 'float', shape: ['n', 2] }],
  nodes: [{ op: 'Add', inputs: ['x', 'x'], outputs: ['y'] }],
});

let stack: LocalStack;
let folder: string;
let keyArn: string;
let toKms: string;

/** A line of a shell in the owner's folder, with the owner's AWS credentials as the standard variables. */
async function shell(
  line: string,
  env: Record<string, string> = {},
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const { accessKeyId, secretAccessKey, sessionToken } = stack.credentials('owner');
  const child = spawn('bash', ['-c', line.replaceAll('npx strongroom', 'strongroom')], {
    cwd: folder,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      PATH: `${join(PROJECT, 'node_modules/.bin')}:${process.env.PATH}`,
      HOME: folder,
      AWS_EC2_METADATA_DISABLED: 'true',
      AWS_ACCESS_KEY_ID: accessKeyId,
      AWS_SECRET_ACCESS_KEY: secretAccessKey,
      AWS_SESSION_TOKEN: sessionToken,
      ...env,
    },
  });
  const [[code], stdout, stderr] = await Promise.all([
    once(child, 'close'),
    text(child.stdout),
    text(child.stderr),
  ]);
  return { code, stdout, stderr };
}

function sealed(name: string): boolean {
  return existsSync(join(folder, name));
}

/** With nothing but the owner's own files: the recovery wrap and the private recovery key. */
async function openByRecovery(out: string): Promise<Uint8Array> {
  const head = parseHead(readFileSync(join(folder, out, 'head')));
  const privateKey = createPrivateKey(readFileSync(join(folder, 'keys/recovery.key.pem')));
  const dataKey = openRecoveryWrap(readFileSync(join(folder, `${out}.recovery.json`)), head, privateKey);
  const buffer = new SharedArrayBuffer(head.payloadSizeBytes);
  const source = await fileSource(join(folder, out, 'payload'));
  try {
    await openSealedModel(unlockHead(head, dataKey), source, { kind: 'memory', buffer }, { workers: 1 });
  } finally {
    await source.close();
  }
  const [file] = head.files;
  return new Uint8Array(buffer).slice(file?.offset, (file?.offset ?? 0) + (file?.sizeBytes ?? 0));
}

beforeAll(async () => {
  stack = await LocalStack.start({ projectFolder: PROJECT, now: () => new Date() });
  keyArn = await createKey(stack);
  folder = mkdtempSync(join(tmpdir(), 'strongroom-owner-'));
  writeFileSync(join(folder, 'kms-root.pem'), stack.kms.caCertificatePem);
  writeFileSync(join(folder, 'model.onnx'), ONNX);
  toKms = `--kms-key ${keyArn} --kms-endpoint https://127.0.0.1:${stack.kms.port} --kms-ca kms-root.pem`;
  const keygen = await shell('npx strongroom keygen');
  expect(keygen).toMatchObject({ code: 0, stderr: '' });
  expect(keygen.stdout).toContain('keys/signing.key.pem (secret, mode 600), keys/signing.pub.pem');
});
afterAll(async () => {
  await stack?.close();
  rmSync(folder, { recursive: true, force: true });
});

describe('from keys to a verified answer, as README.md says', () => {
  it(
    'pins, seals and asks',
    async () => {
      mkdirSync(join(folder, 'models'));
      const deployment = `${JSON.stringify({
        format: 'strongroom-deployment/1',
        models: [
          {
            name: 'twice',
            minimumVersion: 1,
            signer: readFileSync(join(folder, 'keys/signing.pub.pem'), 'utf8'),
          },
        ],
        kmsKeys: [keyArn],
        clients: 'anyone',
      })}\n`;
      writeFileSync(join(folder, 'deployment.json'), deployment);
      const pcr0 = Buffer.from(stack.measurements.pcr0).toString('hex');
      const options = `--account ${ACCOUNT_ID} --role ${ROLES.host} --admin ${ROLES.administrator} --sealer ${ROLES.owner} --pcr0 ${pcr0} --deployment deployment.json`;
      expect(await shell(`npx strongroom policy generate ${options} > policy.json`)).toMatchObject({
        code: 0,
      });
      const { releases } = JSON.parse(
        (await shell(`npx strongroom policy generate ${options} --json`)).stdout,
      ) as { releases: readonly { pcr16: string }[] };
      const administrator = localKmsClient(stack, 'administrator');
      await administrator.send(
        new PutKeyPolicyCommand({
          KeyId: keyArn,
          PolicyName: 'default',
          Policy: readFileSync(join(folder, 'policy.json'), 'utf8'),
        }),
      );
      administrator.destroy();

      const seal = await shell(
        `npx strongroom seal model.onnx --name twice --version 1 ${toKms} --recovery-key keys/recovery.pub.pem --sign keys/signing.key.pem -o models/twice.sealed`,
      );
      expect(seal).toMatchObject({ code: 0, stderr: '' });
      expect(seal.stdout).toMatch(/^sealed twice version 1 into models\/twice\.sealed \(/);

      writeFileSync(join(folder, 'root.pem'), stack.attestationRoot);
      writeFileSync(
        join(folder, 'expectations.json'),
        JSON.stringify({
          format: 'strongroom-expectations/1',
          pcrs: { 0: pcr0, 16: releases[0]?.pcr16 },
          models: [{ name: 'twice', minimumVersion: 1 }],
          simulationRoot: 'root.pem',
        }),
      );
      writeFileSync(
        join(folder, 'input.json'),
        '{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[1,2]}]}',
      );
      await using instance = await stack.startInstance({
        deployment: Buffer.from(deployment),
        modelsFolder: join(folder, 'models'),
      });
      await instance.serving;
      const ask = await shell(
        `npx strongroom ask ${instance.url} --expect expectations.json --model twice --input input.json`,
      );
      expect(ask).toMatchObject({ code: 0, stdout: 'y [1,2]: [2,4]\n' });
    },
    STORY_TIMEOUT_MS,
  );

  it('then seals a later version straight from a pipe, which the owner opens with the recovery key alone', async () => {
    const seal = await shell(
      `cat model.onnx | npx strongroom seal - --as model.onnx --name twice --version 2 ${toKms} --recovery-key keys/recovery.pub.pem -o piped.sealed --json`,
    );
    expect(seal).toMatchObject({ code: 0, stderr: '' });
    expect(JSON.parse(seal.stdout)).toMatchObject({ recoveryFile: 'piped.sealed.recovery.json' });
    expect(Buffer.from(await openByRecovery('piped.sealed'))).toEqual(Buffer.from(ONNX));
    const { wraps } = parseKeyFile(readFileSync(join(folder, 'piped.sealed/key.json')));
    expect(wraps.map((wrap) => wrap.keyArn)).toEqual([keyArn]);

    const sign = await shell('npx strongroom sign piped.sealed --key keys/signing.key.pem --json');
    expect(sign).toMatchObject({ code: 0, stderr: '' });
    expect(JSON.parse(sign.stdout)).toMatchObject({ name: 'twice', version: 2 });
  });

  it.each(['weights', './weights/', '.'])('seals the folder %s under relative paths', async (path) => {
    mkdirSync(join(folder, 'weights/deep'), { recursive: true });
    writeFileSync(join(folder, 'weights/a.bin'), 'a');
    writeFileSync(join(folder, 'weights/deep/b.bin'), 'b');
    writeFileSync(join(folder, 'data.key'), randomBytes(32), { mode: 0o600 });
    const out = `../folder-${path.length}.sealed`;
    const { code, stdout, stderr } = await shell(
      `cd weights && npx strongroom seal ${path.replace('weights', '../weights')} --name w --version 1 --format raw --key-file ../data.key -o ${out} --json`,
    );
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(JSON.parse(stdout).manifest.files.map((file: { path: string }) => file.path)).toEqual([
      'a.bin',
      'deep/b.bin',
    ]);
  });
});

describe('what seal says when KMS does not wrap the key', () => {
  const seal = (kms: string, env?: Record<string, string>) =>
    shell(
      `npx strongroom seal model.onnx --name n --version 1 ${kms} --recovery-key keys/recovery.pub.pem -o refused.sealed --json`,
      env,
    );
  const errorOf = ({ stdout }: { stdout: string }): { code: string; message: string } =>
    JSON.parse(stdout).error;

  it('tells a refusal with the reason that AWS gives', async () => {
    const { accessKeyId, secretAccessKey, sessionToken } = stack.credentials('host');
    const host = {
      AWS_ACCESS_KEY_ID: accessKeyId,
      AWS_SECRET_ACCESS_KEY: secretAccessKey,
      AWS_SESSION_TOKEN: sessionToken,
    };
    const result = await seal(toKms, host);
    expect(result).toMatchObject({ code: 1, stderr: '' });
    expect(errorOf(result)).toMatchObject({
      code: 'OWNER_KMS_REFUSED',
      message: expect.stringContaining('AccessDeniedException'),
    });
  });

  it('tells missing credentials', async () => {
    const none = { AWS_ACCESS_KEY_ID: '', AWS_SECRET_ACCESS_KEY: '', AWS_SESSION_TOKEN: '' };
    const result = await seal(toKms, none);
    expect(result).toMatchObject({ code: 2, stderr: '' });
    expect(errorOf(result).code).toBe('OWNER_NO_CREDENTIALS');
  });

  it('tells a KMS that is not there, or shows a certificate of somebody else', async () => {
    const gone = await seal(toKms.replace(/127\.0\.0\.1:\d+/, '127.0.0.1:1'));
    expect(gone).toMatchObject({ code: 3, stderr: '' });
    expect(errorOf(gone).message).toContain('ECONNREFUSED');
    const untrusted = await seal(toKms.replace('--kms-ca kms-root.pem', ''));
    expect(untrusted).toMatchObject({ code: 3, stderr: '' });
    expect(errorOf(untrusted).code).toBe('OWNER_KMS_UNREACHABLE');
  });

  it.each([
    ['an alias', '--kms-key arn:aws:kms:eu-central-1:111122223333:alias/a', 'OWNER_KEY_UNUSABLE'],
    ['no ARN', '--kms-key 1234abcd', 'OWNER_KEY_UNUSABLE'],
    [
      'an endpoint in the clear',
      '--kms-key arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab --kms-endpoint http://127.0.0.1:1',
      'USAGE',
    ],
    ['an endpoint for no key', '--kms-endpoint https://127.0.0.1:1', 'USAGE'],
    [
      'a certificate authority that is none',
      '--kms-key arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab --kms-ca model.onnx',
      'USAGE',
    ],
  ])('tells %s', async (_what, kms, code) => {
    const result = await seal(kms);
    expect(result).toMatchObject({ code: 2, stderr: '' });
    expect(errorOf(result).code).toBe(code);
  });

  it(
    'tells a KMS that goes away while the training job still runs',
    async () => {
      const pipe = `(cat model.onnx; until [ -e go ]; do sleep 0.05; done)`;
      const ended = shell(
        `${pipe} | npx strongroom seal - --as model.onnx --name twice --version 3 ${toKms} --recovery-key keys/recovery.pub.pem -o refused.sealed --json`,
      );
      const waiting = () => readdirSync(folder).some((name) => name.startsWith('.refused.sealed.partial-'));
      for (let tries = 0; tries < 6000 && !waiting(); tries++) await sleep(10);
      process.kill(stack.kmsPid, 'SIGKILL');
      writeFileSync(join(folder, 'go'), '');
      const result = await ended;
      expect(result).toMatchObject({ code: 3, stderr: '' });
      expect(errorOf(result).code).toBe('OWNER_KMS_UNREACHABLE');
    },
    STORY_TIMEOUT_MS,
  );

  it('leaves nothing after any of these', () => {
    expect(readdirSync(folder).filter((name) => name.includes('refused.sealed'))).toEqual([]);
    expect(sealed('refused.sealed')).toBe(false);
  });
});
