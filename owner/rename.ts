/**
 * rename(2) replaces what it finds, and Node offers no other. renameat2(2) does: RENAME_NOREPLACE loses to whoever was
 * there first, RENAME_EXCHANGE swaps two names in one step. A kernel or file system that does not know a flag says so
 * (ENOSYS, EINVAL); a C library without the function is glibc before 2.28.
 *
 * Constants: Linux include/uapi/linux/fs.h, include/uapi/linux/fcntl.h; the same on x86_64 and aarch64.
 */
import { link, lstat, rename, rm } from 'node:fs/promises';
import { getSystemErrorName } from 'node:util';
import { OwnerError } from './errors.ts';

const AT_FDCWD = -100;
const RENAME_NOREPLACE = 1;
const RENAME_EXCHANGE = 2;
const NO_SUCH_FLAG = ['ENOSYS', 'EINVAL', 'ENOTSUP', 'EOPNOTSUPP'];
const NO_HARD_LINKS = ['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK'];

/**
 * Gives a file or folder a name that nobody has, whoever else wants it in the same moment. Where the file system cannot
 * promise that for a folder, only an empty folder can still be replaced. Throws OWNER_WOULD_OVERWRITE.
 */
export async function renameNew(from: string, to: string): Promise<void> {
  const refusal = await renameat2(from, to, RENAME_NOREPLACE);
  if (refusal === undefined) return;
  if (refusal === 'EEXIST') throw wouldOverwrite(to);
  if (!NO_SUCH_FLAG.includes(refusal)) throw failed(refusal, from, to);
  if ((await lstat(from)).isDirectory()) await renameIfAbsent(from, to);
  else await linkNew(from, to);
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

async function linkNew(from: string, to: string): Promise<void> {
  try {
    await link(from, to);
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST') throw wouldOverwrite(to);
    if (!NO_HARD_LINKS.includes(code)) throw error;
    await renameIfAbsent(from, to);
    return;
  }
  await rm(from);
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

function failed(code: string, from: string, to: string): NodeJS.ErrnoException {
  const error: NodeJS.ErrnoException = new Error(`${code}: rename '${from}' -> '${to}'`);
  return Object.assign(error, { code, syscall: 'rename', path: from, dest: to });
}
