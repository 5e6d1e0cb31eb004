/**
 * A sealed model takes the place of another: the two folders are swapped in one step, so that under the name stands
 * the old model or the new one, whole, whenever this is interrupted (docs/owner.md).
 *
 * The new model waits under a fixed hidden name with its recovery wrap beside it. Whoever comes next can tell from the
 * contexts alone how far a killed replacement came: `settleReplacement`.
 */
import { lstat, mkdir, readdir, rename, rm } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { syncFolder } from '../aside.ts';
import { readRecoveryFile } from '../data-key.ts';
import { asideOf, removeLeftovers } from '../leftovers.ts';
import { contextOfRecovery, nextOf, recoveryFileOf } from '../recovery.ts';
import { exchange } from '../rename.ts';
import { readHead } from '../sealed-folder.ts';
import { DataKeyError } from './errors.ts';

const PARTS: ReadonlySet<string> = new Set(['payload', 'head', 'key.json', 'manifest.json']);

/** Asked before hours of work. Throws RESEAL_CANNOT_EXCHANGE, RESEAL_FOREIGN_FILES. */
export async function expectReplaceable(folder: string): Promise<void> {
  const names = await readdir(folder);
  const foreign = names.find((name) => !PARTS.has(name) && !name.startsWith('.'));
  if (foreign !== undefined) {
    throw new DataKeyError('RESEAL_FOREIGN_FILES', `${join(folder, foreign)} is no part of a sealed model.`);
  }
  await removeLeftovers(resolve(folder)); // a trial that was killed
  const trial = asideOf(resolve(folder));
  const [one, other] = [join(trial, 'one'), join(trial, 'other')];
  try {
    await mkdir(one, { recursive: true });
    await mkdir(other);
    await swap(one, other);
  } finally {
    await rm(trial, { recursive: true, force: true });
  }
}

/** Puts the model that waits at `nextOf(folder)`, whole and on the disk, in the folder's place; the old one is deleted. */
export async function replaceByNext(folder: string): Promise<void> {
  await swap(nextOf(folder), resolve(folder));
  await syncFolder(dirname(resolve(folder)));
  await settleReplacement(folder);
}

/**
 * Finishes what was swapped already and removes what was not: before the swap the new model's data key has opened
 * nothing for anybody. Only for whoever holds the claim on the folder. Says whether there was anything.
 */
export async function settleReplacement(folder: string): Promise<boolean> {
  const next = nextOf(folder);
  const nextRecovery = recoveryFileOf(next);
  const parent = dirname(next);
  const recovery = await readRecoveryFile(nextRecovery).catch(() => undefined);
  const hasNext = (await lstat(next).catch(() => undefined)) !== undefined;
  if (recovery === undefined && !hasNext) return false;
  if (recovery !== undefined) {
    const { context } = await readHead(folder);
    if (contextOfRecovery(recovery) === Buffer.from(context).toString('base64')) {
      await rename(nextRecovery, recoveryFileOf(resolve(folder)));
      await syncFolder(parent);
      await rm(next, { recursive: true, force: true });
    } else {
      await rm(next, { recursive: true, force: true }); // first: its wrap alone means nothing
      await rm(nextRecovery, { force: true });
    }
  }
  await rm(next, { recursive: true, force: true });
  await syncFolder(parent);
  return true;
}

async function swap(one: string, other: string): Promise<void> {
  const refusal = await exchange(one, other);
  if (refusal === undefined) return;
  throw new DataKeyError('RESEAL_CANNOT_EXCHANGE', `${one} and ${other} cannot be exchanged: ${refusal}.`);
}
