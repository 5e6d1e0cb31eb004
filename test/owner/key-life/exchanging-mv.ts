/**
 * `mv --exchange` for machines whose coreutils are older than 9.5: the same system call (renameat2 with
 * RENAME_EXCHANGE) through Python, where there is one. What is tested is then everything but GNU mv itself.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const SHIM = `#!/usr/bin/env python3
import ctypes, os, sys
assert sys.argv[1:4] == ['--exchange', '-T', '--'], sys.argv
libc = ctypes.CDLL(None, use_errno=True)
if libc.renameat2(-100, os.fsencode(sys.argv[4]), -100, os.fsencode(sys.argv[5]), 2) != 0:
    sys.exit('mv: ' + os.strerror(ctypes.get_errno()))
`;

const mvExchanges = helps('mv', 'exchange');

/** Tests that need it say in their names what is missing where they are skipped. */
export const canExchange = mvExchanges || helps('python3', 'usage');

/** A PATH under which "mv --exchange" works; the shim, where it takes one, goes into the folder. */
export function pathWithExchange(folder: string): string {
  const path = process.env.PATH ?? '';
  if (mvExchanges) return path;
  const bin = join(folder, 'bin');
  mkdirSync(bin, { recursive: true });
  writeFileSync(join(bin, 'mv'), SHIM, { mode: 0o755 });
  return `${bin}:${path}`;
}

function helps(command: string, word: string): boolean {
  try {
    return execFileSync(command, ['--help'], { encoding: 'utf8' }).includes(word);
  } catch {
    return false;
  }
}
