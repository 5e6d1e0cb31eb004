/** An owner's desk: a folder with keys, in which models of several files are sealed as their owner would, by the command. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect } from 'vitest';
import { createKey, newOwner, pinRelease, writeDeployment } from '../../scripts/local/release.ts';
import { REGION } from '../../simulator/account.ts';
import type { LocalStack } from '../../simulator/local-stack.ts';
import { PROJECT } from './support.ts';

export interface Desk {
  readonly deployment: Buffer;
  /** Writes the exporter's folder, and seals it by the command. Returns the folder of sealed models. */
  sealFolder(story: string, files: Readonly<Record<string, Uint8Array>>): string;
}

/** With a key that is released to the stack's image for models of this name. */
export async function openDesk(stack: LocalStack, name: string): Promise<Desk> {
  const owner = await newOwner();
  const keyArn = await createKey(stack);
  const deployment = writeDeployment({ keyArn, signer: owner.signing.publicKey, modelName: name });
  await pinRelease(stack, keyArn, deployment, name);
  const desk = join(stack.folder, 'desk');
  mkdirSync(desk);
  const { privateKey } = owner.signing;
  writeFileSync(join(desk, 'signing.key.pem'), privateKey.export({ type: 'pkcs8', format: 'pem' }), {
    mode: 0o600,
  });
  writeFileSync(join(desk, 'recovery.pem'), owner.recovery.publicKey.export({ type: 'spki', format: 'pem' }));
  writeFileSync(join(desk, 'kms-ca.pem'), stack.kms.caCertificatePem);
  const sealFolder: Desk['sealFolder'] = (story, files) => {
    const folder = join(desk, story, 'exported');
    for (const [path, content] of Object.entries(files)) {
      mkdirSync(dirname(join(folder, path)), { recursive: true });
      writeFileSync(join(folder, path), content);
    }
    const modelsFolder = join(desk, story, 'models');
    mkdirSync(modelsFolder);
    const { accessKeyId, secretAccessKey, sessionToken } = stack.credentials('owner');
    const { status, stderr } = spawnSync(
      process.execPath,
      [
        ...[join(PROJECT, 'scripts/strongroom.ts'), 'seal', '--name', name, '--version', '1'],
        ...[
          '--format',
          'onnx',
          '--kms-key',
          keyArn,
          '--sign',
          'signing.key.pem',
          '--recovery-key',
          'recovery.pem',
        ],
        ...['--kms-endpoint', `https://127.0.0.1:${stack.kms.port}`, '--kms-ca', 'kms-ca.pem'],
        ...['-o', join(modelsFolder, `${name}.sealed`), folder],
      ],
      {
        cwd: desk,
        encoding: 'utf8',
        env: {
          PATH: process.env.PATH,
          AWS_ACCESS_KEY_ID: accessKeyId,
          AWS_SECRET_ACCESS_KEY: secretAccessKey,
          AWS_SESSION_TOKEN: sessionToken,
          AWS_REGION: REGION,
        },
      },
    );
    expect([status, stderr]).toEqual([0, expect.any(String)]);
    return modelsFolder;
  };
  return { deployment, sealFolder };
}
