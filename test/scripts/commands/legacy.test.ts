/** `strongroom convert` and `strongroom re-encrypt` as they are typed, against a simulated KMS. */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { CreateKeyCommand } from '@aws-sdk/client-kms';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { writeOwnerKeys } from '../../../owner/keygen.ts';
import { sealEnvmodel } from '../../../owner/legacy/seal-legacy.ts';
import { parseKeyFile } from '../../../shared/sealed-model/key-file.ts';
import { encmodel } from '../../owner/legacy/files.ts';
import { admin, principal, role, type Stand, startStand } from '../../simulator/kms/support.ts';

const STRONGROOM = join(import.meta.dirname, '../../../scripts/strongroom.ts');
const owner = principal(role('Owner'), { sessionToken: 'token' });
const plaintext = randomBytes(100_000);

let stand: Stand;
let folder: string;
let legacyArn: string;
let newArn: string;
let place: string;

async function strongroom(
  line: string,
  before = '',
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const command = `${before} exec "${process.execPath}" "${STRONGROOM}" ${line}`;
  const child = spawn('bash', ['-c', command], {
    cwd: folder,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      PATH: process.env.PATH,
      HOME: folder,
      AWS_EC2_METADATA_DISABLED: 'true',
      AWS_ACCESS_KEY_ID: owner.accessKeyId,
      AWS_SECRET_ACCESS_KEY: owner.secretAccessKey,
      AWS_SESSION_TOKEN: owner.sessionToken,
    },
  });
  const [[code], stdout, stderr] = await Promise.all([
    once(child, 'close'),
    text(child.stdout),
    text(child.stderr),
  ]);
  return { code, stdout, stderr };
}

/** The policy of a key from before there were enclaves, less `denied`. */
async function createKey(actions: readonly string[]): Promise<string> {
  const allow = (arn: string, action: string | readonly string[]) => ({
    Effect: 'Allow',
    Principal: { AWS: arn },
    Action: action,
    Resource: '*',
  });
  const Statement = [allow(admin.arn, 'kms:*'), allow(owner.arn, actions)];
  const Policy = JSON.stringify({ Version: '2012-10-17', Statement });
  const { KeyMetadata } = await stand.client(admin).send(new CreateKeyCommand({ Policy }));
  return KeyMetadata?.Arn as string;
}

beforeAll(async () => {
  stand = await startStand([admin, owner]);
  folder = mkdtempSync(join(tmpdir(), 'strongroom-legacy-'));
  legacyArn = await createKey(['kms:DescribeKey', 'kms:Encrypt', 'kms:Decrypt']);
  newArn = await createKey(['kms:DescribeKey', 'kms:Encrypt']);
  const { port, caCertificatePem } = stand.kms;
  place = `--kms-endpoint https://127.0.0.1:${port} --kms-ca kms-root.pem`;
  writeFileSync(join(folder, 'kms-root.pem'), caCertificatePem);
  await writeOwnerKeys(join(folder, 'keys'), ['signing', 'recovery']);
  const key = randomBytes(32);
  writeFileSync(join(folder, 'iris.key'), key, { mode: 0o600 });
  writeFileSync(join(folder, 'iris.enc'), encmodel({ key, plaintext, associatedData: 'iris:3' }));
  writeFileSync(join(folder, 'model.onnx'), plaintext);
  await sealEnvmodel({
    input: { kind: 'file', path: join(folder, 'model.onnx') },
    out: join(folder, 'iris.env'),
    kmsKey: { client: stand.client(owner), keyArn: legacyArn },
    metadata: new Map([['modèle', 'iris']]),
  });
});
afterAll(async () => {
  await stand?.close();
  rmSync(folder, { recursive: true, force: true });
});

const TO = '--as model.onnx --name iris --version 3';

describe('strongroom convert', () => {
  it('makes a sealed model of an ENCMODEL', async () => {
    const options = `--legacy-key-file iris.key --aad iris:3 ${TO} --kms-key ${newArn} ${place}`;
    const owners = '--recovery-key keys/recovery.pub.pem --sign keys/signing.key.pem';
    const { code, stdout, stderr } = await strongroom(`convert iris.enc ${options} ${owners} -o one.sealed`);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toContain('sealed iris version 3 into one.sealed');
    expect(readdirSync(join(folder, 'one.sealed')).sort()).toEqual([
      'head',
      'key.json',
      'manifest.json',
      'payload',
    ]);
  });

  it('makes a sealed model of an ENVMODEL, and prints one JSON document', async () => {
    const options = `--legacy-kms-key ${legacyArn} ${TO} --kms-key ${newArn} ${place}`;
    const owners = '--recovery-key keys/recovery.pub.pem';
    const { code, stdout, stderr } = await strongroom(
      `convert iris.env ${options} ${owners} -o two.sealed --json`,
    );
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(JSON.parse(stdout)).toMatchObject({
      manifest: { format: 'onnx', files: [{ sizeBytes: 100_000 }] },
    });
    const [wrap] = parseKeyFile(readFileSync(join(folder, 'two.sealed/key.json'))).wraps;
    expect(wrap?.keyArn).toBe(newArn);
  });

  it('needs KMS for the legacy model alone, if the owner keeps the new key', async () => {
    const options = `--legacy-kms-key ${legacyArn} ${TO} --key-file iris.key ${place}`;
    expect(await strongroom(`convert iris.env ${options} -o three.sealed`)).toMatchObject({ code: 0 });
  });

  it.each([
    ['no key', `iris.enc ${TO}`, 2, 'USAGE'],
    ['two keys', `iris.enc ${TO} --legacy-key-file iris.key --legacy-kms-key KEY`, 2, 'USAGE'],
    [
      'associated data twice',
      `iris.enc ${TO} --legacy-key-file iris.key --aad a --aad-file iris.key`,
      2,
      'USAGE',
    ],
    ['associated data with KMS', `iris.env ${TO} --legacy-kms-key KEY --aad a`, 2, 'USAGE'],
    ['no name inside', 'iris.enc --name iris --version 3 --legacy-key-file iris.key', 2, 'USAGE'],
    ['no format', 'iris.enc --as m --name iris --version 3 --legacy-key-file iris.key', 2, 'USAGE'],
    ['two files', `iris.enc iris.env ${TO} --legacy-key-file iris.key`, 2, 'USAGE'],
    ['no associated data', `iris.enc ${TO} --legacy-key-file iris.key`, 2, 'LEGACY_AAD_MISMATCH'],
    [
      'other associated data',
      `iris.enc ${TO} --legacy-key-file iris.key --aad iris:4`,
      1,
      'LEGACY_TAG_REFUSED',
    ],
    ['a file that is no legacy model', `model.onnx ${TO} --legacy-key-file iris.key`, 2, 'LEGACY_MALFORMED'],
    ['a file that is not there', `none ${TO} --legacy-key-file iris.key`, 2, 'INPUT_UNREADABLE'],
    ['a key file that is none', `iris.enc ${TO} --legacy-key-file model.onnx`, 2, 'OWNER_KEY_UNUSABLE'],
  ])('refuses %s, and leaves nothing', async (_what, line, exit, code) => {
    const before = readdirSync(folder);
    const { code: found, stdout } = await strongroom(
      `convert ${line.replace('KEY', legacyArn)} --key-file iris.key -o none.sealed --json`,
    );
    expect(JSON.parse(stdout)).toMatchObject({ error: { code } });
    expect(found).toBe(exit);
    expect(readdirSync(folder)).toEqual(before);
  });
});

describe('strongroom re-encrypt', () => {
  it('puts an ENVMODEL under another key, which then opens it', async () => {
    const both = await createKey(['kms:DescribeKey', 'kms:Encrypt', 'kms:Decrypt']);
    const keys = `--legacy-kms-key ${legacyArn} --to-kms-key ${both}`;
    const { code, stdout, stderr } = await strongroom(
      `re-encrypt iris.env ${keys} ${place} -o new.env --json`,
    );
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(JSON.parse(stdout)).toMatchObject({
      file: 'new.env',
      kmsKeyId: both,
      metadata: '{"mod\\u00e8le": "iris"}',
    });
    const options = `--legacy-kms-key ${both} ${TO} --key-file iris.key ${place}`;
    expect(await strongroom(`convert new.env ${options} -o four.sealed`)).toMatchObject({ code: 0 });
  });

  it('leaves nothing if KMS refuses, there is no room, or the file is none of its kind', async () => {
    const before = readdirSync(folder);
    const all = `--legacy-kms-key ${legacyArn} --to-kms-key ${newArn} ${place} -o none.env --json`;
    for (const [line, exit, code] of [
      [`re-encrypt iris.enc ${all}`, 2, 'LEGACY_KEY_FOREIGN'],
      [`re-encrypt iris.env ${all.replace(legacyArn, newArn)}`, 2, 'LEGACY_KEY_FOREIGN'],
      [`re-encrypt iris.env ${all} --to-kms-key ${legacyArn.slice(0, -1)}x`, 1, 'OWNER_KMS_REFUSED'],
      [`re-encrypt iris.env --legacy-kms-key ${legacyArn} -o none.env --json`, 2, 'USAGE'],
    ] as const) {
      const { code: found, stdout } = await strongroom(line);
      expect(JSON.parse(stdout)).toMatchObject({ error: { code } });
      expect(found).toBe(exit);
      expect(readdirSync(folder)).toEqual(before);
    }
    const full = await strongroom(`re-encrypt iris.env ${all}`, 'ulimit -f 40;');
    expect(full).toMatchObject({ code: 2, stdout: expect.stringContaining('OUTPUT_UNWRITABLE') });
    expect(readdirSync(folder)).toEqual(before);
  });
});
