/**
 * What an owner, an administrator and a reviewer do once before an enclave can serve a model, on the local
 * stack: make the KMS key, seal and sign, write the deployment, and put the key policy that pins all of it.
 */
import { type KeyObject, randomBytes } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { CreateKeyCommand, PutKeyPolicyCommand } from '@aws-sdk/client-kms';
import { generateOwnerKeyPair } from '../../owner/keygen.ts';
import { type SealResult, sealToFolder } from '../../owner/seal-model.ts';
import { generateKeyPolicy } from '../../review/policy/generate.ts';
import { DEPLOYMENT_FORMAT } from '../../shared/deployment/deployment.ts';
import { pcrOfMeasuredBytes } from '../../shared/pcr.ts';
import { ACCOUNT_ID, ROLES } from '../../simulator/account.ts';
import type { LocalStack } from '../../simulator/local-stack.ts';
import { localKmsClient } from './kms-client.ts';

export interface Owner {
  readonly signing: { readonly privateKey: KeyObject; readonly publicKey: KeyObject };
  readonly recovery: { readonly privateKey: KeyObject; readonly publicKey: KeyObject };
}

export async function newOwner(): Promise<Owner> {
  const [signing, recovery] = await Promise.all([
    generateOwnerKeyPair('signing'),
    generateOwnerKeyPair('recovery'),
  ]);
  return { signing, recovery };
}

/** A key whose first policy lets nobody decrypt; the release's policy replaces it. */
export async function createKey(stack: LocalStack): Promise<string> {
  const client = localKmsClient(stack, 'administrator');
  try {
    const nobody = randomBytes(48).toString('hex');
    const { KeyMetadata } = await client.send(
      new CreateKeyCommand({ Policy: keyPolicy([{ pcr0: nobody, pcr16: nobody, modelName: 'none' }]) }),
    );
    if (KeyMetadata?.Arn === undefined) throw new Error('CreateKey gave no ARN');
    return KeyMetadata.Arn;
  } finally {
    client.destroy();
  }
}

export interface DeploymentChoices {
  readonly keyArn: string;
  readonly signer: KeyObject;
  readonly modelName: string;
  readonly minimumVersion?: number;
  /** As the document has it; anyone may call if absent. */
  readonly clients?: object;
}

/** The deployment document's bytes. */
export function writeDeployment({
  keyArn,
  signer,
  modelName,
  minimumVersion = 1,
  clients,
}: DeploymentChoices): Buffer {
  const document = {
    format: DEPLOYMENT_FORMAT,
    models: [
      { name: modelName, minimumVersion, signer: signer.export({ type: 'spki', format: 'pem' }).toString() },
    ],
    kmsKeys: [keyArn],
    clients: clients ?? 'anyone',
  };
  return Buffer.from(`${JSON.stringify(document, null, 2)}\n`);
}

export interface PolicyRelease {
  readonly pcr0: string;
  readonly pcr16: string;
  readonly modelName: string;
}

function keyPolicy(releases: readonly PolicyRelease[]): string {
  return generateKeyPolicy({
    accountId: ACCOUNT_ID,
    releases,
    hostRoleArn: ROLES.host,
    administratorArns: [ROLES.administrator],
    sealerArns: [ROLES.owner],
  });
}

export type MeasuredPcrs = { readonly 0: string; readonly 16: string };

/** What callers of the stack's image running this deployment expect, hexadecimal. */
export function pcrsOf(stack: LocalStack, deployment: Uint8Array): MeasuredPcrs {
  const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
  return { 0: hex(stack.measurements.pcr0), 16: hex(pcrOfMeasuredBytes(deployment)) };
}

/** Pins the stack's image together with this deployment in the key's policy; returns the policy's text. */
export async function pinRelease(
  stack: LocalStack,
  keyArn: string,
  deployment: Uint8Array,
  ...modelNames: readonly string[]
): Promise<string> {
  const { 0: pcr0, 16: pcr16 } = pcrsOf(stack, deployment);
  const policy = keyPolicy(modelNames.map((modelName) => ({ pcr0, pcr16, modelName })));
  const client = localKmsClient(stack, 'administrator');
  try {
    await client.send(new PutKeyPolicyCommand({ KeyId: keyArn, PolicyName: 'default', Policy: policy }));
    return policy;
  } finally {
    client.destroy();
  }
}

/** A model's one file, sealed as it would come out of a training job's pipe. */
export type ModelBytes = { readonly onnx: Uint8Array } | { readonly gguf: Uint8Array };

export type SealChoices = ModelBytes & {
  readonly owner: Owner;
  readonly keyArn: string;
  readonly name: string;
  readonly version: number;
  readonly modelsFolder: string;
};

/** Seals as the owner's role, into `modelsFolder/NAME.sealed`. */
export async function sealAsOwner(stack: LocalStack, choices: SealChoices): Promise<SealResult> {
  const { owner, keyArn, name, version, modelsFolder } = choices;
  const [format, bytes] = 'gguf' in choices ? ['gguf', choices.gguf] : ['onnx', choices.onnx];
  mkdirSync(modelsFolder, { recursive: true });
  const client = localKmsClient(stack, 'owner');
  try {
    return await sealToFolder({
      identity: { name, version, format },
      input: { kind: 'pipe', pipe: Readable.from([Buffer.from(bytes)]), path: `${name}.${format}` },
      out: join(modelsFolder, `${name}.sealed`),
      kmsKeys: [{ client, keyArn }],
      recoveryKey: owner.recovery.publicKey,
      signer: owner.signing.privateKey,
    });
  } finally {
    client.destroy();
  }
}

export interface Release {
  readonly keyArn: string;
  readonly owner: Owner;
  readonly modelsFolder: string;
  readonly deployment: Buffer;
  readonly policy: string;
  readonly sealed: SealResult;
}

/** All of it in order, for whoever needs a served model rather than the story. */
export async function prepareRelease(
  stack: LocalStack,
  model: ModelBytes & { readonly name: string; readonly version: number },
  clients?: object,
): Promise<Release> {
  const owner = await newOwner();
  const keyArn = await createKey(stack);
  const deployment = writeDeployment({
    keyArn,
    signer: owner.signing.publicKey,
    modelName: model.name,
    ...(clients === undefined ? {} : { clients }),
  });
  const policy = await pinRelease(stack, keyArn, deployment, model.name);
  const modelsFolder = join(stack.folder, `models-${randomBytes(4).toString('hex')}`);
  const sealed = await sealAsOwner(stack, { owner, keyArn, modelsFolder, ...model });
  return { keyArn, owner, modelsFolder, deployment, policy, sealed };
}
