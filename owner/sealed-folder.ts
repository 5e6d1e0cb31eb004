/** The small parts of a sealed model as they lie in its folder: read bounded, believed in nothing. */
import { constants, open } from 'node:fs/promises';
import { join } from 'node:path';
import { HEAD_MAX_BYTES, type Head, parseHead } from '../shared/sealed-model/head.ts';
import {
  expectKeyFileOf,
  KEY_FILE_MAX_BYTES,
  type KeyFile,
  parseKeyFile,
} from '../shared/sealed-model/key-file.ts';
import { MANIFEST_MAX_BYTES } from '../shared/sealed-model/manifest.ts';
import { OwnerError } from './errors.ts';

const MAX_BYTES = {
  head: HEAD_MAX_BYTES,
  'key.json': KEY_FILE_MAX_BYTES,
  'manifest.json': MANIFEST_MAX_BYTES,
} as const;

export type SealedPart = keyof typeof MAX_BYTES;

/** Throws OWNER_NOT_A_SEAL, SealedModelError. */
export async function readHead(folder: string): Promise<Head> {
  return parseHead(await readSealedPart(folder, 'head'));
}

/** Throws OWNER_NOT_A_SEAL, SEALED_KEY_FILE_MALFORMED, SEALED_KEY_FILE_FOREIGN. */
export async function readKeyFile(folder: string, head: Head): Promise<KeyFile> {
  const keyFile = parseKeyFile(await readSealedPart(folder, 'key.json'));
  expectKeyFileOf(head, keyFile);
  return keyFile;
}

/** Throws OWNER_NOT_A_SEAL if it is not there, no regular file, or longer than it may be. */
export async function readSealedPart(folder: string, part: SealedPart): Promise<Uint8Array> {
  const bytes = await readSealedPartIfThere(folder, part);
  if (bytes !== undefined) return bytes;
  throw new OwnerError('OWNER_NOT_A_SEAL', `Expected a sealed folder; there is no ${join(folder, part)}.`);
}

/** Undefined if it is not there. Throws OWNER_NOT_A_SEAL if it is no regular file, or longer than it may be. */
export async function readSealedPartIfThere(
  folder: string,
  part: SealedPart,
): Promise<Uint8Array | undefined> {
  const path = join(folder, part);
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK).catch(
    (cause: NodeJS.ErrnoException) => {
      if (cause.code !== 'ENOENT' && cause.code !== 'ENOTDIR') throw cause;
      return undefined;
    },
  );
  if (file === undefined) return undefined;
  try {
    const status = await file.stat();
    if (!status.isFile()) throw new OwnerError('OWNER_NOT_A_SEAL', `${path} is not a regular file.`);
    if (status.size > MAX_BYTES[part]) {
      throw new OwnerError('OWNER_NOT_A_SEAL', `${path} has more than ${MAX_BYTES[part]} bytes.`);
    }
    return await file.readFile();
  } finally {
    await file.close();
  }
}
