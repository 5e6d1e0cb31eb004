/**
 * A data key's whole life with the generated policies in force: sealed, signed, deployed and served; rotated and
 * rewrapped within its KMS key; moved to another by the recovery wrap; replaced by resealing. After each step an enclave
 * is started and asked. The commands are run as their user would.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PutKeyPolicyCommand } from '@aws-sdk/client-kms';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connect } from '../../client/connect.ts';
import { generateKeyPolicy } from '../../review/policy/generate.ts';
import { localKmsClient } from '../../scripts/local/kms-client.ts';
import { createKey, newOwner, type Owner, pcrsOf, sealAsOwner } from '../../scripts/local/release.ts';
import { DEPLOYMENT_FORMAT } from '../../shared/deployment/deployment.ts';
import { ACCOUNT_ID, REGION, ROLES, type RoleName } from '../../simulator/account.ts';
import type { LocalStack } from '../../simulator/local-stack.ts';
import { flowers, MODEL, onnx, outcomeOf, PROJECT, recordsOf, startStack } from './support.ts';

let stack: LocalStack;
let owner: Owner;
let folder = '';
let modelsFolder = '';
let sealed = '';
let keyArn = '';
let nextKeyArn = '';
/** Lists the first key alone; and both. */
let deployment: Buffer;
let widerDeployment: Buffer;

beforeAll(async () => {
  stack = await startStack();
  owner = await newOwner();
  folder = join(stack.folder, 'desk');
  modelsFolder = join(folder, 'models');
  sealed = join(modelsFolder, `${MODEL}.sealed`);
  mkdirSync(folder);
  keyArn = await createKey(stack);
  nextKeyArn = await createKey(stack);
  deployment = writeDeployment([keyArn]);
  widerDeployment = writeDeployment([nextKeyArn, keyArn]);
  for (const [name, bytes] of Object.entries({ deployment, widerDeployment })) {
    writeFileSync(join(folder, `${name}.json`), bytes);
  }
  await allow(keyArn, [deployment, widerDeployment]);
  await allow(nextKeyArn, [widerDeployment]);
  await sealAsOwner(stack, { owner, keyArn, name: MODEL, version: 3, onnx, modelsFolder });
  renameSync(`${sealed}.recovery.json`, join(folder, 'recovery.json')); // never beside what the host serves
  const pem = (key: Owner['signing']['privateKey']) => key.export({ type: 'pkcs8', format: 'pem' });
  for (const [name, key] of Object.entries({ recovery: owner.recovery, signing: owner.signing })) {
    writeFileSync(join(folder, `${name}.key.pem`), pem(key.privateKey), { mode: 0o600 });
  }
  const other = await newOwner();
  writeFileSync(join(folder, 'stranger.key.pem'), pem(other.recovery.privateKey), { mode: 0o600 });
  writeFileSync(join(folder, 'kms-ca.pem'), stack.kms.caCertificatePem);
}, 120_000);
afterAll(() => stack?.close());

function writeDeployment(kmsKeys: readonly string[], more: object = {}): Buffer {
  const signer = owner.signing.publicKey.export({ type: 'spki', format: 'pem' });
  const models = [{ name: MODEL, minimumVersion: 3, signer, ...more }];
  return Buffer.from(JSON.stringify({ format: DEPLOYMENT_FORMAT, models, kmsKeys, clients: 'anyone' }));
}

/** The policy by the generator: these deployments on the stack's image, and nothing else. */
async function allow(KeyId: string, deployments: readonly Uint8Array[]): Promise<void> {
  const client = localKmsClient(stack, 'administrator');
  const Policy = generateKeyPolicy({
    accountId: ACCOUNT_ID,
    releases: deployments.map((bytes) => {
      const { 0: pcr0, 16: pcr16 } = pcrsOf(stack, bytes);
      return { pcr0, pcr16, modelName: MODEL };
    }),
    hostRoleArn: ROLES.host,
    administratorArns: [ROLES.administrator],
    sealerArns: [ROLES.owner],
  });
  await client.send(new PutKeyPolicyCommand({ KeyId, Policy })).finally(() => client.destroy());
}

interface Outcome {
  readonly code: number | null;
  // biome-ignore lint/suspicious/noExplicitAny: JSON of several commands
  readonly json: any;
}

async function strongroom(role: RoleName, ...args: string[]): Promise<Outcome> {
  const { accessKeyId, secretAccessKey, sessionToken } = stack.credentials(role);
  const kms = [
    '--kms-endpoint',
    `https://127.0.0.1:${stack.kms.port}`,
    '--kms-ca',
    join(folder, 'kms-ca.pem'),
  ];
  const child = spawn(process.execPath, [join(PROJECT, 'scripts/strongroom.ts'), ...args, ...kms, '--json'], {
    cwd: folder,
    env: {
      PATH: process.env.PATH,
      AWS_ACCESS_KEY_ID: accessKeyId,
      AWS_SECRET_ACCESS_KEY: secretAccessKey,
      AWS_SESSION_TOKEN: sessionToken,
      AWS_REGION: REGION,
    },
  });
  let stdout = '';
  child.stdout.on('data', (piece) => (stdout += piece));
  const [code] = await once(child, 'close');
  return { code, json: JSON.parse(stdout) };
}

/** Starts an enclave, asks it, and says which key opened the model. */
async function serve(document: Uint8Array, contentId: string): Promise<string> {
  const before = recordsOf(stack, 'Decrypt').length;
  await using instance = await stack.startInstance({ deployment: document, modelsFolder });
  await instance.serving;
  await using enclave = await connect(instance.url, {
    pcrs: pcrsOf(stack, document),
    models: [{ name: MODEL, minimumVersion: 3, contentId }],
    simulationRoot: stack.attestationRoot,
  });
  const data = flowers[77]?.measurements ?? [];
  const response = await enclave.fetch(`/v2/models/${MODEL}/infer`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ inputs: [{ name: 'measurements', datatype: 'FP32', shape: [1, 4], data }] }),
  });
  expect(response.status).toBe(200);
  const [record, ...more] = recordsOf(stack, 'Decrypt').slice(before);
  expect(more).toEqual([]);
  return record.requestParameters.keyId;
}

const contentIdOf = (): string => {
  const manifest = JSON.parse(readFileSync(join(sealed, 'manifest.json'), 'utf8'));
  return JSON.parse(Buffer.from(manifest.payload, 'base64').toString()).subject[0].digest.sha256;
};
const keyFile = (): string => readFileSync(join(sealed, 'key.json'), 'utf8');
const byRecovery = ['--recovery', 'recovery.key.pem', '--recovery-file', 'recovery.json'];

describe('the life of a data key', () => {
  it('begins sealed, signed, deployed and served', async () => {
    expect(await serve(deployment, contentIdOf())).toBe(keyArn);
  });

  it('goes through rotations, which an administrator makes and a sealer may not', async () => {
    const denied = await strongroom('owner', 'rotate', '--kms-key', keyArn, '--now');
    expect(denied).toMatchObject({ code: 1, json: { error: { code: 'OWNER_KMS_REFUSED' } } });
    const enabled = await strongroom(
      'administrator',
      'rotate',
      '--kms-key',
      keyArn,
      '--enable',
      '--period',
      '180',
    );
    expect(enabled).toMatchObject({
      code: 0,
      json: { automatic: true, periodDays: 180, history: [{ current: true }] },
    });
    const rotated = await strongroom('administrator', 'rotate', '--kms-key', keyArn, '--now');
    expect(rotated.json.history).toMatchObject([{ current: false }, { current: true, type: 'ON_DEMAND' }]);
    expect(await serve(deployment, contentIdOf())).toBe(keyArn); // older wraps still open
  });

  it('is rewrapped after a rotation: due, renewed, current, and served again', async () => {
    const due = await strongroom('owner', 'rotate', modelsFolder, '--ask-kms');
    expect(due).toMatchObject({ code: 1, json: { wraps: [{ keyArn, due: true, knownFrom: 'kms' }] } });
    const before = keyFile();
    const renewed = await strongroom('owner', 'rewrap', sealed, '--deployment', 'deployment.json');
    expect(renewed).toMatchObject({
      code: 0,
      json: { changed: true, wraps: [{ keyArn, outcome: 'renewed' }] },
    });
    expect(keyFile()).not.toBe(before);
    const current = await strongroom('owner', 'rotate', modelsFolder);
    expect(current).toMatchObject({ code: 0, json: { wraps: [{ due: false, knownFrom: 'label' }] } });
    expect(await strongroom('owner', 'rewrap', '--all', modelsFolder)).toMatchObject({
      code: 0,
      json: { summary: { current: 1 } },
    });
    expect(await serve(deployment, contentIdOf())).toBe(keyArn);
  });

  it('does not strand what is deployed, and opens to no other recovery key', async () => {
    const before = keyFile();
    const move = ['rewrap', sealed, '--to', nextKeyArn, '--remove', keyArn];
    const stranding = await strongroom('owner', ...move, ...byRecovery, '--deployment', 'deployment.json');
    expect(stranding).toMatchObject({ code: 1, json: { error: { code: 'REWRAP_WOULD_STRAND' } } });
    const unchecked = await strongroom('owner', ...move, ...byRecovery);
    expect(unchecked).toMatchObject({ code: 2, json: { error: { code: 'REWRAP_UNCHECKED' } } });
    const wrong = ['--recovery', 'stranger.key.pem', '--recovery-file', 'recovery.json'];
    const stranger = await strongroom('owner', 'rewrap', sealed, '--to', nextKeyArn, ...wrong);
    expect(stranger).toMatchObject({ code: 1, json: { error: { code: 'OWNER_RECOVERY_REFUSED' } } });
    expect(keyFile()).toBe(before);
  });

  it('moves to another KMS key by the recovery wrap: first beside the old one, then alone', async () => {
    const both = ['--deployment', 'deployment.json', '--deployment', 'widerDeployment.json'];
    const added = await strongroom('owner', 'rewrap', sealed, '--to', nextKeyArn, ...byRecovery, ...both);
    expect(added).toMatchObject({
      code: 0,
      json: {
        wraps: [{ outcome: 'kept' }, { keyArn: nextKeyArn, outcome: 'added' }],
        deployments: [
          { opensWith: keyArn, unused: [nextKeyArn] },
          { opensWith: nextKeyArn, openedWith: keyArn, unused: [] },
        ],
      },
    });
    expect(await serve(deployment, contentIdOf())).toBe(keyArn);
    expect(await serve(widerDeployment, contentIdOf())).toBe(nextKeyArn);
    const removed = await strongroom(
      'owner',
      'rewrap',
      sealed,
      '--remove',
      keyArn,
      '--deployment',
      'widerDeployment.json',
    );
    expect(removed.code).toBe(0);
    expect(await serve(widerDeployment, contentIdOf())).toBe(nextKeyArn);
    expect(await outcomeOf(stack, { deployment, modelsFolder })).toBe('KMS_KEY_NOT_ALLOWED');
  });

  it('is not served with a key.json that somebody put there', async () => {
    const good = keyFile();
    const other = join(folder, 'others');
    await sealAsOwner(stack, {
      owner,
      keyArn: nextKeyArn,
      name: MODEL,
      version: 9,
      onnx,
      modelsFolder: other,
    });
    cpSync(join(other, `${MODEL}.sealed/key.json`), join(sealed, 'key.json'));
    expect(await outcomeOf(stack, { deployment: widerDeployment, modelsFolder })).toBe(
      'SEALED_KEY_FILE_FOREIGN',
    );
    const { context } = JSON.parse(good);
    writeFileSync(join(sealed, 'key.json'), JSON.stringify({ ...JSON.parse(keyFile()), context }));
    expect(await outcomeOf(stack, { deployment: widerDeployment, modelsFolder })).toBe('KMS_DENIED');
    const refused = await strongroom('owner', 'rewrap', sealed, '--again');
    expect(refused).toMatchObject({ code: 1, json: { error: { code: 'OWNER_KMS_REFUSED' } } });
    writeFileSync(join(sealed, 'key.json'), good);
  });

  it('ends when the model is resealed: another content id, the same answers, and the old wraps open nothing of it', async () => {
    const old = contentIdOf();
    const out = join(folder, 'resealed.sealed');
    const args = ['--sign', 'signing.key.pem', '--kms-key', nextKeyArn, '--version', '4', '-o', out];
    const result = await strongroom('owner', 'reseal', sealed, ...byRecovery, ...args);
    expect(result).toMatchObject({
      code: 0,
      json: { oldContentId: old, manifest: { name: MODEL, version: 4 } },
    });
    rmSync(sealed, { recursive: true });
    renameSync(out, sealed);
    expect(contentIdOf()).toBe(result.json.manifest.contentId);
    expect(await serve(widerDeployment, contentIdOf())).toBe(nextKeyArn);
    const wrap = await strongroom('owner', 'rewrap', sealed, '--to', keyArn, ...byRecovery);
    expect(wrap).toMatchObject({ code: 1, json: { error: { code: 'OWNER_RECOVERY_REFUSED' } } });
    const newMinimum = writeDeployment([nextKeyArn], { minimumVersion: 5 });
    await allow(nextKeyArn, [widerDeployment, newMinimum]);
    expect(await outcomeOf(stack, { deployment: newMinimum, modelsFolder })).toBe('MODEL_NOT_EXPECTED');
  });

  it('was nowhere decrypted by KMS for anybody but attested enclaves', () => {
    const answered = recordsOf(stack, 'Decrypt').filter(({ errorCode }) => errorCode === undefined);
    expect(answered.length).toBeGreaterThan(0);
    for (const record of answered) expect(record).toHaveProperty('additionalEventData.recipient');
    for (const record of recordsOf(stack, 'ReEncrypt')) {
      expect(new Set(record.resources.map(({ ARN }: { ARN: string }) => ARN)).size).toBe(1);
    }
  });
});
