/** An owner with keys and a KMS whose generated policies are in force, for everything that befalls a data key. */
import { createHash, generateKeyPairSync, randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CreateKeyCommand, type KMSClient } from '@aws-sdk/client-kms';
import type { DataKeySource } from '../../../owner/data-key.ts';
import type { Rewrap, WrapChange } from '../../../owner/key-life/rewrap.ts';
import { folderPlace, type SealedPlace } from '../../../owner/key-life/sealed-place.ts';
import type { NamedDeployment } from '../../../owner/key-life/stranding.ts';
import { type SealResult, sealToFolder } from '../../../owner/seal-model.ts';
import { generateKeyPolicy } from '../../../review/policy/generate.ts';
import { parseDeployment } from '../../../shared/deployment/deployment.ts';
import type { ChunkSizes } from '../../../shared/sealed-model/format.ts';
import {
  ACCOUNT,
  ALL_OF_KMS,
  principal,
  REGION,
  role,
  type Stand,
  startStand,
} from '../../simulator/kms/support.ts';

export const administrator = principal(role('KeyAdministrator'), { iamPolicies: [ALL_OF_KMS] });
export const sealer = principal(role('ModelOwner'), { sessionToken: 'token of ModelOwner' });
export const signing = generateKeyPairSync('ec', { namedCurve: 'P-256' });
export const recovery = generateKeyPairSync('rsa', { modulusLength: 3072 });
export const stranger = generateKeyPairSync('rsa', { modulusLength: 3072 });
/** Many chunks and segments of little. */
export const SIZES = { chunkLog2: 10, segmentLog2: 13, epochLog2: 16 };

export interface Owner {
  readonly stand: Stand;
  readonly folder: string;
  readonly as: { readonly administrator: KMSClient; readonly sealer: KMSClient };
  /** A key whose policy names these models. */
  newKey(...modelNames: string[]): Promise<string>;
  seal(
    name: string,
    kmsKeys: readonly string[],
    more?: { readonly bytes?: Uint8Array; readonly note?: boolean; readonly sizes?: ChunkSizes },
  ): Promise<SealResult>;
  rewrap(sealed: string | SealedPlace, change: WrapChange, more?: Partial<Rewrap>): Rewrap;
  close(): Promise<void>;
}

export async function newOwner(): Promise<Owner> {
  const stand = await startStand([administrator, sealer]);
  const folder = mkdtempSync(join(tmpdir(), 'strongroom-owner-'));
  const as = { administrator: stand.client(administrator), sealer: stand.client(sealer) };
  const pcr = () => randomBytes(48).toString('hex');
  return {
    stand,
    folder,
    as,
    async newKey(...modelNames) {
      const Policy = generateKeyPolicy({
        accountId: ACCOUNT,
        releases: modelNames.map((modelName) => ({ pcr0: pcr(), pcr16: pcr(), modelName })),
        hostRoleArn: role('EnclaveHost'),
        administratorArns: [administrator.arn],
        sealerArns: [sealer.arn],
      });
      const made = await as.administrator.send(new CreateKeyCommand({ Policy }));
      return made.KeyMetadata?.Arn as string;
    },
    async seal(name, kmsKeys, { bytes = randomBytes(20_000), note = true, sizes = SIZES } = {}) {
      const plaintext = join(folder, `${name}.onnx`);
      writeFileSync(plaintext, bytes);
      return sealToFolder({
        identity: { name, version: 3, format: 'onnx' },
        input: { kind: 'paths', paths: [plaintext] },
        out: join(folder, `${name}.sealed`),
        kmsKeys: kmsKeys.map((keyArn) => ({ client: as.sealer, keyArn })),
        recoveryKey: recovery.publicKey,
        signer: signing.privateKey,
        sizes,
        ...(note ? { now: () => new Date() } : {}),
      });
    },
    rewrap: (sealed, change, more = {}) => ({
      place: typeof sealed === 'string' ? folderPlace(sealed) : sealed,
      change,
      kmsKey: async (keyArn) => ({ client: as.sealer, keyArn }),
      deployments: [],
      now: () => new Date(),
      ...more,
    }),
    async close() {
      await stand.close();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

export const byRecovery: DataKeySource = { kind: 'recovery', privateKey: recovery.privateKey };

export function deploymentOf(name: string, kmsKeys: readonly string[], more: object = {}): NamedDeployment {
  return { name: 'deployment.json', deployment: parseDeployment(deploymentBytes(name, kmsKeys, more)) };
}

export function deploymentBytes(name: string, kmsKeys: readonly string[], more: object = {}): Buffer {
  const signer = signing.publicKey.export({ type: 'spki', format: 'pem' });
  return Buffer.from(
    JSON.stringify({
      format: 'strongroom-deployment/1',
      models: [{ name, minimumVersion: 1, signer, ...more }],
      kmsKeys,
      clients: 'anyone',
    }),
  );
}

/** Everything of a sealed folder by name, for "nothing else changed". */
export function partsOf(folder: string): Record<'payload' | 'head' | 'key.json' | 'manifest.json', string> {
  const digest = (name: string): string =>
    createHash('sha256')
      .update(readFileSync(join(folder, name)))
      .digest('hex');
  return {
    payload: digest('payload'),
    head: digest('head'),
    'key.json': digest('key.json'),
    'manifest.json': digest('manifest.json'),
  };
}

/** For commands: the sealer's credentials, and the files and options that reach this KMS. */
export function commandLine({ stand, folder }: Owner): {
  readonly env: NodeJS.ProcessEnv;
  readonly kms: readonly string[];
  readonly keys: { readonly recovery: string; readonly stranger: string; readonly signing: string };
} {
  const write = (name: string, text: string | Buffer): string => {
    const path = join(folder, name);
    writeFileSync(path, text, { mode: 0o600 });
    return path;
  };
  const pem = (key: typeof recovery.privateKey) => key.export({ type: 'pkcs8', format: 'pem' });
  const ca = write('kms-ca.pem', stand.kms.caCertificatePem);
  return {
    env: {
      PATH: process.env.PATH,
      AWS_ACCESS_KEY_ID: sealer.accessKeyId,
      AWS_SECRET_ACCESS_KEY: sealer.secretAccessKey,
      AWS_SESSION_TOKEN: sealer.sessionToken,
      AWS_REGION: REGION,
    },
    kms: ['--kms-endpoint', `https://127.0.0.1:${stand.kms.port}`, '--kms-ca', ca],
    keys: {
      recovery: write('recovery.key.pem', pem(recovery.privateKey)),
      stranger: write('stranger.key.pem', pem(stranger.privateKey)),
      signing: write('signing.key.pem', pem(signing.privateKey)),
    },
  };
}
