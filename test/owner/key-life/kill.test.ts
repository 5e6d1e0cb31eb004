/**
 * kill -9 at moments spread over rewrap and reseal: afterwards there is the old state or the new one, whole, and the
 * next run finishes and cleans up. STRONGROOM_KILLS says how many moments each (6 unless given).
 */
import { randomBytes } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { RotateKeyOnDemandCommand } from '@aws-sdk/client-kms';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { withDataKey } from '../../../owner/data-key.ts';
import { agesOfWraps } from '../../../owner/key-life/due.ts';
import type { SealResult } from '../../../owner/seal-model.ts';
import { PRODUCTION_SIZES } from '../../../shared/sealed-model/format.ts';
import { parseHead } from '../../../shared/sealed-model/head.ts';
import { openSealedModel } from '../../../shared/sealed-model/open.ts';
import { fileSource } from '../../../shared/sealed-model/source.ts';
import { canTrace, changesOf, killBefore, type Program, some, start } from '../kills.ts';
import { byRecovery, commandLine, newOwner, type Owner, partsOf } from './support.ts';

const KILLS = Number(process.env.STRONGROOM_KILLS ?? 6);
const MODEL_BYTES = 24 << 20;
const bytes = randomBytes(MODEL_BYTES);
let owner: Owner;
let options: ReturnType<typeof commandLine>;
let key = '';
let old: SealResult;

beforeAll(async () => {
  owner = await newOwner();
  options = commandLine(owner);
  key = await owner.newKey('iris');
  old = await owner.seal('iris', [key], { bytes, sizes: PRODUCTION_SIZES });
});
afterAll(() => owner.close());

const program = (args: readonly string[]): Program => ({
  args: [...args, ...options.kms],
  cwd: owner.folder,
  env: options.env,
});

async function finish(args: readonly string[]): Promise<void> {
  expect(await start(program(args)).ended).toMatchObject({ code: 0 });
}

/** In a run that takes `tookMs` after it first asked KMS: nothing is on the disk before. */
async function killAt(moment: number, tookMs: number, args: readonly string[]): Promise<void> {
  const calls = owner.stand.records.length;
  const { child, ended } = start(program(args));
  let isOver = false;
  void ended.then(() => (isOver = true));
  while (!isOver && owner.stand.records.length === calls)
    await new Promise((resolve) => setTimeout(resolve, 1));
  await new Promise((resolve) => setTimeout(resolve, moment * tookMs));
  child.kill('SIGKILL');
  await ended;
}

/** How long a run goes on after its first call to KMS. */
async function measure(args: readonly string[]): Promise<number> {
  const calls = owner.stand.records.length;
  const { child, ended } = start(program(args));
  while (owner.stand.records.length === calls && child.exitCode === null)
    await new Promise((resolve) => setTimeout(resolve, 1));
  const startedMs = performance.now();
  expect(await ended).toMatchObject({ code: 0 });
  return performance.now() - startedMs;
}

async function opensWhole(folder: string): Promise<boolean> {
  const head = parseHead(readFileSync(join(folder, 'head')));
  return withDataKey(folder, head, byRecovery, async (_dataKey, unlocked) => {
    const buffer = new SharedArrayBuffer(head.payloadSizeBytes);
    await using source = await fileSource(join(folder, 'payload'));
    await openSealedModel(unlocked, source, { kind: 'memory', buffer });
    return bytes.equals(new Uint8Array(buffer));
  });
}

const STORY_TIMEOUT_MS = 120_000 + KILLS * 20_000;
const moments = Array.from({ length: KILLS }, (_, index) => (index + 0.5) / KILLS);
const PARTS = ['head', 'key.json', 'manifest.json', 'payload'];
const kmsKey = async (keyArn: string) => ({ keyArn, client: owner.as.sealer });

describe(`killed at ${KILLS} moments`, () => {
  it(
    'rewrap leaves the old key.json or the new one, and both open',
    async () => {
      const args = ['rewrap', old.folder];
      const rotate = () => owner.as.administrator.send(new RotateKeyOnDemandCommand({ KeyId: key }));
      await rotate();
      const tookMs = await measure(args);
      for (const [index, moment] of moments.entries()) {
        // KMS allows 25 rotations: the others write a new blob of the same material.
        const again = index % 2 === 0 && index < 40 ? [] : ['--again'];
        if (again.length === 0) await rotate();
        const before = partsOf(old.folder);
        await killAt(moment, tookMs, [...args, ...again]);
        const after = partsOf(old.folder);
        expect({ ...after, 'key.json': '' }).toEqual({ ...before, 'key.json': '' });
        const extra = readdirSync(old.folder).filter((name) => !PARTS.includes(name));
        expect(extra.every((name) => name.startsWith('.key.json.partial-'))).toBe(true);
        const [wrap] = await agesOfWraps([old.folder], { kmsKey, askKms: true }); // KMS can open it
        const wasDone = after['key.json'] !== before['key.json'];
        expect(wrap?.due).toBe(again.length === 0 && !wasDone);
        await finish(args);
        expect(readdirSync(old.folder).sort()).toEqual(PARTS);
      }
    },
    STORY_TIMEOUT_MS,
  );

  it(
    'reseal leaves the old model as it was, and a new one that is whole or not there',
    async () => {
      const out = join(owner.folder, 'new.sealed');
      const remove = () => {
        for (const path of [out, `${out}.recovery.json`]) rmSync(path, { recursive: true, force: true });
      };
      const { recovery, signing } = options.keys;
      const args = [
        'reseal',
        old.folder,
        '--recovery',
        recovery,
        '--sign',
        signing,
        '--kms-key',
        key,
        '-o',
        out,
      ];
      const tookMs = await measure(args);
      remove();
      const before = partsOf(old.folder);
      for (const moment of moments) {
        await killAt(moment, tookMs, args);
        expect(partsOf(old.folder)).toEqual(before);
        if (existsSync(out)) expect(await opensWhole(out)).toBe(true);
        else await finish(args);
        expect(await opensWhole(out)).toBe(true);
        expect(readdirSync(owner.folder).filter((name) => name.startsWith('.'))).toEqual([]);
        remove();
      }
    },
    STORY_TIMEOUT_MS,
  );

  it(
    'reseal in place leaves the old model or the new one, whole, and its recovery wrap',
    async () => {
      const { recovery, signing } = options.keys;
      const args = [
        'reseal',
        old.folder,
        '--recovery',
        recovery,
        '--sign',
        signing,
        '--kms-key',
        key,
        '--replace',
      ];
      const tookMs = await measure(args);
      for (const moment of moments) {
        await killAt(moment, tookMs, args);
        expect(
          readdirSync(old.folder)
            .filter((name) => !name.startsWith('.'))
            .sort(),
        ).toEqual(PARTS);
        expect(await opensWhole(old.folder)).toBe(true);
      }
      await finish(args);
      expect(await opensWhole(old.folder)).toBe(true);
      expect(
        readdirSync(owner.folder)
          .filter((name) => name.includes('iris.sealed'))
          .sort(),
      ).toEqual(['iris.sealed', 'iris.sealed.recovery.json']);
    },
    STORY_TIMEOUT_MS,
  );
});

describe.runIf(canTrace)(
  `killed before ${KILLS} of its changes to the disk${canTrace ? '' : ' (skipped: needs strace)'}`,
  () => {
    it(
      'rewrap leaves the old key.json or the new one',
      async () => {
        const run = program(['rewrap', old.folder, '--again']);
        for (const change of some(await changesOf(run), KILLS)) {
          const before = partsOf(old.folder);
          await killBefore(run, change);
          expect({ ...partsOf(old.folder), 'key.json': '' }).toEqual({ ...before, 'key.json': '' });
          const [wrap] = await agesOfWraps([old.folder], { kmsKey, askKms: true });
          expect(wrap?.due).toBe(false);
          await finish(['rewrap', old.folder, '--again']);
          expect(readdirSync(old.folder).sort()).toEqual(PARTS);
        }
      },
      STORY_TIMEOUT_MS,
    );

    it('reseal in place leaves the old model or the new one, whole, with its recovery wrap', async () => {
      const { recovery, signing } = options.keys;
      const args = ['reseal', old.folder, '--replace', '--kms-key', key, '--recovery', recovery];
      args.push('--sign', signing);
      for (const change of some(await changesOf(program(args)), KILLS)) {
        await killBefore(program(args), change);
        const seen = readdirSync(old.folder).filter((name) => !name.startsWith('.'));
        expect(seen.sort()).toEqual(PARTS);
        expect(await opensWhole(old.folder)).toBe(true);
      }
      await finish(args);
      expect(await opensWhole(old.folder)).toBe(true);
      const left = readdirSync(owner.folder).filter((name) => name.includes('iris.sealed'));
      expect(left.sort()).toEqual(['iris.sealed', 'iris.sealed.recovery.json']);
    }, 1_200_000);
  },
);
