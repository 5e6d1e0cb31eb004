/** What the `strongroom deny-list` commands have in common. */
import { readFile } from 'node:fs/promises';
import { DENY_LIST_MAX_BYTES, type Denied, isDenied, KINDS } from '../shared/deny-list/deny-list.ts';
import { CommandError } from './errors.ts';
import { expectFile } from './input-file.ts';

/** `spiffe://…`, `subject:O=…, CN=…`, `serial:…`, `sha256:…`. Throws CommandError USAGE. */
export function deniedOf(text: string): Denied {
  const [prefix = '', ...rest] = text.split(':');
  const kind = KINDS.find((known) => known === prefix);
  const value = kind === 'spiffe' ? text : rest.join(':');
  if (kind !== undefined && isDenied({ kind, value })) return { kind, value };
  throw new CommandError(
    'USAGE',
    `Expected spiffe://TRUST-DOMAIN/PATH, subject:NAME, serial:HEX or sha256:HEX (lower case), found ${JSON.stringify(text)}.`,
  );
}

export function textOf({ kind, value }: Denied): string {
  return kind === 'spiffe' ? value : `${kind}:${value}`;
}

/** Undefined if there is no such file. */
export async function readDenyList(path: string): Promise<Uint8Array | undefined> {
  try {
    await expectFile(path, DENY_LIST_MAX_BYTES);
    return await readFile(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** A whole number from 1 to `max`. Throws CommandError USAGE. */
export function wholeNumber(option: string, text: string, max: number): number {
  const value = /^[1-9][0-9]{0,15}$/.test(text) ? Number(text) : Number.NaN;
  if (value <= max) return value;
  throw new CommandError(
    'USAGE',
    `${option} must be a whole number from 1 to ${max}, not ${JSON.stringify(text)}.`,
  );
}
