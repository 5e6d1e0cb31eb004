/** Rewrapping models where they are published: S3 has no claims, so the write itself is conditional. */
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { RotateKeyOnDemandCommand } from '@aws-sdk/client-kms';
import { S3Client } from '@aws-sdk/client-s3';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { publishedPlace } from '../../../owner/key-life/published-place.ts';
import { rewrapModel } from '../../../owner/key-life/rewrap.ts';
import { rewrapAll } from '../../../owner/key-life/rewrap-all.ts';
import { generateOwnerKeyPair } from '../../../owner/keygen.ts';
import { listPublishedModels } from '../../../owner/publish/list-models.ts';
import { parseHead } from '../../../shared/sealed-model/head.ts';
import { expectKeyFileOf, parseKeyFile } from '../../../shared/sealed-model/key-file.ts';
import { newObject } from '../../../simulator/s3/objects.ts';
import { type SimulatedS3, startSimulatedS3 } from '../../../simulator/s3/server.ts';
import { REGION } from '../../simulator/kms/support.ts';
import { type Program, start } from '../kills.ts';
import { byRecovery, commandLine, newOwner, type Owner, sealer, signing } from './support.ts';

const BUCKET = 'sealed-models';
const NAMES = Array.from({ length: 6 }, (_, index) => `fleet-${index}`);
const PARTS = ['head', 'key.json', 'manifest.json', 'payload'] as const;
const renew = { kind: 'renew' } as const;
const KMS_KEY = 'arn:aws:kms:eu-central-1:111122223333:key/5ea1ed00-0000-4000-8000-000000000001';

let owner: Owner;
let key = '';
let s3: SimulatedS3;
let client: S3Client;
let options: ReturnType<typeof commandLine>;
/** `PUT fleet-1.sealed/key.json`, oldest first. */
let asked: string[] = [];

beforeAll(async () => {
  owner = await newOwner();
  options = commandLine(owner);
  key = await owner.newKey(...NAMES);
  for (const name of NAMES) await owner.seal(name, [key]);
}, 60_000);
afterAll(() => owner.close());

beforeEach(async () => {
  const { accessKeyId, secretAccessKey, sessionToken = '' } = sealer;
  const credentials = { accessKeyId, secretAccessKey, sessionToken };
  const principals = [credentials];
  s3 = await startSimulatedS3({ region: REGION, buckets: [BUCKET], principals, now: () => new Date() });
  s3.intercept = (request) => {
    const path = new URL(String(request.url), 'http://s3').pathname.replace(`/${BUCKET}/team/`, '');
    asked.push(`${request.method} ${path}`);
    return false;
  };
  asked = [];
  client = new S3Client({
    region: REGION,
    endpoint: s3.endpoint,
    forcePathStyle: true,
    credentials,
    maxAttempts: 3,
    requestChecksumCalculation: 'WHEN_REQUIRED',
  });
  for (const name of NAMES) {
    for (const part of PARTS) put(`team/${name}.sealed/${part}`, read(name, part));
  }
  await owner.as.administrator.send(new RotateKeyOnDemandCommand({ KeyId: key }));
});
afterEach(async () => {
  client.destroy();
  await s3.close();
});

const read = (name: string, part: string): Buffer => readFileSync(join(owner.folder, `${name}.sealed`, part));
const put = (path: string, bytes: Uint8Array, more?: Parameters<typeof newObject>[2]): void =>
  void s3.objects.set(`${BUCKET}/${path}`, newObject(bytes, new Date(), more));
const at = (path: string): Uint8Array => s3.objects.get(`${BUCKET}/team/${path}`)?.bytes ?? new Uint8Array();
const place = (name: string, recoveryBeside = '') =>
  publishedPlace({ client, bucket: BUCKET, prefix: `team/${name}.sealed` }, { recoveryBeside });
const first = () => place('fleet-0');

/** All objects but key.json. */
function others(): string {
  const hash = createHash('sha256');
  for (const [path, { bytes }] of s3.objects) if (!path.endsWith('key.json')) hash.update(path).update(bytes);
  return hash.digest('hex');
}

function expectFits(name: string): void {
  const head = parseHead(at(`${name}.sealed/head`));
  expectKeyFileOf(head, parseKeyFile(at(`${name}.sealed/key.json`)));
}

describe('a published model', () => {
  it('gets another key.json, and nothing but head, manifest and key.json is fetched', async () => {
    const before = others();
    const old = at('fleet-0.sealed/key.json');
    expect(await rewrapModel(owner.rewrap(first(), renew))).toMatchObject({
      folder: `s3://${BUCKET}/team/fleet-0.sealed`,
      changed: true,
      wraps: [{ keyArn: key, outcome: 'renewed' }],
    });
    expect(at('fleet-0.sealed/key.json')).not.toEqual(old);
    expect(others()).toBe(before);
    expectFits('fleet-0');
    expect(asked.filter((request) => request.startsWith('PUT'))).toEqual(['PUT fleet-0.sealed/key.json']);
    expect(asked.some((request) => request.includes('payload'))).toBe(false);
    expect((await rewrapModel(owner.rewrap(first(), renew))).changed).toBe(false);
  });

  it('stays encrypted at rest as it was', async () => {
    const encryption = { algorithm: 'aws:kms', keyArn: KMS_KEY };
    const bytes = read('fleet-0', 'key.json');
    put('team/fleet-0.sealed/key.json', bytes, { encryption } as Parameters<typeof newObject>[2]);
    await rewrapModel(owner.rewrap(first(), renew));
    expect(s3.objects.get(`${BUCKET}/team/fleet-0.sealed/key.json`)?.encryption).toMatchObject(encryption);
  });

  it.each(['replaced', 'taken away'])(
    'whose key.json is %s meanwhile is left as that somebody left it',
    async (what) => {
      const theirs = Buffer.from('theirs');
      const watch = s3.intercept;
      s3.intercept = (request, response) => {
        if (request.method === 'PUT' && what === 'replaced') put('team/fleet-0.sealed/key.json', theirs);
        else if (request.method === 'PUT') s3.objects.delete(`${BUCKET}/team/fleet-0.sealed/key.json`);
        return watch(request, response);
      };
      await expect(rewrapModel(owner.rewrap(first(), renew))).rejects.toMatchObject({ code: 'REWRAP_BUSY' });
      expect(Buffer.from(at('fleet-0.sealed/key.json'))).toEqual(
        what === 'replaced' ? theirs : Buffer.alloc(0),
      );
    },
  );

  it('of two that rewrap it at once, one does and the other is told', async () => {
    const outcomes = await Promise.allSettled([
      rewrapModel(owner.rewrap(first(), renew, { again: true })),
      rewrapModel(owner.rewrap(first(), renew, { again: true })),
    ]);
    for (const outcome of outcomes) {
      if (outcome.status === 'rejected') expect(outcome.reason).toMatchObject({ code: 'REWRAP_BUSY' });
    }
    expect(outcomes.some(({ status }) => status === 'fulfilled')).toBe(true);
    expectFits('fleet-0');
  });

  it('is done where the answer to the write got lost', async () => {
    const watch = s3.intercept;
    let lost = 0;
    s3.intercept = (request, response) => {
      if (request.method === 'PUT' && lost++ === 0) {
        response.writeHead = (() => {
          response.socket?.destroy();
          return response;
        }) as never;
      }
      return watch(request, response);
    };
    expect((await rewrapModel(owner.rewrap(first(), renew))).changed).toBe(true);
    expect(asked.filter((request) => request.startsWith('PUT')).length).toBeGreaterThan(1);
    expectFits('fleet-0');
  });

  it.each([
    ['no manifest', (name: string) => void s3.objects.delete(`${BUCKET}/team/${name}.sealed/manifest.json`)],
    [
      'the manifest of another',
      (name: string) => put(`team/${name}.sealed/manifest.json`, read('fleet-1', 'manifest.json')),
    ],
    ['the head of another', (name: string) => put(`team/${name}.sealed/head`, read('fleet-1', 'head'))],
    [
      'the key.json of another',
      (name: string) => put(`team/${name}.sealed/key.json`, read('fleet-1', 'key.json')),
    ],
    [
      'a key.json without end',
      (name: string) => put(`team/${name}.sealed/key.json`, new Uint8Array(2 << 20)),
    ],
  ])('with %s is refused, and KMS is not asked', async (_, breakIt) => {
    breakIt('fleet-0');
    const calls = owner.stand.records.length;
    await expect(rewrapModel(owner.rewrap(first(), renew))).rejects.toMatchObject({
      exitCode: expect.any(Number),
    });
    expect(owner.stand.records.length).toBe(calls);
    expect(asked.some((request) => request.startsWith('PUT'))).toBe(false);
  });

  it('is touched only if the signer that is given signed it', async () => {
    const { publicKey } = await generateOwnerKeyPair('signing');
    await expect(rewrapModel(owner.rewrap(first(), renew, { signer: publicKey }))).rejects.toMatchObject({
      code: 'SEALED_MANIFEST_UNSIGNED',
    });
    const result = await rewrapModel(owner.rewrap(first(), renew, { signer: signing.publicKey }));
    expect(result.changed).toBe(true);
  });

  it('moves to another KMS key by a recovery wrap that lies here', async () => {
    const next = await owner.newKey('fleet-0');
    const beside = join(owner.folder, 'fleet-0.sealed');
    const move = { kind: 'move', to: [next], remove: [key], key: byRecovery } as const;
    await rewrapModel(owner.rewrap(place('fleet-0', beside), move, { deployments: 'none' }));
    expect(parseKeyFile(at('fleet-0.sealed/key.json')).wraps.map(({ keyArn }) => keyArn)).toEqual([next]);
    expectFits('fleet-0');
  });
});

describe('many published models', () => {
  it('are listed by their heads, page by page, below a prefix or beginning so', async () => {
    for (let index = 0; index < 1200; index++)
      put(`many/${String(index).padStart(4, '0')}.sealed/head`, new Uint8Array(1));
    put('team/fleet-x.sealed/payload', new Uint8Array(1));
    put('team/notes/head', new Uint8Array(1));
    put('teamwork/fleet-9.sealed/head', new Uint8Array(1));
    const list = (prefix: string) => listPublishedModels(client, BUCKET, prefix, undefined);
    expect(await list('many/')).toHaveLength(1200);
    const all = NAMES.map((name) => `team/${name}.sealed`);
    for (const prefix of ['team', 'team/', 'team/fleet-']) expect(await list(prefix)).toEqual(all);
    expect(await list('team/fleet-3.sealed')).toEqual(['team/fleet-3.sealed']);
    expect(await list('teamwork/fleet-')).toEqual(['teamwork/fleet-9.sealed']);
    expect(await list('')).toHaveLength(1200 + NAMES.length + 1);
  });

  it('are done on their own, and again only what is left', async () => {
    const good = at('fleet-2.sealed/key.json');
    put('team/fleet-2.sealed/key.json', Buffer.from('{}'));
    const run = () =>
      rewrapAll(
        NAMES.map((name) => place(name)),
        (one) => owner.rewrap(one, renew),
        { atOnce: 3 },
      );
    const outcomes = (await run()).map(({ outcome }) => outcome);
    expect(outcomes).toEqual(['done', 'done', 'refused', 'done', 'done', 'done']);
    put('team/fleet-2.sealed/key.json', good);
    const again = (await run()).map(({ outcome }) => outcome);
    expect(again).toEqual(['current', 'current', 'done', 'current', 'current', 'current']);
  });
});

describe('strongroom rewrap s3://', () => {
  const program = (...args: readonly string[]): Program => ({
    args: [...args, '--endpoint', s3.endpoint, ...options.kms],
    cwd: owner.folder,
    env: { ...options.env, AWS_EC2_METADATA_DISABLED: 'true', HOME: owner.folder },
  });

  it('does all, reports each, and after a kill goes on with the rest', async () => {
    const all = program('rewrap', '--all', `s3://${BUCKET}/team`, '--json', '--jobs', '1');
    const watch = s3.intercept;
    const run = start(all);
    let puts = 0;
    s3.intercept = (request, response) => {
      if (request.method === 'PUT' && ++puts === 3) response.on('finish', () => run.child.kill('SIGKILL'));
      return watch(request, response);
    };
    await run.ended;
    s3.intercept = watch;
    for (const name of NAMES) expectFits(name);
    const { code, stdout, stderr } = await start(all).ended;
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const { summary, models } = JSON.parse(stdout);
    expect(summary.current).toBeGreaterThanOrEqual(3);
    expect(summary.done + summary.current).toBe(NAMES.length);
    expect(models[0].folder).toBe(`s3://${BUCKET}/team/fleet-0.sealed`);
  }, 60_000);

  it('finds recovery wraps in a folder that is laid out as the prefix', async () => {
    const next = await owner.newKey(...NAMES);
    const wraps = join(owner.folder, 'wraps');
    mkdirSync(wraps);
    for (const file of readdirSync(owner.folder).filter((name) => name.endsWith('.recovery.json')))
      writeFileSync(join(wraps, basename(file)), readFileSync(join(owner.folder, file)));
    renameSync(join(wraps, 'fleet-5.sealed.recovery.json'), join(wraps, 'elsewhere.json'));
    const move = ['--to', next, '--recovery', options.keys.recovery];
    const all = program('rewrap', '--all', `s3://${BUCKET}/team/`, ...move, '--recovery-folder', 'wraps');
    const { code, stdout } = await start(all).ended;
    expect(code).toBe(1);
    expect(stdout).toContain('5 rewrapped, 0 needed nothing, 1 refused');
    const one = program('rewrap', `s3://${BUCKET}/team/fleet-5.sealed`, ...move);
    expect(await start(one).ended).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('--recovery-folder'),
    });
    const named = { ...one, args: [...one.args, '--recovery-file', 'wraps/elsewhere.json'] };
    expect(await start(named).ended).toMatchObject({ code: 0 });
  }, 60_000);

  it('says that there is no model, and that options for S3 are for S3', async () => {
    expect(await start(program('rewrap', '--all', `s3://${BUCKET}/none/`)).ended).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('OWNER_MODEL_UNKNOWN'),
    });
    expect(await start(program('rewrap', 'fleet-0.sealed')).ended).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('--endpoint is for models in s3://'),
    });
  }, 60_000);
});
