/**
 * kill -9 at any moment of publish and fetch: whoever reads finds the old model or the new one (in S3 also none, while
 * one takes the other's place), and the next run finishes the work. `STRONGROOM_KILLS=100` tries as many moments of
 * each: at requests, a little after them, and before changes to the disk, spread over the whole work.
 */
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { cp } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { fetchModel } from '../../../owner/publish/fetch-model.ts';
import { folderStore } from '../../../parent/models/folder.ts';
import { openModelStore } from '../../../parent/models/open-store.ts';
import { REMOTE_LIMITS } from '../../../parent/models/patience.ts';
import { newObject } from '../../../simulator/s3/objects.ts';
import { canTrace, changesOf, killBefore, some, start } from '../kills.ts';
import { BUCKET, REGION, read, type Sealed, sealIris, sha256, type World, world } from './setup.ts';

const KILLS = Number(process.env.STRONGROOM_KILLS ?? 4);
/** About what a request takes here. */
const LATER_MS = 20;
const STORY_TIMEOUT_MS = 60_000 + KILLS * 20_000;
const ALL = ['payload', 'key.json', 'head', 'manifest.json'];

let here: World;
let old: Sealed;
let next: Sealed;
beforeEach(async () => {
  here = await world();
  old = await sealIris(join(here.folder, 'old'));
  next = await sealIris(join(here.folder, 'next'), { version: 2 });
}, STORY_TIMEOUT_MS);
afterEach(() => here[Symbol.asyncDispose]());

interface Moment {
  /** From 1. */
  readonly request: number;
  readonly laterMs: number;
}

/** Spread over all requests, ends included. More moments than requests are a little after them, each another time. */
function spread(count: number, requests: number): readonly Moment[] {
  return Array.from({ length: count }, (_, at) => {
    const exact = 1 + (at * (requests - 1)) / Math.max(1, count - 1);
    const request = Math.round(exact);
    return { request, laterMs: count <= requests ? 0 : Math.abs(exact - request) * 2 * LATER_MS };
  });
}

/** What a reader finds: a content id, or nothing. Throws for anything else. */
async function readerOfBucket(out: string): Promise<string | undefined> {
  const source = openModelStore(
    { kind: 's3', bucket: BUCKET, prefix: 'team', region: REGION, endpoint: here.s3.endpoint },
    {
      credentials: {
        provide: async () => ({
          accessKeyId: 'ASIAEXAMPLEEXAMPLE01',
          secretAccessKey: 'x',
          sessionToken: 'ExampleSessionToken==',
          expiration: new Date(8.64e15),
        }),
      },
      observe: () => {},
      now: Date.now,
      limits: { ...REMOTE_LIMITS, attemptTimeoutMs: 60_000, answerTimeoutMs: 120_000, idleTimeoutMs: 60_000 },
    },
  );
  try {
    return await readWith(source, out);
  } finally {
    source.close();
  }
}

async function readWith(
  source: Parameters<typeof fetchModel>[0]['source'],
  out: string,
): Promise<string | undefined> {
  try {
    const signal = new AbortController().signal;
    return (await fetchModel({ source, model: 'iris', out, lanes: 2, signal })).contentId;
  } catch (error) {
    if ((error as { code?: string }).code === 'FETCH_NOT_FOUND') return undefined;
    throw error;
  } finally {
    rmSync(out, { recursive: true, force: true });
  }
}

describe('publish, killed', () => {
  it.each(['before', 'after'])(
    '%s S3 does what was asked last, leaves the old model, none or the new one',
    async (when) => {
      const args = ['publish', 'next', '--to', `s3://${BUCKET}/team`, '--endpoint', here.s3.endpoint];
      args.push('--sse', 'bucket', '--replace', '--parallel', '2');
      const watch = here.s3.intercept;
      // How many requests there are.
      await here.publish(old.folder, { encryption: { kind: 'bucket' } });
      const published = [...here.s3.objects];
      here.asked.length = 0;
      await here.publish(next.folder, { encryption: { kind: 'bucket' }, replace: true });
      const requests = here.asked.length;

      const found = new Set<string | undefined>();
      for (const moment of spread(KILLS, requests)) {
        here.s3.objects.clear();
        here.s3.uploads.clear();
        for (const [place, object] of published) here.s3.objects.set(place, object);
        const run = here.run(...args);
        let seen = 0;
        here.s3.intercept = (request, response) => {
          if (++seen !== moment.request) return watch(request, response);
          const kill = (): unknown => setTimeout(() => run.kill('SIGKILL'), moment.laterMs);
          if (when === 'after') response.on('finish', kill);
          else kill();
          return when === 'before';
        };
        await run.done;
        here.s3.intercept = watch;
        const state = await readerOfBucket(join(here.folder, 'reader.sealed'));
        expect([undefined, old.contentId, next.contentId]).toContain(state);
        found.add(state);

        expect(await here.run(...args).done).toMatchObject({ code: 0 });
        expect(await readerOfBucket(join(here.folder, 'reader.sealed'))).toBe(next.contentId);
        expect(here.s3.uploads.size).toBe(0);
      }
      expect(found.has(old.contentId)).toBe(true);
      expect(found.has(next.contentId) || when === 'before').toBe(true);
    },
    STORY_TIMEOUT_MS,
  );

  it.runIf(canTrace)(
    `into a folder, before a change to the disk, leaves the old model or the new one${canTrace ? '' : ' (skipped: needs strace)'}`,
    async () => {
      const store = join(here.folder, 'store');
      const program = here.program('publish', 'next', '--to', 'store', '--replace');
      const reset = async (): Promise<void> => {
        rmSync(store, { recursive: true, force: true });
        await cp(old.folder, join(store, 'iris.sealed'), { recursive: true });
      };
      await reset();
      const changes = await changesOf(program);
      const found = new Set<string | undefined>();
      for (const change of some(changes, KILLS)) {
        await reset();
        await killBefore(program, change);
        const state = await readWith(folderStore(store), join(here.folder, 'reader.sealed'));
        expect([old.contentId, next.contentId]).toContain(state);
        found.add(state);

        expect(await start(program).ended).toMatchObject({ code: 0 });
        expect(await readWith(folderStore(store), join(here.folder, 'reader.sealed'))).toBe(next.contentId);
        expect(readdirSync(store)).toEqual(['iris.sealed']);
      }
      expect(found).toEqual(new Set([old.contentId, next.contentId]));
    },
    STORY_TIMEOUT_MS,
  );
});

describe('fetch, killed', () => {
  it(
    'leaves nothing under the final name or the whole model, and the next run goes on',
    async () => {
      for (const file of ALL) {
        here.s3.objects.set(
          `${BUCKET}/team/iris.sealed/${file}`,
          newObject(read(old.folder, file), new Date()),
        );
      }
      const args = [
        'fetch',
        `s3://${BUCKET}/team/iris.sealed`,
        '-o',
        'out.sealed',
        '--endpoint',
        here.s3.endpoint,
      ];
      const out = join(here.folder, 'out.sealed');
      const watch = here.s3.intercept;
      let resumed = 0;
      for (const moment of spread(KILLS, 10)) {
        rmSync(out, { recursive: true, force: true });
        const run = here.run(...args, '--parallel', '1');
        let seen = 0;
        here.s3.intercept = (request, response) => {
          if (++seen === moment.request) setTimeout(() => run.kill('SIGKILL'), moment.laterMs);
          return watch(request, response);
        };
        await run.done;
        here.s3.intercept = watch;
        if (!existsSync(out)) {
          const again = await here.run(...args, '--json').done;
          expect(again).toMatchObject({ code: 0 });
          if (JSON.parse(again.stdout).resumedBytes > 0) resumed += 1;
        }
        expect(readdirSync(out).sort()).toEqual(ALL.toSorted());
        for (const file of ALL) expect(sha256(read(out, file))).toBe(sha256(read(old.folder, file)));
        expect(readdirSync(here.folder).filter((name) => name.includes('partial'))).toEqual([]);
      }
      expect(resumed).toBeGreaterThanOrEqual(1);
    },
    STORY_TIMEOUT_MS,
  );

  it.runIf(canTrace)(
    `leaves the same before a change to the disk${canTrace ? '' : ' (skipped: needs strace)'}`,
    async () => {
      await cp(old.folder, join(here.folder, 'store', 'iris.sealed'), { recursive: true });
      const program = here.program('fetch', 'store/iris.sealed', '-o', 'out.sealed', '--parallel', '1');
      const out = join(here.folder, 'out.sealed');
      const changes = await changesOf(program);
      for (const change of some(changes, KILLS)) {
        rmSync(out, { recursive: true, force: true });
        await killBefore(program, change);
        if (!existsSync(out)) expect(await start(program).ended).toMatchObject({ code: 0 });
        expect(readdirSync(out).sort()).toEqual(ALL.toSorted());
        for (const file of ALL) expect(sha256(read(out, file))).toBe(sha256(read(old.folder, file)));
        expect(readdirSync(here.folder).filter((name) => name.includes('partial'))).toEqual([]);
      }
    },
    STORY_TIMEOUT_MS,
  );
});
