/** Signing a sealed model after the fact: by another person, on another machine, with another key. */
import type { KeyObject } from 'node:crypto';
import { randomBytes } from 'node:crypto';
import { rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import {
  expectStatementOf,
  type ManifestFields,
  parseEnvelope,
  parseStatement,
} from '../shared/sealed-model/manifest.ts';
import { signManifest } from '../shared/sealed-model/manifest-sign.ts';
import { readHead, readSealedPart } from './sealed-folder.ts';
import { writeNewFile } from './secret-files.ts';

/**
 * Replaces manifest.json by the same statement under this key's signature, at once or not at all. What is
 * signed is checked against the head that lies beside it: a signer vouches for a content id that exists.
 */
export async function signSealedFolder(folder: string, signer: KeyObject): Promise<ManifestFields> {
  const path = join(folder, 'manifest.json');
  const head = await readHead(folder);
  const { payload } = parseEnvelope(await readSealedPart(folder, 'manifest.json'));
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
