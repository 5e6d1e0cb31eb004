/** A release of several models under one deployment, with limits or telemetry of its own. */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { DEPLOYMENT_FORMAT } from '../../shared/deployment/deployment.ts';
import type { LocalStack } from '../../simulator/local-stack.ts';
import { createKey, type ModelBytes, newOwner, type Owner, pinRelease, sealAsOwner } from './release.ts';

export interface ReleaseOfSeveral {
  readonly keyArn: string;
  readonly owner: Owner;
  readonly modelsFolder: string;
  readonly deployment: Buffer;
}

/** `members` are members of the deployment document: `clients`, `limits`, `telemetry`. Anyone may call if absent. */
export async function prepareReleaseOfSeveral(
  stack: LocalStack,
  models: readonly (ModelBytes & { readonly name: string; readonly version: number })[],
  members: object,
): Promise<ReleaseOfSeveral> {
  const [owner, keyArn] = await Promise.all([newOwner(), createKey(stack)]);
  const signer = owner.signing.publicKey.export({ type: 'spki', format: 'pem' }).toString();
  const document = {
    format: DEPLOYMENT_FORMAT,
    models: models.map(({ name }) => ({ name, minimumVersion: 1, signer })),
    kmsKeys: [keyArn],
    clients: 'anyone',
    ...members,
  };
  const deployment = Buffer.from(`${JSON.stringify(document, null, 2)}\n`);
  await pinRelease(stack, keyArn, deployment, ...models.map(({ name }) => name));
  const modelsFolder = join(stack.folder, `models-${randomBytes(4).toString('hex')}`);
  for (const model of models) await sealAsOwner(stack, { owner, keyArn, modelsFolder, ...model });
  return { keyArn, owner, modelsFolder, deployment };
}
