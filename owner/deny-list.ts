/** Writing deny lists, for whoever holds the key that a deployment names for them. */
import { createPublicKey, type KeyObject, randomBytes } from 'node:crypto';
import { rename, rm } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { type Denied, type DenyListFields, verifyDenyList } from '../shared/deny-list/deny-list.ts';
import { signDenyList } from '../shared/deny-list/sign.ts';
import { syncFolder } from './aside.ts';
import { OwnerError } from './errors.ts';
import { writeNewFile } from './secret-files.ts';

export interface NextDenyList {
  /** The list that it follows, whose entries it keeps; undefined: it is the first. */
  readonly previous: Uint8Array | undefined;
  readonly signer: KeyObject;
  readonly at: Date;
  readonly lifeMs: number;
  readonly add: readonly Denied[];
  readonly remove: readonly Denied[];
  /** In place of the next one after `previous`. */
  readonly sequence?: number | undefined;
}

/**
 * The list that follows. Throws DenyListError: a list that somebody else signed is followed by none; OwnerError
 * OWNER_NOT_DENIED for an entry to remove that is not there.
 */
export function nextDenyList(next: NextDenyList): {
  readonly bytes: Uint8Array;
  readonly fields: DenyListFields;
} {
  const { previous, signer, add, remove, lifeMs } = next;
  const before = previous === undefined ? undefined : verifyDenyList(previous, createPublicKey(signer));
  const denied = new Map([...(before?.denied ?? []), ...add].map((entry) => [keyOf(entry), entry]));
  for (const entry of remove) {
    if (!denied.delete(keyOf(entry))) {
      throw new OwnerError('OWNER_NOT_DENIED', `The list does not deny ${entry.kind} ${entry.value}.`);
    }
  }
  const issuedMs = Math.floor(next.at.getTime() / 1000) * 1000;
  const fields = {
    sequence: next.sequence ?? (before?.sequence ?? 0) + 1,
    issuedAt: new Date(issuedMs),
    expiresAt: new Date(issuedMs + lifeMs),
    denied: [...denied.values()],
  };
  return { bytes: signDenyList(fields, signer), fields };
}

/** Replaces the file at once or not at all: a parent reads it at any moment. */
export async function replaceFile(path: string, bytes: Uint8Array): Promise<void> {
  const out = resolve(path);
  const aside = `${out}.partial-${randomBytes(6).toString('hex')}`;
  try {
    await writeNewFile(aside, bytes, 0o644);
    await rename(aside, out);
    await syncFolder(dirname(out));
  } finally {
    await rm(aside, { force: true });
  }
}

function keyOf({ kind, value }: Denied): string {
  return `${kind} ${value}`;
}
