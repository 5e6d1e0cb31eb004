/**
 * rename(2) replaces what it finds. link(2) does not, so a file gets its name by that; and a folder never replaces one that
 * holds anything. What Node does not offer is renameat2(2): RENAME_EXCHANGE swaps two names in one step, and
 * RENAME_NOREPLACE stands in where a file system has no links. One that does not know a flag says so (ENOSYS, EINVAL); a
 * C library without the function is glibc before 2.28.
 *
 * Constants: Linux include/uapi/linux/fs.h, include/uapi/linux/fcntl.h; the same on x86_64 and aarch64.
 */
import { link, lstat, rename, rm } from 'node:fs/promises';
import { getSystemErrorName } from 'node:util';
import { OwnerError } from './errors.ts';

const AT_FDCWD = -100;
const RENAME_NOREPLACE = 1;
const RENAME_EXCHANGE = 2;
const NO_HARD_LINKS = ['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK'];

/**
 * Gives a file or folder a name that nobody has, whoever else wants it in the same moment; only an empty folder may be
 * replaced, by a folder. Throws OWNER_WOULD_OVERWRITE.
 */
export async function renameNew(from: string, to: string): Promise<void> {
  if ((await lstat(from)).isDirectory()) return renameIfAbsent(from, to);
  try {
    await link(from, to);
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST') throw wouldOverwrite(to);
    if (!NO_HARD_LINKS.includes(code)) throw error;
    return renameWithoutLinks(from, to);
  }
  await rm(from);
}

/** Swaps two names that both exist. Resolves to the errno's name where the system refuses. */
export function exchange(one: string, other: string): Promise<string | undefined> {
  return renameat2(one, other, RENAME_EXCHANGE);
}

/** Throws OWNER_WOULD_OVERWRITE. */
export async function expectAbsent(path: string): Promise<void> {
  const found = await lstat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  if (found !== undefined) throw wouldOverwrite(path);
}

async function renameWithoutLinks(from: string, to: string): Promise<void> {
  const refusal = await renameat2(from, to, RENAME_NOREPLACE);
  if (refusal === 'EEXIST') throw wouldOverwrite(to);
  if (refusal !== undefined) await renameIfAbsent(from, to);
}

async function renameIfAbsent(from: string, to: string): Promise<void> {
  await expectAbsent(to);
  await rename(from, to).catch((error: NodeJS.ErrnoException) => {
    throw ['ENOTEMPTY', 'EEXIST', 'ENOTDIR'].includes(error.code ?? '') ? wouldOverwrite(to) : error;
  });
}

type Renameat2 = (from: string, to: string, flags: number) => string | undefined;
let native: Promise<Renameat2> | undefined;

async function renameat2(from: string, to: string, flags: number): Promise<string | undefined> {
  native ??= loadRenameat2();
  return (await native)(from, to, flags);
}

/** Loaded where it is first needed: most commands rename nothing. */
async function loadRenameat2(): Promise<Renameat2> {
  const { default: koffi } = await import('koffi');
  try {
    const call = koffi.load(null).func('int renameat2(int, const char *, int, const char *, unsigned int)');
    return (from, to, flags) =>
      call(AT_FDCWD, from, AT_FDCWD, to, flags) === 0 ? undefined : getSystemErrorName(-koffi.errno());
  } catch {
    return () => 'ENOSYS';
  }
}

function wouldOverwrite(path: string): OwnerError {
  return new OwnerError('OWNER_WOULD_OVERWRITE', `${path} exists already.`);
}
