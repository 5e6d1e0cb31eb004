import { appendFileSync, readdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseKeyFile } from '../../../shared/sealed-model/key-file.ts';
import { encodeKeyFile } from '../../../shared/sealed-model/key-file-write.ts';
import { newObject } from '../../../simulator/s3/objects.ts';
import {
  BUCKET,
  KMS_KEY,
  MIB,
  PART_BYTES,
  read,
  type Sealed,
  sealIris,
  sha256,
  type World,
  world,
} from './setup.ts';

const ALL = ['payload', 'key.json', 'head', 'manifest.json'];

let here: World;
let iris: Sealed;
beforeEach(async () => {
  here = await world();
  iris = await sealIris(join(here.folder, 'any-name'));
});
afterEach(() => here[Symbol.asyncDispose]());

describe('publishing to S3', () => {
  it('brings the four files there, payload first, head and manifest last, and nothing else', async () => {
    writeFileSync(join(iris.folder, 'iris.sealed.recovery.json'), 'never');
    writeFileSync(join(iris.folder, 'notes.txt'), 'never');
    const result = await here.publish(iris.folder);
    expect(result).toMatchObject({
      contentId: iris.contentId,
      written: ALL,
      resumedBytes: 0,
      checksums: true,
    });
    expect(here.files().sort()).toEqual(ALL.toSorted());
    for (const file of ALL) expect(sha256(here.at(file) as Uint8Array)).toBe(sha256(read(iris.folder, file)));
    const writes = here.asked.filter((line) => /^(PUT|POST)/.test(line));
    expect(writes.map((line) => line.replace(/\?.*/, ''))).toEqual([
      ...['POST payload', 'PUT payload', 'PUT payload', 'PUT payload', 'POST payload'],
      ...['PUT key.json', 'PUT head', 'PUT manifest.json'],
    ]);
  });

  it('has S3 keep the digests that the head commits to, and encrypt under the given key', async () => {
    await here.publish(iris.folder);
    const payload = here.s3.objects.get(`${BUCKET}/team/iris.sealed/payload`);
    expect(payload?.checksumSha256).toMatch(/^[A-Za-z0-9+/]{43}=-3$/);
    for (const object of here.s3.objects.values()) {
      expect(object.encryption).toEqual({ algorithm: 'aws:kms', keyArn: KMS_KEY });
    }
  });

  it.each([1, MIB, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1])(
    'takes a payload of %i bytes',
    async (sizeBytes) => {
      const model = await sealIris(join(here.folder, `of-${sizeBytes}`), { sizeBytes });
      await here.publish(model.folder);
      expect(sha256(here.at('payload') as Uint8Array)).toBe(sha256(read(model.folder, 'payload')));
    },
  );

  it('sends nothing twice: what is there is left alone', async () => {
    await here.publish(iris.folder);
    here.asked.length = 0;
    expect(await here.publish(iris.folder)).toMatchObject({ written: [] });
    expect(here.asked.filter((line) => !/^(GET|HEAD)/.test(line))).toEqual([]);
  });

  it('sends key.json alone after a rewrap', async () => {
    await here.publish(iris.folder);
    const { context, wraps } = parseKeyFile(read(iris.folder, 'key.json'));
    const rewrapped = wraps.map((wrap) => ({ ...wrap, label: 'another' }));
    writeFileSync(join(iris.folder, 'key.json'), encodeKeyFile({ context, wraps: rewrapped }));
    expect(await here.publish(iris.folder)).toMatchObject({ written: ['key.json'] });
    expect(sha256(here.at('key.json') as Uint8Array)).toBe(sha256(read(iris.folder, 'key.json')));
  });

  it('continues an upload where it stopped: only the parts that are missing or wrong are sent', async () => {
    let parts = 0;
    const watch = here.s3.intercept;
    here.s3.intercept = (request, response) => {
      const isPart = String(request.url).includes('partNumber=');
      if (!isPart || ++parts < 3) return watch(request, response);
      response.destroy();
      return true;
    };
    await expect(here.publish(iris.folder, { lanes: 1 })).rejects.toMatchObject({
      code: 'PUBLISH_UNREACHABLE',
    });
    here.s3.intercept = watch;
    expect(here.files()).toEqual([]);
    // Somebody else's part of the right size in place of one that arrived.
    const [upload] = here.s3.uploads.values();
    upload?.parts.set(1, newObject(new Uint8Array(PART_BYTES), new Date()));
    here.asked.length = 0;
    expect(await here.publish(iris.folder)).toMatchObject({ written: ALL, resumedBytes: PART_BYTES });
    expect(here.asked.filter((line) => line.includes('partNumber')).sort()).toEqual([
      'PUT payload?partNumber=1',
      'PUT payload?partNumber=3',
    ]);
    expect(sha256(here.at('payload') as Uint8Array)).toBe(sha256(read(iris.folder, 'payload')));
  });

  it('continues by MD5 where the store keeps no SHA-256', async () => {
    const stop = new AbortController();
    const onProgress = (done: number): void => void (done > 0 && stop.abort());
    const encryption = { kind: 'bucket' } as const;
    const options = { lanes: 1, encryption, signal: stop.signal, onProgress };
    await expect(here.publish(iris.folder, options)).rejects.toMatchObject({ code: 'PUBLISH_STOPPED' });
    for (const [id, upload] of here.s3.uploads) {
      const parts = new Map([...upload.parts].map(([at, { checksumSha256: _, ...part }]) => [at, part]));
      here.s3.uploads.set(id, { ...upload, sha256: false, parts });
    }
    expect(await here.publish(iris.folder, { encryption })).toMatchObject({
      resumedBytes: PART_BYTES,
      checksums: false,
    });
    expect(sha256(here.at('payload') as Uint8Array)).toBe(sha256(read(iris.folder, 'payload')));
  });

  it('ends unfinished uploads instead, if told', async () => {
    const stop = new AbortController();
    const onProgress = (done: number): void => void (done > 0 && stop.abort());
    await expect(
      here.publish(iris.folder, { lanes: 1, signal: stop.signal, onProgress }),
    ).rejects.toMatchObject({
      code: 'PUBLISH_STOPPED',
    });
    expect(here.s3.uploads.size).toBe(1);
    expect(await here.publish(iris.folder, { discard: true })).toMatchObject({ resumedBytes: 0 });
    expect(here.s3.uploads.size).toBe(0);
  });

  it('refuses to replace another model unless told, and then takes the old head away before its payload', async () => {
    await here.publish(iris.folder);
    const next = await sealIris(join(here.folder, 'next'), { version: 2 });
    await expect(here.publish(next.folder)).rejects.toMatchObject({ code: 'PUBLISH_WOULD_REPLACE' });
    expect(sha256(here.at('head') as Uint8Array)).toBe(iris.contentId);

    here.asked.length = 0;
    expect(await here.publish(next.folder, { replace: true })).toMatchObject({ written: ALL });
    expect(sha256(here.at('head') as Uint8Array)).toBe(next.contentId);
    const changes = here.asked.filter((line) => /^(DELETE|POST payload$|PUT head)/.test(line));
    expect(changes).toEqual([
      'DELETE manifest.json',
      'DELETE head',
      'DELETE key.json',
      'POST payload',
      'PUT head',
    ]);
  });

  it('takes the old key.json away where the new model has none', async () => {
    await here.publish(iris.folder);
    const next = await sealIris(join(here.folder, 'next'), { withKms: false });
    await here.publish(next.folder, { replace: true });
    expect(here.files().sort()).toEqual(['head', 'manifest.json', 'payload']);
  });

  it('does not put a head over a payload that somebody else put there meanwhile', async () => {
    const watch = here.s3.intercept;
    here.s3.intercept = (request, response) => {
      if (request.method === 'PUT' && String(request.url).includes('key.json')) {
        const place = `${BUCKET}/team/iris.sealed/payload`;
        here.s3.objects.set(place, newObject(new Uint8Array(5), new Date()));
      }
      return watch(request, response);
    };
    await expect(here.publish(iris.folder)).rejects.toMatchObject({ code: 'PUBLISH_CHANGED_MEANWHILE' });
    expect(here.at('head')).toBeUndefined();
  });

  it('does not put its head over one that somebody else put there meanwhile', async () => {
    const watch = here.s3.intercept;
    here.s3.intercept = (request, response) => {
      if (request.method === 'PUT' && String(request.url).includes('key.json')) {
        here.s3.objects.set(`${BUCKET}/team/iris.sealed/head`, newObject(new Uint8Array(5), new Date()));
      }
      return watch(request, response);
    };
    await expect(here.publish(iris.folder)).rejects.toMatchObject({ code: 'PUBLISH_CHANGED_MEANWHILE' });
  });

  it('looks first where the store knows no conditional writes', async () => {
    const watch = here.s3.intercept;
    here.s3.intercept = (request, response) => {
      if (request.headers['if-none-match'] === undefined) return watch(request, response);
      response.writeHead(501, { 'content-type': 'application/xml' });
      response.end('<Error><Code>NotImplemented</Code></Error>');
      return true;
    };
    expect(await here.publish(iris.folder)).toMatchObject({ written: ALL });
  });

  it('tells a store that encrypts otherwise than it was asked to', async () => {
    const watch = here.s3.intercept;
    here.s3.intercept = (request, response) => {
      delete request.headers['x-amz-server-side-encryption'];
      return watch(request, response);
    };
    await expect(here.publish(iris.folder)).rejects.toMatchObject({
      code: 'PUBLISH_NOT_AS_SENT',
      message: expect.stringContaining('aws:kms'),
    });
    expect(here.at('head')).toBeUndefined();
  });

  it('tells a store that holds other bytes than were sent', async () => {
    const watch = here.s3.intercept;
    here.s3.intercept = (request, response) => {
      const place = `${BUCKET}/team/iris.sealed/payload`;
      const found = here.s3.objects.get(place);
      if (found !== undefined && request.method === 'HEAD') {
        here.s3.objects.set(place, { ...found, checksumSha256: 'AAAA-3' });
      }
      return watch(request, response);
    };
    await expect(here.publish(iris.folder)).rejects.toMatchObject({ code: 'PUBLISH_NOT_AS_SENT' });
    expect(here.at('head')).toBeUndefined();
  });

  it('asks for encryption with no key of its own, or for none, if told', async () => {
    await here.publish(iris.folder, { encryption: { kind: 'kms' } });
    const place = `${BUCKET}/team/iris.sealed/payload`;
    expect(here.s3.objects.get(place)?.encryption).toEqual({ algorithm: 'aws:kms' });
    here.s3.objects.clear();
    await here.publish(iris.folder, { encryption: { kind: 'bucket' } });
    expect(here.s3.objects.get(place)?.encryption).toBeUndefined();
  });

  it('sends what was there again if it is not encrypted as asked', async () => {
    await here.publish(iris.folder, { encryption: { kind: 'bucket' } });
    expect(await here.publish(iris.folder)).toMatchObject({ written: ALL });
  });

  it.each([
    ['a payload with a flipped bit', (folder: string) => flip(join(folder, 'payload'), 9 * MIB)],
    ['a payload that is too short', (folder: string) => truncateSync(join(folder, 'payload'), 19 * MIB)],
    ['a payload that is too long', (folder: string) => appendFileSync(join(folder, 'payload'), 'x')],
    ['no payload', (folder: string) => rmSync(join(folder, 'payload'))],
  ])('refuses %s, and no head appears', async (_what, damage) => {
    damage(iris.folder);
    await expect(here.publish(iris.folder)).rejects.toMatchObject({ code: 'PUBLISH_INPUT_UNUSABLE' });
    expect(here.files()).toEqual([]);
  });

  it.each(['key.json', 'manifest.json'])('refuses a %s of another model', async (part) => {
    const other = await sealIris(join(here.folder, 'other'));
    writeFileSync(join(iris.folder, part), read(other.folder, part));
    await expect(here.publish(iris.folder)).rejects.toMatchObject({ code: /^SEALED_/ });
    expect(here.asked).toEqual([]);
  });

  it('names the place and the reason when S3 refuses', async () => {
    here.s3.intercept = (_request, response) => {
      response
        .writeHead(403, { 'content-type': 'application/xml' })
        .end('<Error><Code>AccessDenied</Code></Error>');
      return true;
    };
    await expect(here.publish(iris.folder)).rejects.toMatchObject({ code: 'PUBLISH_REFUSED' });
  });
});

describe('strongroom publish', () => {
  it('publishes to S3 under the name of the model, with the key that the bucket has by default', async () => {
    here.s3.configurations
      .get(BUCKET)
      ?.set(
        'encryption',
        `<Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>aws:kms</SSEAlgorithm><KMSMasterKeyID>${KMS_KEY}</KMSMasterKeyID></ApplyServerSideEncryptionByDefault></Rule>`,
      );
    const args = ['publish', 'any-name', '--to', `s3://${BUCKET}/team/`, '--endpoint', here.s3.endpoint];
    const { code, stdout, stderr } = await here.run(...args, '--json').done;
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(JSON.parse(stdout)).toMatchObject({
      destination: `s3://${BUCKET}/team/iris.sealed`,
      written: ALL,
    });
    expect(here.s3.objects.get(`${BUCKET}/team/iris.sealed/head`)?.encryption?.keyArn).toBe(KMS_KEY);

    const again = await here.run(...args).done;
    expect(again).toMatchObject({ code: 0, stdout: expect.stringContaining('published already') });
  });

  it.each([
    [['any-name', '--to', 's3://Bad_Bucket/x'], 2, 'USAGE'],
    [['any-name', '--to', 's3://sealed-models/a//b'], 2, 'USAGE'],
    [['any-name', '--to', 's3://sealed-models', '--endpoint', 'http://example.com'], 2, 'USAGE'],
    [['any-name', '--to', 'https://example.com/models'], 2, 'USAGE'],
    [['any-name', '--to', 'out', '--parallel', '3'], 2, 'USAGE'],
    [['any-name', '--to', 's3://sealed-models', '--sse', 'none'], 2, 'USAGE'],
    [['nowhere', '--to', 'out'], 2, 'OWNER_NOT_A_SEAL'],
    [
      ['any-name', '--to', 's3://sealed-models', '--endpoint', 'http://127.0.0.1:1'],
      3,
      'PUBLISH_UNREACHABLE',
    ],
  ])('%j ends with %i and %s', async (args, code, text) => {
    expect(await here.run('publish', ...args).done).toMatchObject({
      code,
      stderr: expect.stringContaining(text),
    });
  });

  it('stops at Ctrl-C, says how to go on, and goes on', async () => {
    const args = ['publish', 'any-name', '--to', `s3://${BUCKET}/team`, '--endpoint', here.s3.endpoint];
    const watch = here.s3.intercept;
    const run = here.run(...args, '--parallel', '1');
    let parts = 0;
    here.s3.intercept = (request, response) => {
      const isPart = String(request.url).includes('partNumber=');
      if (isPart && ++parts === 2) run.kill('SIGINT');
      return isPart && parts >= 2 ? true : watch(request, response);
    };
    const { code, stderr } = await run.done;
    expect({ code, stderr }).toMatchObject({
      code: 3,
      stderr: expect.stringContaining('Run the same command again'),
    });
    here.s3.intercept = watch;
    const again = await here.run(...args).done;
    expect(again).toMatchObject({ code: 0, stdout: expect.stringContaining('continued: 8.4 MB') });
  });
});

function flip(path: string, at: number): void {
  const bytes = read(path, '');
  bytes[at] = (bytes[at] ?? 0) ^ 1;
  writeFileSync(path, bytes);
}

it('the folder that was published is left as it was', async () => {
  const before = readdirSync(iris.folder);
  await here.publish(iris.folder);
  expect(readdirSync(iris.folder)).toEqual(before);
});
