/**
 * kill -9 of seal: under the final name stands nothing or the whole model with its recovery wrap, and the next seal to
 * the same output finishes and cleans up. STRONGROOM_KILLS says how many moments and changes (5 unless given).
 */
import { randomBytes } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { withDataKey } from '../../owner/data-key.ts';
import { parseHead } from '../../shared/sealed-model/head.ts';
import { openSealedModel } from '../../shared/sealed-model/open.ts';
import { fileSource } from '../../shared/sealed-model/source.ts';
import { byRecovery, commandLine, newOwner, type Owner, recovery } from './key-life/support.ts';
import { canTrace, changesOf, killBefore, type Program, some, start } from './kills.ts';

const KILLS = Number(process.env.STRONGROOM_KILLS ?? 5);
const STORY_TIMEOUT_MS = 120_000 + KILLS * 20_000;
const PARTS = ['head', 'key.json', 'manifest.json', 'payload'];
const bytes = randomBytes(12 << 20);
let owner: Owner;
let program: Program;
let out = '';

beforeAll(async () => {
  owner = await newOwner();
  const options = commandLine(owner);
  const key = await owner.newKey('iris');
  out = join(owner.folder, 'iris.sealed');
  writeFileSync(join(owner.folder, 'model.onnx'), bytes);
  const recoveryKey = join(owner.folder, 'recovery.pub.pem');
  writeFileSync(recoveryKey, recovery.publicKey.export({ type: 'spki', format: 'pem' }));
  const args = ['seal', '--name', 'iris', '--version', '1', '--kms-key', key, '--recovery-key', recoveryKey];
  args.push('--sign', options.keys.signing, '-o', out, 'model.onnx', ...options.kms);
  program = { args, cwd: owner.folder, env: options.env };
}, STORY_TIMEOUT_MS);
afterAll(() => owner.close());

const hidden = (): string[] => readdirSync(owner.folder).filter((name) => name.startsWith('.'));

async function opensWhole(): Promise<boolean> {
  const head = parseHead(readFileSync(join(out, 'head')));
  return withDataKey(out, head, byRecovery, async (_dataKey, unlocked) => {
    const buffer = new SharedArrayBuffer(head.payloadSizeBytes);
    await using source = await fileSource(join(out, 'payload'));
    await openSealedModel(unlocked, source, { kind: 'memory', buffer });
    return bytes.equals(new Uint8Array(buffer));
  });
}

/** What a kill left, then what the next run makes of it. */
async function expectOldOrNew(): Promise<void> {
  if (!existsSync(out)) expect(await start(program).ended).toMatchObject({ code: 0 });
  expect(readdirSync(out).sort()).toEqual(PARTS);
  expect(await opensWhole()).toBe(true);
  expect(hidden()).toEqual([]);
  clear();
}

function clear(): void {
  for (const path of [out, `${out}.recovery.json`]) rmSync(path, { recursive: true, force: true });
}

describe('seal, killed', () => {
  it(
    `at ${KILLS} moments, leaves nothing under its name or the whole model`,
    async () => {
      /** Before a run asks KMS, nothing is on the disk. */
      const untilAsked = async (calls: number, { child }: ReturnType<typeof start>): Promise<void> => {
        while (owner.stand.records.length === calls && child.exitCode === null) await sleep(1);
      };
      const calls = owner.stand.records.length;
      const whole = start(program);
      await untilAsked(calls, whole);
      const askedMs = performance.now();
      expect(await whole.ended).toMatchObject({ code: 0 });
      const tookMs = performance.now() - askedMs;
      clear();
      for (let index = 0; index < KILLS; index++) {
        const before = owner.stand.records.length;
        const run = start(program);
        await untilAsked(before, run);
        await sleep(((index + 0.5) / KILLS) * tookMs);
        run.child.kill('SIGKILL');
        await run.ended;
        await expectOldOrNew();
      }
    },
    STORY_TIMEOUT_MS,
  );

  it.runIf(canTrace)(
    `before ${KILLS} of its changes to the disk, leaves the same${canTrace ? '' : ' (skipped: needs strace)'}`,
    async () => {
      const changes = await changesOf(program);
      clear();
      expect(changes.map(({ call }) => call)).toEqual(
        expect.arrayContaining(['mkdir', 'pwrite64', 'fsync', 'link', 'rename']),
      );
      for (const change of some(changes, KILLS)) {
        await killBefore(program, change);
        await expectOldOrNew();
      }
    },
    STORY_TIMEOUT_MS,
  );
});
