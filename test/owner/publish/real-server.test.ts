/** The object paths against a real S3 server: OpenStack Swift (test/support/swift.ts). */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { CreateBucketCommand, HeadObjectCommand, S3Client } from '@aws-sdk/client-s3';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { publishedPlace } from '../../../owner/key-life/published-place.ts';
import { rewrapModel } from '../../../owner/key-life/rewrap.ts';
import { listPublishedModels } from '../../../owner/publish/list-models.ts';
import { openLocalModel } from '../../../owner/publish/local-model.ts';
import { publishToBucket } from '../../../owner/publish/to-bucket.ts';
import { type Swift, startSwift, swiftMissing } from '../../support/swift.ts';
import { kmsStandIn } from '../kms-stand-in.ts';
import { BUCKET, MIB, read, type Sealed, sealIris, sha256 } from './setup.ts';

const STRONGROOM = join(import.meta.dirname, '../../../scripts/strongroom.ts');
const ALL = ['head', 'key.json', 'manifest.json', 'payload'];
const missing = swiftMissing();

describe.skipIf(missing !== undefined)(
  `a real S3 server${missing === undefined ? '' : ` (skipped: ${missing})`}`,
  () => {
    let swift: Swift;
    let client: S3Client;
    let folder: string;
    let iris: Sealed;
    beforeAll(async () => {
      folder = mkdtempSync(join(tmpdir(), 'strongroom-publish-'));
      iris = await sealIris(join(folder, 'any-name'));
      swift = await startSwift();
      const { endpoint, region, credentials } = swift;
      client = new S3Client({ endpoint, region, credentials, forcePathStyle: true });
      await client.send(new CreateBucketCommand({ Bucket: BUCKET }));
    }, 120_000);
    afterAll(async () => {
      client?.destroy();
      await swift?.[Symbol.asyncDispose]();
      rmSync(folder, { recursive: true, force: true });
    });

    async function strongroom(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
      const child = spawn(process.execPath, [STRONGROOM, ...args, '--endpoint', swift.endpoint], {
        cwd: folder,
        env: {
          PATH: process.env.PATH,
          HOME: folder,
          AWS_EC2_METADATA_DISABLED: 'true',
          AWS_REGION: swift.region,
          AWS_ACCESS_KEY_ID: swift.credentials.accessKeyId,
          AWS_SECRET_ACCESS_KEY: swift.credentials.secretAccessKey,
        },
      });
      const texts = Promise.all([text(child.stdout), text(child.stderr)]);
      const [code] = await once(child, 'close');
      const [stdout, stderr] = await texts;
      return { code, stdout, stderr };
    }

    const publish = (name: string, ...more: string[]) =>
      strongroom('publish', name, '--to', `s3://${BUCKET}/team`, '--sse', 'bucket', ...more);

    async function expectFetched(model: Sealed, out: string): Promise<void> {
      expect(await strongroom('fetch', `s3://${BUCKET}/team/iris.sealed`, '-o', out)).toMatchObject({
        stderr: '',
        code: 0,
      });
      expect(readdirSync(join(folder, out)).sort()).toEqual(ALL);
      for (const file of ALL)
        expect(sha256(read(join(folder, out), file))).toBe(sha256(read(model.folder, file)));
    }

    it('takes a model in parts and gives it back by ranges', async () => {
      expect(await publish('any-name')).toMatchObject({ code: 0, stderr: '' });
      const { ContentLength, ETag } = await client.send(
        new HeadObjectCommand({ Bucket: BUCKET, Key: 'team/iris.sealed/payload' }),
      );
      expect({ ContentLength, ETag }).toEqual({
        ContentLength: 20 * MIB,
        ETag: expect.stringMatching(/-3"$/),
      });
      await expectFetched(iris, 'fetched.sealed');
    }, 120_000);

    it('is sent the rest of what was interrupted', async () => {
      const half = await sealIris(join(folder, 'half'));
      const stop = new AbortController();
      await using model = await openLocalModel(half.folder);
      const place = {
        client,
        bucket: BUCKET,
        prefix: 'half/iris.sealed',
        encryption: { kind: 'bucket' },
      } as const;
      const options = { model, place, replace: false, discard: false, lanes: 1 };
      const onProgress = (done: number): void => void (done > 0 && stop.abort());
      await expect(publishToBucket({ ...options, signal: stop.signal, onProgress })).rejects.toMatchObject({
        code: 'PUBLISH_STOPPED',
      });
      expect(await publishToBucket(options)).toMatchObject({ resumedBytes: 8 * MIB, checksums: false });
    }, 120_000);

    it('is sent nothing twice', async () => {
      expect(await publish('any-name')).toMatchObject({
        code: 0,
        stdout: expect.stringContaining('already'),
      });
    }, 120_000);

    it('keeps a model against another one until it is told', async () => {
      const next = await sealIris(join(folder, 'next'), { version: 2 });
      expect(await publish('next')).toMatchObject({
        code: 1,
        stderr: expect.stringContaining('WOULD_REPLACE'),
      });
      expect(await publish('next', '--replace')).toMatchObject({ code: 0 });
      await expectFetched(next, 'replaced.sealed');
    }, 120_000);

    it('lets a wrap be added and renewed where the model lies, and keeps what somebody else wrote meanwhile', async () => {
      const mine = await sealIris(join(folder, 'mine'), { withKms: false });
      await using model = await openLocalModel(mine.folder);
      const where = { client, bucket: BUCKET, prefix: 'mine/iris.sealed' };
      const lanes = 1;
      const encryption = { kind: 'bucket' } as const;
      await publishToBucket({
        model,
        place: { ...where, encryption },
        replace: false,
        discard: false,
        lanes,
      });
      expect(await listPublishedModels(client, BUCKET, 'mine', undefined)).toEqual([where.prefix]);

      const kms = kmsStandIn();
      const place = publishedPlace(where, { recoveryBeside: '' });
      const key = { kind: 'kept', dataKey: new Uint8Array(32).fill(7) } as const;
      const request = {
        place,
        change: { kind: 'move', to: [kms.keyArn], remove: [], key },
        kmsKey: async () => kms,
        deployments: 'none',
        now: () => new Date(),
      } as const;
      expect((await rewrapModel(request)).changed).toBe(true);
      expect((await rewrapModel({ ...request, again: true })).changed).toBe(true);

      const claim = await place.claimKeyFile();
      await claim.read();
      expect((await rewrapModel({ ...request, again: true })).changed).toBe(true);
      await expect(claim.replace(new Uint8Array(10))).rejects.toMatchObject({ code: 'REWRAP_BUSY' });
    }, 120_000);

    it('says that a model is not there', async () => {
      const args = ['fetch', `s3://${BUCKET}/team/none.sealed`, '-o', 'none'];
      expect(await strongroom(...args)).toMatchObject({
        code: 2,
        stderr: expect.stringContaining('FETCH_NOT_FOUND'),
      });
    });
  },
);
