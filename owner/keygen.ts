/**
 * The owner's two key pairs. The signing key says "these are my weights" (its public half goes into deployment
 * documents); the recovery key opens the owner's own wrap of each data key, and is best kept offline.
 */
import { generateKeyPair, type KeyObject } from 'node:crypto';
import { lstat, mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { OwnerError } from './errors.ts';
import { writeNewFile } from './secret-files.ts';

export type KeyPurpose = 'signing' | 'recovery';

export interface KeyFiles {
  readonly purpose: KeyPurpose;
  readonly privateFile: string;
  readonly publicFile: string;
}

/** RSA-3072 is at the 128-bit level (NIST SP 800-57 part 1, table 2), as are P-256 and this project's hashes. */
const RECOVERY_MODULUS_BITS = 3072;

const generate = promisify(generateKeyPair);

export async function generateOwnerKeyPair(
  purpose: KeyPurpose,
): Promise<{ privateKey: KeyObject; publicKey: KeyObject }> {
  return purpose === 'signing'
    ? generate('ec', { namedCurve: 'P-256' })
    : generate('rsa', { modulusLength: RECOVERY_MODULUS_BITS });
}

/** Writes PURPOSE.key.pem (mode 600) and PURPOSE.pub.pem into the folder; overwrites nothing. */
export async function writeOwnerKeys(folder: string, purposes: readonly KeyPurpose[]): Promise<KeyFiles[]> {
  const planned = purposes.map((purpose) => ({
    purpose,
    privateFile: join(folder, `${purpose}.key.pem`),
    publicFile: join(folder, `${purpose}.pub.pem`),
  }));
  // Before the first is written: half of what was asked for would be in the way of the next attempt.
  for (const path of planned.flatMap(({ privateFile, publicFile }) => [privateFile, publicFile])) {
    const found = await lstat(path).catch(() => undefined);
    if (found !== undefined) throw new OwnerError('OWNER_WOULD_OVERWRITE', `${path} exists already.`);
  }
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const written: string[] = [];
  const write = async (path: string, pem: string | Buffer, mode: number): Promise<void> => {
    await writeNewFile(path, pem, mode);
    written.push(path);
  };
  try {
    for (const { purpose, privateFile, publicFile } of planned) {
      const { privateKey, publicKey } = await generateOwnerKeyPair(purpose);
      await write(privateFile, privateKey.export({ type: 'pkcs8', format: 'pem' }), 0o600);
      await write(publicFile, publicKey.export({ type: 'spki', format: 'pem' }), 0o644);
    }
  } catch (error) {
    for (const path of written) await rm(path, { force: true });
    throw error;
  }
  return planned;
}
