/**
 * What the chain refuses, link by link, with real processes. A refusal that must come before KMS is asked is
 * held to it by KMS's own records.
 */
import { cpSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { EncryptCommand, PutKeyPolicyCommand } from '@aws-sdk/client-kms';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connect } from '../../client/connect.ts';
import type { ClientExpectations } from '../../client/expectations.ts';
import { signSealedFolder } from '../../owner/sign-model.ts';
import { ATTACKS } from '../../scripts/demo/refusals.ts';
import type { ToldStory } from '../../scripts/demo/story.ts';
import { localKmsClient } from '../../scripts/local/kms-client.ts';
import {
  createKey,
  newOwner,
  pcrsOf,
  pinRelease,
  prepareRelease,
  type Release,
  sealAsOwner,
  writeDeployment,
} from '../../scripts/local/release.ts';
import { DEPLOYMENT_FORMAT } from '../../shared/deployment/deployment.ts';
import { parseKeyFile } from '../../shared/sealed-model/key-file.ts';
import { encodeKeyFile } from '../../shared/sealed-model/key-file-write.ts';
import { ROLES } from '../../simulator/account.ts';
import type { LocalInstance } from '../../simulator/local-instance.ts';
import type { LocalStack } from '../../simulator/local-stack.ts';
import { type HostileHost, takeHostService } from './hostile-host.ts';
import { decryptCount, MODEL, onnx, outcomeOf, recordsOf, startStack } from './support.ts';

let stack: LocalStack;
let release: Release;
let honest: LocalInstance;
/** Another seal of the same name, a version on, by the same owner. */
let newer: { readonly keyArn: string; readonly modelsFolder: string; readonly contentId: string };

beforeAll(async () => {
  stack = await startStack();
  release = await prepareRelease(stack, { name: MODEL, version: 1, onnx });
  newer = await sealNewer();
  honest = await stack.startInstance(release);
  await honest.serving;
}, 120_000);
afterAll(() => stack?.close());

async function sealNewer(): Promise<typeof newer> {
  const keyArn = await createKey(stack);
  const modelsFolder = join(stack.folder, 'models-newer');
  const { owner, deployment } = release;
  await pinRelease(stack, keyArn, deployment, MODEL);
  const { manifest } = await sealAsOwner(stack, {
    owner,
    keyArn,
    name: MODEL,
    version: 2,
    onnx,
    modelsFolder,
  });
  return { keyArn, modelsFolder, contentId: manifest.contentId };
}

let copies = 0;
/** The release's models as a parent serves them that changed something. */
async function changedModels(change: (sealed: string) => void | Promise<void>): Promise<string> {
  const modelsFolder = join(stack.folder, `models-changed-${++copies}`);
  cpSync(release.modelsFolder, modelsFolder, { recursive: true });
  await change(join(modelsFolder, `${MODEL}.sealed`));
  return modelsFolder;
}

const served = (modelsFolder: string, file: string): string => join(modelsFolder, `${MODEL}.sealed`, file);

function contentDeployment(contentId: string, keyArn: string): Buffer {
  const models = [{ name: MODEL, contentId }];
  return Buffer.from(
    JSON.stringify({ format: DEPLOYMENT_FORMAT, models, kmsKeys: [keyArn], clients: 'anyone' }),
  );
}

/** What stops the enclave, which must happen before it asks KMS. */
async function refusedBeforeKms(change: {
  readonly deployment?: Uint8Array;
  readonly modelsFolder?: string;
}): Promise<string> {
  const before = decryptCount(stack);
  const { deployment, modelsFolder } = release;
  const code = await outcomeOf(stack, { deployment, modelsFolder, ...change });
  expect(decryptCount(stack)).toBe(before);
  return code;
}

async function clientRefusal(instance: LocalInstance, change: Partial<ClientExpectations>): Promise<string> {
  const pcrs = pcrsOf(stack, release.deployment);
  try {
    const enclave = await connect(instance.url, { pcrs, simulationRoot: stack.attestationRoot, ...change });
    await enclave.close();
    return 'connected';
  } catch (error) {
    return (error as { code: string }).code;
  }
}

describe('the attacks of the demonstration', () => {
  it.each(ATTACKS.map((attack) => [attack.name, attack.expected, attack] as const))(
    '%s ends with %s',
    async (_name, expected, attack) => {
      const story: ToldStory = { release, instance: honest, pcrs: pcrsOf(stack, release.deployment) };
      const before = decryptCount(stack);
      expect((await attack.run(stack, story))?.code).toBe(expected);
      const asked = decryptCount(stack) - before;
      const neverAsks = ['SEALED_MANIFEST_UNSIGNED', 'ATTESTATION_PCR_MISMATCH'].includes(expected);
      expect(asked).toBe(neverAsks ? 0 : 1);
    },
    60_000,
  );

  it('leave the honest enclave serving', async () => {
    expect(await clientRefusal(honest, {})).toBe('connected');
  });
});

describe('refused before KMS is asked', () => {
  it('an older version than the deployment’s minimum, signed as it was', async () => {
    const { keyArn, owner } = release;
    const deployment = writeDeployment({
      keyArn,
      signer: owner.signing.publicKey,
      modelName: MODEL,
      minimumVersion: 2,
    });
    expect(await refusedBeforeKms({ deployment })).toBe('MODEL_NOT_EXPECTED');
  });

  it('the key.json of another model', async () => {
    const modelsFolder = await changedModels((sealed) =>
      cpSync(served(newer.modelsFolder, 'key.json'), join(sealed, 'key.json')),
    );
    expect(await refusedBeforeKms({ modelsFolder })).toBe('SEALED_KEY_FILE_FOREIGN');
  });

  it('the head of another model under the right manifest', async () => {
    const modelsFolder = await changedModels((sealed) =>
      cpSync(served(newer.modelsFolder, 'head'), join(sealed, 'head')),
    );
    expect(await refusedBeforeKms({ modelsFolder })).toBe('SEALED_IDENTITY_MISMATCH');
  });

  it('a manifest that another signed anew', async () => {
    const stranger = await newOwner();
    const modelsFolder = await changedModels(async (sealed) => {
      await signSealedFolder(sealed, stranger.signing.privateKey);
    });
    expect(await refusedBeforeKms({ modelsFolder })).toBe('SEALED_MANIFEST_UNSIGNED');
  });

  it('a manifest without a signature', async () => {
    const modelsFolder = await changedModels((sealed) => {
      const path = join(sealed, 'manifest.json');
      const manifest = JSON.parse(readFileSync(path, 'utf8')) as object;
      writeFileSync(path, JSON.stringify({ ...manifest, signatures: [] }));
    });
    expect(await refusedBeforeKms({ modelsFolder })).toBe('SEALED_MANIFEST_UNSIGNED');
  });

  it('a model without its files', async () => {
    expect(await refusedBeforeKms({ modelsFolder: join(stack.folder, 'nowhere') })).toBe(
      'LINK_ANSWER_REFUSED',
    );
  });

  it('a model whose key no listed KMS key wraps', async () => {
    const deployment = writeDeployment({
      keyArn: newer.keyArn,
      signer: release.owner.signing.publicKey,
      modelName: MODEL,
    });
    expect(await refusedBeforeKms({ deployment })).toBe('KMS_KEY_NOT_ALLOWED');
  });

  it('a deployment document that is none', async () => {
    expect(await refusedBeforeKms({ deployment: Buffer.from('{}') })).toBe('DEPLOYMENT_MALFORMED');
  });
});

describe('a deployment that pins the content id', () => {
  it('serves that very seal, and evidence says that no manifest vouched for it', async () => {
    const deployment = contentDeployment(newer.contentId, newer.keyArn);
    await pinRelease(stack, newer.keyArn, deployment, MODEL);
    await using instance = await stack.startInstance({ deployment, modelsFolder: newer.modelsFolder });
    await instance.serving;
    await using enclave = await connect(instance.url, {
      pcrs: pcrsOf(stack, deployment),
      models: [{ name: MODEL, contentId: newer.contentId }],
      simulationRoot: stack.attestationRoot,
    });
    expect(enclave.evidence.models).toEqual([
      { name: MODEL, version: 2, manifestSha256: null, contentId: newer.contentId },
    ]);
  });

  it('is stopped before KMS is asked when the parent serves another, newer or older', async () => {
    const modelsFolder = newer.modelsFolder;
    const deployment = contentDeployment(release.sealed.manifest.contentId, release.keyArn);
    expect(await refusedBeforeKms({ deployment, modelsFolder })).toBe('MODEL_NOT_EXPECTED');
    expect(await refusedBeforeKms({ deployment: contentDeployment(newer.contentId, newer.keyArn) })).toBe(
      'MODEL_NOT_EXPECTED',
    );
  });
});

describe('refused by KMS, or by what its answer opens', () => {
  it('an instance with another role than the pinned one, though the credentials are the host’s', async () => {
    expect(await outcomeOf(stack, { ...release, roleArn: ROLES.owner })).toBe('KMS_DENIED');
    const record = recordsOf(stack, 'Decrypt').at(-1);
    expect(record).toMatchObject({
      errorCode: 'AccessDenied',
      userIdentity: { sessionContext: { sessionIssuer: { arn: ROLES.host } } },
    });
  });

  it('an enclave in debug mode, whose registers are zero', async () => {
    expect(await outcomeOf(stack, { ...release, debug: true })).toBe('KMS_DENIED');
    const { recipient } = recordsOf(stack, 'Decrypt').at(-1).additionalEventData;
    expect(recipient.attestationDocumentEnclaveImageDigest).toBe(Buffer.alloc(48).toString('base64'));
  });

  it('the wrapped key of another model under a forged label', async () => {
    const modelsFolder = await changedModels((sealed) => {
      const path = join(sealed, 'key.json');
      const { context, wraps } = parseKeyFile(readFileSync(path));
      const [other] = parseKeyFile(readFileSync(served(newer.modelsFolder, 'key.json'))).wraps;
      const forged = wraps.map((wrap) => ({
        ...wrap,
        ciphertextBlob: other?.ciphertextBlob ?? wrap.ciphertextBlob,
      }));
      writeFileSync(path, encodeKeyFile({ context, wraps: forged }));
    });
    expect(await outcomeOf(stack, { ...release, modelsFolder })).toBe('KMS_DENIED');
  });

  it('a data key that is not the model’s, though somebody who may encrypt wrapped it well', async () => {
    const client = localKmsClient(stack, 'owner');
    const modelsFolder = await changedModels(async (sealed) => {
      const path = join(sealed, 'key.json');
      const { context, wraps } = parseKeyFile(readFileSync(path));
      const { CiphertextBlob } = await client.send(
        new EncryptCommand({
          KeyId: release.keyArn,
          Plaintext: new Uint8Array(32).fill(7),
          EncryptionContext: release.sealed.encryptionContext,
        }),
      );
      const forged = wraps.map((wrap) => ({ ...wrap, ciphertextBlob: CiphertextBlob ?? new Uint8Array() }));
      writeFileSync(path, encodeKeyFile({ context, wraps: forged }));
    }).finally(() => client.destroy());
    expect(await outcomeOf(stack, { ...release, modelsFolder })).toBe('SEALED_KEY_MISMATCH');
  });
});

describe('a payload of another length', () => {
  it.each([
    ['one byte short', -1],
    ['one byte long', 1],
  ])('is refused: %s', async (_what, by) => {
    const modelsFolder = await changedModels((sealed) => {
      const path = join(sealed, 'payload');
      truncateSync(path, readFileSync(path).length + by);
    });
    expect(await outcomeOf(stack, { ...release, modelsFolder })).toBe('SEALED_SOURCE_FAILED');
  });
});

describe('a parent that changes what it relays', () => {
  /** Starts an enclave whose host service is the test's from the first byte on. */
  async function startBehind(change: (path: string, body: Buffer) => void) {
    const started = Promise.withResolvers<LocalInstance>();
    let host: HostileHost | undefined;
    const instance = await stack.startInstance({
      ...release,
      onStep: async (step) => {
        if (step === 'randomness-seeded')
          host = await takeHostService((await started.promise).folder, change);
      },
    });
    started.resolve(instance);
    return {
      instance,
      asked: () => host?.asked ?? [],
      [Symbol.asyncDispose]: async () => {
        await instance.close();
        host?.close();
      },
    };
  }
  const flip = (body: Buffer): void => {
    body[body.length >> 1] = (body[body.length >> 1] ?? 0) ^ 1;
  };
  const PAYLOAD = `/models/${MODEL}/payload`;

  it('is mended by fetching again when a chunk is damaged once and then right', async () => {
    let left = 1;
    await using at = await startBehind((path, body) => {
      if (path === PAYLOAD && left-- > 0) flip(body);
    });
    await at.instance.serving;
    expect(left).toBeLessThan(0);
    expect(at.asked().filter((path) => path === PAYLOAD)).toHaveLength(2);
    expect(at.asked()).toContain(`CONNECT ${stack.kms.host}:443`);
    expect(await clientRefusal(at.instance, {})).toBe('connected');
  });

  it('is refused when the chunk stays damaged, after a bounded number of fetches', async () => {
    await using at = await startBehind((path, body) => {
      if (path === PAYLOAD) flip(body);
    });
    await expect(at.instance.serving).rejects.toMatchObject({ reason: 'SEALED_CHUNK_REFUSED' });
    expect(at.asked().filter((path) => path === PAYLOAD)).toHaveLength(4);
  });

  it('meets a KMS that denies when it changes one byte of white space in the deployment', async () => {
    await using at = await startBehind((path, body) => {
      if (path === '/deployment') body.write('\t', body.lastIndexOf('\n'));
    });
    await expect(at.instance.serving).rejects.toMatchObject({ reason: 'KMS_DENIED' });
  });
});

describe('a client', () => {
  it('of production refuses the root of a simulation', async () => {
    const pcrs = pcrsOf(stack, release.deployment);
    await expect(connect(honest.url, { pcrs })).rejects.toMatchObject({ code: 'ATTESTATION_UNTRUSTED_ROOT' });
  });

  it('that expects another deployment refuses', async () => {
    const { 0: image } = pcrsOf(stack, release.deployment);
    const { 16: deployment } = pcrsOf(stack, Buffer.from('{}'));
    expect(await clientRefusal(honest, { pcrs: { 0: image, 16: deployment } })).toBe(
      'ATTESTATION_PCR_MISMATCH',
    );
  });

  it.each([
    ['another model', { name: 'roses' }],
    ['a newer version', { name: MODEL, minimumVersion: 2 }],
    ['another content id', { name: MODEL, contentId: 'ab'.repeat(32) }],
  ])('that expects %s refuses', async (_what, model) => {
    expect(await clientRefusal(honest, { models: [model] })).toBe('CLIENT_MODEL_NOT_LOADED');
  });

  it('refuses an enclave in debug mode, even where it takes any image and a careless policy released the key', async () => {
    const keyArn = await createKey(stack);
    const client = localKmsClient(stack, 'administrator');
    const allow = (who: string, actions: readonly string[]) => ({
      Effect: 'Allow',
      Principal: { AWS: who },
      Action: actions,
      Resource: '*',
    });
    const Policy = JSON.stringify({
      Version: '2012-10-17',
      Statement: [
        allow(ROLES.administrator, ['kms:PutKeyPolicy', 'kms:DescribeKey']),
        allow(ROLES.owner, ['kms:Encrypt', 'kms:DescribeKey']),
        allow(ROLES.host, ['kms:Decrypt']),
      ],
    });
    await client
      .send(new PutKeyPolicyCommand({ KeyId: keyArn, PolicyName: 'default', Policy }))
      .finally(() => client.destroy());
    const { owner } = release;
    const modelsFolder = join(stack.folder, 'models-careless');
    await sealAsOwner(stack, { owner, keyArn, name: MODEL, version: 1, onnx, modelsFolder });
    const deployment = writeDeployment({ keyArn, signer: owner.signing.publicKey, modelName: MODEL });
    await using instance = await stack.startInstance({ deployment, modelsFolder, debug: true });
    await instance.serving;
    const { 0: image, 16: measured } = pcrsOf(stack, deployment);
    for (const expected of ['any', image]) {
      expect(await clientRefusal(instance, { pcrs: { 0: expected, 16: measured } })).toBe(
        'ATTESTATION_DEBUG_IMAGE',
      );
    }
  });
});
