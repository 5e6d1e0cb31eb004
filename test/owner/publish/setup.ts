/** Sealed models to publish, and an S3 to publish them to. Parts of 8 MiB, so that 20 MiB are three of them. */
import { createHash, randomFillSync } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { S3Client } from '@aws-sdk/client-s3';
import { generateOwnerKeyPair } from '../../../owner/keygen.ts';
import type { Encryption } from '../../../owner/publish/bucket-store.ts';
import { openLocalModel } from '../../../owner/publish/local-model.ts';
import { type PublishToBucket, publishToBucket } from '../../../owner/publish/to-bucket.ts';
import { sealToFolder } from '../../../owner/seal-model.ts';
import { type SimulatedS3, startSimulatedS3 } from '../../../simulator/s3/server.ts';
import { type Outcome, type Program, start } from '../kills.ts';
import { kmsStandIn } from '../kms-stand-in.ts';

export const REGION = 'eu-central-1';
export const BUCKET = 'sealed-models';
export const MIB = 1 << 20;
export const KMS_KEY = 'arn:aws:kms:eu-central-1:111122223333:key/5ea1ed00-0000-4000-8000-000000000001';
const UNDER_KEY: Encryption = { kind: 'kms', keyArn: KMS_KEY };
export const PART_BYTES = 8 * MIB;
const SIZES = { chunkLog2: 20, segmentLog2: 23, epochLog2: 36 };

export const signing = await generateOwnerKeyPair('signing');
const recovery = await generateOwnerKeyPair('recovery');

export interface Sealed {
  readonly folder: string;
  readonly contentId: string;
}

export interface Model {
  readonly sizeBytes?: number;
  readonly version?: number;
  readonly signed?: boolean;
  readonly withKms?: boolean;
}

/** Named iris, whatever its folder is called. Random bytes: two seals never have one content id anyway. */
export async function sealIris(folder: string, options: Model = {}): Promise<Sealed> {
  const { sizeBytes = 20 * MIB, version = 1, signed = true, withKms = true } = options;
  const bytes = randomFillSync(new Uint8Array(sizeBytes));
  const result = await sealToFolder({
    identity: { name: 'iris', version, format: 'onnx' },
    input: {
      kind: 'source',
      path: 'model.onnx',
      open: async () => ({
        sizeBytes,
        read: async (offset, target) => void target.set(bytes.subarray(offset, offset + target.length)),
      }),
    },
    out: folder,
    kmsKeys: withKms ? [kmsStandIn()] : [],
    ...(withKms ? { recoveryKey: recovery.publicKey } : { dataKey: new Uint8Array(32).fill(7) }),
    ...(signed && { signer: signing.privateKey }),
    sizes: SIZES,
  });
  return { folder, contentId: result.manifest.contentId };
}

export interface World extends AsyncDisposable {
  readonly folder: string;
  readonly s3: SimulatedS3;
  readonly client: S3Client;
  /** The requests so far, oldest first: `PUT payload?partNumber=1`. */
  readonly asked: string[];
  at(file: string): Uint8Array | undefined;
  files(): string[];
  publish(
    folder: string,
    options?: Partial<Omit<PublishToBucket, 'place'>> & { encryption?: Encryption },
  ): ReturnType<typeof publishToBucket>;
  /** The command line, with credentials in the environment. */
  program(...args: readonly string[]): Program;
  run(...args: string[]): Run;
}

export interface Run {
  readonly pid: number;
  kill(signal: NodeJS.Signals): void;
  readonly done: Promise<Outcome>;
}

const PREFIX = 'team/iris.sealed';
const CREDENTIALS = {
  accessKeyId: 'ASIAEXAMPLEEXAMPLE01',
  secretAccessKey: 'ExampleSecretAccessKey0123456789/+abcdef',
  sessionToken: 'ExampleSessionToken==',
};

export async function world(): Promise<World> {
  const folder = mkdtempSync(join(tmpdir(), 'strongroom-publish-'));
  const s3 = await startSimulatedS3({
    region: REGION,
    buckets: [BUCKET],
    principals: [CREDENTIALS],
    now: () => new Date(),
  });
  const asked: string[] = [];
  s3.intercept = (request) => {
    const path = String(request.url).replace(/^\/sealed-models\/(team\/iris\.sealed\/)?/, '');
    asked.push(`${request.method} ${path.replace(/[?&](x-id|uploadId)=[^&]*/g, '')}`);
    return false;
  };
  const client = new S3Client({
    region: REGION,
    endpoint: s3.endpoint,
    forcePathStyle: true,
    credentials: CREDENTIALS,
    maxAttempts: 1,
    requestChecksumCalculation: 'WHEN_REQUIRED',
  });
  const program = (...args: readonly string[]): Program => ({
    args,
    cwd: folder,
    env: {
      PATH: process.env.PATH,
      HOME: folder,
      AWS_EC2_METADATA_DISABLED: 'true',
      AWS_REGION: REGION,
      AWS_ACCESS_KEY_ID: CREDENTIALS.accessKeyId,
      AWS_SECRET_ACCESS_KEY: CREDENTIALS.secretAccessKey,
      AWS_SESSION_TOKEN: CREDENTIALS.sessionToken,
    },
  });
  return {
    folder,
    s3,
    client,
    asked,
    at: (file) => s3.objects.get(`${BUCKET}/${PREFIX}/${file}`)?.bytes,
    files: () => [...s3.objects.keys()].map((place) => place.replace(`${BUCKET}/${PREFIX}/`, '')),
    publish: async (path, { encryption = UNDER_KEY, ...options } = {}) => {
      await using model = await openLocalModel(path);
      const place = { client, bucket: BUCKET, prefix: PREFIX, encryption };
      return await publishToBucket({ model, place, replace: false, discard: false, lanes: 2, ...options });
    },
    program,
    run: (...args) => {
      const { child, ended } = start(program(...args));
      return {
        pid: child.pid as number,
        kill: (signal) => void child.kill(signal),
        done: ended,
      };
    },
    [Symbol.asyncDispose]: async () => {
      client.destroy();
      await s3.close();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

export const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

export const read = (folder: string, file: string): Buffer => readFileSync(join(folder, file));
