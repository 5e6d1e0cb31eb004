import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { generateOwnerKeyPair } from '../../../owner/keygen.ts';
import { type FetchModel, fetchModel } from '../../../owner/publish/fetch-model.ts';
import type { FetchSource } from '../../../owner/publish/fetch-source.ts';
import { folderStore } from '../../../parent/models/folder.ts';
import { newObject } from '../../../simulator/s3/objects.ts';
import { registry } from '../../parent/models/stores.ts';
import {
  BUCKET,
  MIB,
  PART_BYTES,
  read,
  type Sealed,
  sealIris,
  sha256,
  signing,
  type World,
  world,
} from './setup.ts';

const ALL = ['payload', 'key.json', 'head', 'manifest.json'];

let here: World;
let store: string;
let iris: Sealed;
let out: string;
beforeEach(async () => {
  here = await world();
  store = join(here.folder, 'store');
  iris = await sealIris(join(store, 'iris.sealed'));
  out = join(here.folder, 'out.sealed');
});
afterEach(() => here[Symbol.asyncDispose]());

function fetchIris(options: Partial<FetchModel> = {}) {
  const signal = new AbortController().signal;
  return fetchModel({ source: folderStore(store), model: 'iris', out, lanes: 2, signal, ...options });
}

function expectWhole(folder = out): void {
  expect(readdirSync(folder).sort()).toEqual(ALL.toSorted());
  for (const file of ALL) expect(sha256(read(folder, file))).toBe(sha256(read(iris.folder, file)));
}

/** The store, where each body is what `change` makes of it. */
function through(
  change: (file: string, first: number, bytes: Uint8Array) => Uint8Array | 'break',
): FetchSource {
  const inner = folderStore(store);
  return {
    open: async (model, file, signal) => {
      const found = await inner.open(model, file, signal);
      if (found === undefined) return undefined;
      return {
        sizeBytes: found.sizeBytes,
        read: async (range) => {
          const body = await found.read(range);
          return (async function* () {
            let at = range.first;
            for await (const bytes of body) {
              const changed = change(file, at, bytes);
              if (changed === 'break') throw new Error('cut');
              yield changed;
              at += bytes.length;
            }
          })();
        },
        [Symbol.asyncDispose]: () => found[Symbol.asyncDispose](),
      };
    },
  };
}

const flipped = (bytes: Uint8Array): Uint8Array => bytes.map((byte, at) => (at === 0 ? byte ^ 1 : byte));

describe('fetching', () => {
  it('gives the folder that was published', async () => {
    const result = await fetchIris({ signer: signing.publicKey, contentId: iris.contentId });
    expect(result).toMatchObject({
      name: 'iris',
      version: 1,
      contentId: iris.contentId,
      signatureChecked: true,
    });
    expectWhole();
  });

  it('never overwrites', async () => {
    mkdirSync(out);
    await expect(fetchIris()).rejects.toMatchObject({ code: 'OWNER_WOULD_OVERWRITE' });
  });

  it.each([['head'], ['manifest.json']])('says so where there is no %s', async (part) => {
    const source = folderStore(store);
    const without: FetchSource = {
      open: async (model, file, signal) => (file === part ? undefined : source.open(model, file, signal)),
    };
    await expect(fetchIris({ source: without })).rejects.toMatchObject({ code: 'FETCH_NOT_FOUND' });
    expect(existsSync(out)).toBe(false);
  });

  it('refuses a manifest by another signer, and one by nobody, before anything is written', async () => {
    const { publicKey } = await generateOwnerKeyPair('signing');
    const code = 'SEALED_MANIFEST_UNSIGNED';
    await expect(fetchIris({ signer: publicKey })).rejects.toMatchObject({ code });
    await sealIris(join(store, 'unsigned.sealed'), { signed: false, sizeBytes: MIB });
    await expect(fetchIris({ model: 'unsigned', signer: signing.publicKey })).rejects.toMatchObject({ code });
    expect(readdirSync(here.folder)).toEqual(['store']);
  });

  it('refuses another content id than the one asked for', async () => {
    await expect(fetchIris({ contentId: '0'.repeat(64) })).rejects.toMatchObject({
      code: 'FETCH_OTHER_MODEL',
    });
  });

  it.each(['head', 'manifest.json', 'key.json'])(
    'refuses a %s of another model among the parts',
    async (part) => {
      const other = await sealIris(join(store, 'other.sealed'), { sizeBytes: MIB, version: 2 });
      writeFileSync(join(iris.folder, part), read(other.folder, part));
      await expect(fetchIris()).rejects.toMatchObject({ code: expect.stringMatching(/^SEALED_/) });
      expect(readdirSync(here.folder)).toEqual(['store']);
    },
  );

  it('fetches a segment again that came with another digest', async () => {
    let wrong = 0;
    const source = through((file, first, bytes) =>
      file === 'payload' && first === PART_BYTES && wrong++ < 2 ? flipped(bytes) : bytes,
    );
    await fetchIris({ source });
    expectWhole();
  });

  it('refuses a payload whose digest stays wrong, and leaves nothing', async () => {
    const source = through((file, first, bytes) =>
      file === 'payload' && first === 0 ? flipped(bytes) : bytes,
    );
    await expect(fetchIris({ source })).rejects.toMatchObject({ code: 'FETCH_ALTERED' });
    expect(readdirSync(here.folder)).toEqual(['store']);
  });

  it('refuses a payload of another length', async () => {
    writeFileSync(join(iris.folder, 'payload'), 'short');
    await expect(fetchIris()).rejects.toMatchObject({ code: 'FETCH_OTHER_MODEL' });
  });

  it('goes on in the middle of a segment where a body was cut', async () => {
    let cuts = 0;
    let nextCut = 0;
    const source = through((file, first, bytes) => {
      if (file !== 'payload' || first < nextCut) return bytes;
      nextCut = first + MIB;
      cuts += 1;
      return 'break';
    });
    await fetchIris({ source, lanes: 1 });
    expectWhole();
    expect(cuts).toBeGreaterThan(12);
  });

  it('keeps what it has when the source fails for good, and the next run goes on from there', async () => {
    const source = through((file, first, bytes) =>
      file === 'payload' && first >= PART_BYTES ? 'break' : bytes,
    );
    await expect(fetchIris({ source, lanes: 1 })).rejects.toMatchObject({ code: 'FETCH_SOURCE_FAILED' });
    expect(existsSync(out)).toBe(false);
    // This very process wrote it and still runs: to others it is somebody's who is at work.
    const told: string[] = [];
    await fetchIris({ onLeftover: ({ outcome }) => void told.push(outcome) });
    expect(told).toEqual(['running']);
    expectWhole();
  });

  it('stops when told', async () => {
    const stop = new AbortController();
    const onProgress = (phase: string, done: number): void => void (done > MIB && stop.abort(phase));
    await expect(fetchIris({ signal: stop.signal, onProgress })).rejects.toMatchObject({
      code: 'PUBLISH_STOPPED',
    });
    expect(existsSync(out)).toBe(false);
  });
});

describe('strongroom fetch', () => {
  it('fetches from S3 by ranges, checks the signature, and goes on after Ctrl-C', async () => {
    for (const file of ALL) {
      here.s3.objects.set(
        `${BUCKET}/team/iris.sealed/${file}`,
        newObject(read(iris.folder, file), new Date()),
      );
    }
    writeFileSync(
      join(here.folder, 'signing.pub.pem'),
      signing.publicKey.export({ format: 'pem', type: 'spki' }),
    );
    const args = [
      'fetch',
      `s3://${BUCKET}/team/iris.sealed`,
      '-o',
      'out.sealed',
      '--endpoint',
      here.s3.endpoint,
    ];
    const watch = here.s3.intercept;
    const run = here.run(...args, '--parallel', '1', '--signer', 'signing.pub.pem');
    let bodies = 0;
    here.s3.intercept = (request, response) => {
      const isBody = request.method === 'GET' && String(request.url).includes('/payload');
      if (isBody && ++bodies === 2) run.kill('SIGINT');
      return isBody && bodies >= 2 ? true : watch(request, response);
    };
    const { code, stderr } = await run.done;
    expect({ code, stderr }).toMatchObject({ code: 3, stderr: expect.stringContaining('PUBLISH_STOPPED') });
    expect(existsSync(out)).toBe(false);
    here.s3.intercept = watch;
    const again = await here.run(...args, '--signer', 'signing.pub.pem', '--json').done;
    expect(again).toMatchObject({ code: 0, stderr: '' });
    expect(JSON.parse(again.stdout)).toMatchObject({ signatureChecked: true, resumedBytes: PART_BYTES });
    expectWhole();
    expect(readdirSync(here.folder).filter((name) => name.includes('partial'))).toEqual([]);
  });

  it('fetches from a web server over TLS 1.3 with a client certificate', async () => {
    await using server = await registry();
    for (const file of ALL) server.put(`iris.sealed/${file}`, read(iris.folder, file));
    const { config } = server;
    if (config.kind !== 'registry') throw new Error('a registry was started');
    const ca = config.ca as string;
    const { code, stdout } = await here.run(
      'fetch',
      `${config.url}/iris.sealed`,
      '-o',
      'out.sealed',
      '--ca',
      ca,
    ).done;
    expect({ code, stdout }).toMatchObject({ code: 0, stdout: expect.stringContaining('was not checked') });
    expectWhole();
  });

  it.each([
    [['store/iris.sealed'], 2, '-o OUT'],
    [['store', '-o', 'x'], 2, 'NAME.sealed'],
    [['store/iris.sealed', '-o', 'x', '--ca', 'y'], 2, 'does not go with this place'],
    [['store/iris.sealed', '-o', 'x', '--content-id', '12'], 2, 'hexadecimal'],
    [['store/none.sealed', '-o', 'x'], 2, 'FETCH_NOT_FOUND'],
    [['http://example.com/iris.sealed', '-o', 'x'], 2, 'https://'],
    [['store/iris.sealed', '-o', 'store'], 2, 'OWNER_WOULD_OVERWRITE'],
  ])('%j ends with %i and says %s', async (args, code, text) => {
    expect(await here.run('fetch', ...args).done).toMatchObject({
      code,
      stderr: expect.stringContaining(text),
    });
  });
});
