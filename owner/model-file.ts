/** Which of the three layouts a path holds, told by its magic and by nothing else: names and extensions lie. */
import { constants, open, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { MAGIC } from '../shared/sealed-model/format.ts';
import { OwnerError } from './errors.ts';
import { formatOfMagic, type LegacyFormat, MAGIC_BYTES } from './legacy/layout.ts';

export type ModelFileKind = 'sealed-model' | LegacyFormat;

/** A folder is a sealed model by its `head`; a legacy model is one file. Throws OWNER_MODEL_UNKNOWN, ENOENT. */
export async function recogniseModelFile(path: string): Promise<ModelFileKind> {
  const isFolder = (await stat(path)).isDirectory();
  const magic = isFolder
    ? await firstBytes(join(path, 'head')).catch((cause: NodeJS.ErrnoException) => {
        if (cause.code === 'ENOENT') throw unknown(`${path} is a folder without a head`, cause);
        throw cause;
      })
    : await firstBytes(path);
  const isSealed = Buffer.compare(magic, MAGIC) === 0;
  if (isFolder && isSealed) return 'sealed-model';
  const legacy = isFolder ? undefined : formatOfMagic(magic);
  if (legacy !== undefined) return legacy;
  throw unknown(
    isSealed
      ? `${path} is the head of a sealed model; give the folder that holds it`
      : `${path} begins with none of their magics`,
  );
}

async function firstBytes(path: string): Promise<Uint8Array> {
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    if (!(await file.stat()).isFile()) throw unknown(`${path} is not a regular file`);
    const bytes = new Uint8Array(MAGIC_BYTES);
    const { bytesRead } = await file.read(bytes, 0, MAGIC_BYTES, 0);
    return bytes.subarray(0, bytesRead);
  } finally {
    await file.close();
  }
}

function unknown(why: string, cause?: unknown): OwnerError {
  return new OwnerError('OWNER_MODEL_UNKNOWN', `This is no model that can be read: ${why}.`, cause);
}
