/** Signing a sealed model after the fact: by another person, on another machine, with another key. */
import type { KeyObject } from 'node:crypto';
import { randomBytes } from 'node:crypto';
import { open, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { HEAD_MAX_BYTES, parseHead } from '../shared/sealed-model/head.ts';
import {
  expectStatementOf,
  MANIFEST_MAX_BYTES,
  type ManifestFields,
  parseEnvelope,
  parseStatement,
} from '../shared/sealed-model/manifest.ts';
import { signManifest } from '../shared/sealed-model/manifest-sign.ts';
import { OwnerError } from './errors.ts';
import { writeNewFile } from './secret-files.ts';

/**
 * Replaces manifest.json by the same statement under this key's signature, at once or not at all. What is
 * signed is checked against the head that lies beside it: a signer vouches for a content id that exists.
 */
export async function signSealedFolder(folder: string, signer: KeyObject): Promise<ManifestFields> {
  const path = join(folder, 'manifest.json');
  const head = parseHead(await readBounded(join(folder, 'head'), HEAD_MAX_BYTES));
  const { payload } = parseEnvelope(await readBounded(path, MANIFEST_MAX_BYTES));
  const fields = parseStatement(payload);
  expectStatementOf(fields, head);

  const aside = join(folder, `.manifest.json.partial-${randomBytes(6).toString('hex')}`);
  try {
    await writeNewFile(aside, signManifest(fields, signer), 0o644);
    await rename(aside, path);
  } finally {
    await rm(aside, { force: true });
  }
  return fields;
}

async function readBounded(path: string, maxBytes: number): Promise<Uint8Array> {
  const file = await open(path, 'r').catch((cause: NodeJS.ErrnoException) => {
    if (cause.code !== 'ENOENT' && cause.code !== 'ENOTDIR') throw cause;
    throw new OwnerError('OWNER_NOT_A_SEAL', `Expected a sealed folder; there is no ${path}.`, cause);
  });
  try {
    const { size } = await file.stat();
    if (size > maxBytes) throw new OwnerError('OWNER_NOT_A_SEAL', `${path} has more than ${maxBytes} bytes.`);
    return await file.readFile();
  } finally {
    await file.close();
  }
}
