/** What a reviewer is handed of a local stack: everything that a yes to this release rests on (docs/review.md). */
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DescribeKeyCommand, ListGrantsCommand } from '@aws-sdk/client-kms';
import { formatRelease, releaseDeployment } from '../../review/releases.ts';
import type { LocalStack } from '../../simulator/local-stack.ts';
import { localKmsClient } from './kms-client.ts';
import type { Release } from './release.ts';

export interface ReviewedRelease extends Release {
  readonly modelName: string;
  /** An attestation document of the enclave that serves it. */
  readonly attestation: Uint8Array;
}

/** Makes the folder if need be, and replaces files of an earlier simulation. */
export async function writeReviewFiles(
  folder: string,
  stack: LocalStack,
  release: ReviewedRelease,
): Promise<void> {
  const { deployment, policy, modelsFolder, modelName, attestation } = release;
  const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
  const { pcr0, pcr1, pcr2 } = stack.measurements;
  const pcrs = { 0: hex(pcr0), 1: hex(pcr1), 2: hex(pcr2) };
  const json = (value: unknown) => `${JSON.stringify(value, undefined, 2)}\n`;
  mkdirSync(folder, { recursive: true });
  const write = (file: string, content: string | Uint8Array) => writeFileSync(join(folder, file), content);
  write('image.json', json({ Measurements: { PCR0: pcrs[0], PCR1: pcrs[1], PCR2: pcrs[2] } }));
  write('deployment.json', deployment);
  write('policy.json', policy);
  write('context.json', json(await contextOf(stack, release.keyArn)));
  write('attestation.cbor', attestation);
  write('simulation-root.pem', stack.attestationRoot);
  const deployments = [releaseDeployment(deployment)];
  write('release.json', formatRelease({ name: 'strongroom', version: 'simulated', pcrs, deployments }));
  copyFileSync(join(modelsFolder, `${modelName}.sealed`, 'manifest.json'), join(folder, 'manifest.json'));
}

/** As the administrator of the key sees it. */
async function contextOf(stack: LocalStack, keyArn: string): Promise<object> {
  const client = localKmsClient(stack, 'administrator');
  try {
    const { Grants } = await client.send(new ListGrantsCommand({ KeyId: keyArn }));
    const { KeyMetadata } = await client.send(new DescribeKeyCommand({ KeyId: keyArn }));
    return { grants: Grants ?? [], keyMetadata: KeyMetadata };
  } finally {
    client.destroy();
  }
}
