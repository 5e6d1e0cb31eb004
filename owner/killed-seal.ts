/**
 * A seal that is killed while it publishes may have put its recovery wrap in place and not yet its folder. That wrap
 * opens nothing that anybody has, and would be in the way of the next seal; but a recovery file may also be the owner's
 * most precious one, of a folder that was moved away. Only its hidden folder, still there, tells the two apart.
 */
import { lstat, readdir, rm } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { readRecoveryFile } from './data-key.ts';
import { type Leftover, removeLeftovers } from './leftovers.ts';
import { contextOfRecovery } from './recovery.ts';
import { readHead } from './sealed-folder.ts';

/** Removes what killed seals left for `out`, and a recovery wrap that is one of theirs. */
export async function clearKilledSeals(
  out: string,
  recoveryFile: string,
  onLeftover: (leftover: Leftover) => void,
): Promise<void> {
  const path = resolve(out);
  if ((await lstat(path).catch(() => undefined)) !== undefined) return;
  const context = await readRecoveryFile(recoveryFile)
    .then(contextOfRecovery)
    .catch(() => undefined);
  if (context === undefined) return;
  const contexts = new Map<string, string>();
  for (const name of await readdir(dirname(path))) {
    if (!name.startsWith(`.${basename(path)}.partial-`)) continue;
    const hidden = join(dirname(path), name);
    const head = await readHead(hidden).catch(() => undefined);
    if (head !== undefined) contexts.set(hidden, Buffer.from(head.context).toString('base64'));
  }
  for (const leftover of await removeLeftovers(path)) {
    const isTheirs = contexts.get(leftover.path) === context;
    if (leftover.outcome === 'removed' && isTheirs) await rm(recoveryFile, { force: true });
    onLeftover(leftover);
  }
}
