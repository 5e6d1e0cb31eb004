/** Secrets in files: written for their owner's eyes alone, and refused when others could have read them. */
import { createPrivateKey, createPublicKey, type KeyObject } from 'node:crypto';
import { constants, type FileHandle, open, rm } from 'node:fs/promises';
import { OwnerError } from './errors.ts';

const KEY_FILE_MAX_BYTES = 65_536;
const OTHERS = 0o077;

/** The bytes in an ArrayBuffer of their own; the caller wipes them. Throws OWNER_KEY_EXPOSED. */
export async function readSecretFile(path: string): Promise<Uint8Array> {
  const file = await openKeyFile(path);
  try {
    const { mode, size } = await file.stat();
    if ((mode & OTHERS) !== 0) {
      const found = (mode & 0o777).toString(8).padStart(3, '0');
      throw new OwnerError('OWNER_KEY_EXPOSED', `${path} has mode ${found}; expected 600 or 400.`);
    }
    const bytes = new Uint8Array(new ArrayBuffer(size));
    for (let done = 0; done < size; ) {
      const { bytesRead } = await file.read(bytes, done, size - done, done);
      if (bytesRead === 0) throw new OwnerError('OWNER_KEY_UNUSABLE', `${path} changed while it was read.`);
      done += bytesRead;
    }
    return bytes;
  } finally {
    await file.close();
  }
}

/** A model or a pipe in the place of a key is told at once, and neither read whole nor waited for. */
async function openKeyFile(path: string): Promise<FileHandle> {
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const status = await file.stat();
  const fault = !status.isFile()
    ? 'is not a regular file'
    : status.size > KEY_FILE_MAX_BYTES
      ? `has ${status.size} bytes, too many for a key`
      : undefined;
  if (fault === undefined) return file;
  await file.close();
  throw new OwnerError('OWNER_KEY_UNUSABLE', `${path} must be a key file: it ${fault}.`);
}

const DATA_KEY_BYTES = 32;

/** A data key that its owner keeps: 32 raw bytes. The caller wipes it. */
export async function readDataKeyFile(path: string): Promise<Uint8Array> {
  const bytes = await readSecretFile(path);
  if (bytes.length === DATA_KEY_BYTES) return bytes;
  bytes.fill(0);
  throw new OwnerError(
    'OWNER_KEY_UNUSABLE',
    `${path} must hold ${DATA_KEY_BYTES} raw bytes, not ${bytes.length}.`,
  );
}

export async function readPrivateKey(path: string): Promise<KeyObject> {
  const pem = await readSecretFile(path);
  try {
    return createPrivateKey({ key: Buffer.from(pem.buffer), format: 'pem' });
  } catch (cause) {
    throw new OwnerError(
      'OWNER_KEY_UNUSABLE',
      `${path} does not hold an unencrypted private key in PEM.`,
      cause,
    );
  } finally {
    pem.fill(0);
  }
}

/** Only a private key has one to give: createPublicKey refuses a public one. */
export function publicHalfOf(privateKey: KeyObject): KeyObject {
  return createPublicKey(privateKey);
}

/** Refuses a private key: whoever keeps one where a public key is expected should hear of it. */
export async function readPublicKey(path: string): Promise<KeyObject> {
  const file = await openKeyFile(path);
  const pem = await file.readFile().finally(() => file.close());
  if (pem.includes('PRIVATE KEY-----')) {
    pem.fill(0);
    throw new OwnerError(
      'OWNER_KEY_UNUSABLE',
      `${path} holds a private key; expected its public half (.pub.pem).`,
    );
  }
  if (!pem.includes('-----BEGIN PUBLIC KEY-----')) {
    throw new OwnerError(
      'OWNER_KEY_UNUSABLE',
      `${path} does not hold a public key in PEM (BEGIN PUBLIC KEY).`,
    );
  }
  try {
    return createPublicKey(pem);
  } catch (cause) {
    throw new OwnerError('OWNER_KEY_UNUSABLE', `${path} does not hold a public key in PEM.`, cause);
  }
}

/** Creates the file with this mode; an existing one is never touched. Throws OWNER_WOULD_OVERWRITE. */
export async function writeNewFile(path: string, content: string | Uint8Array, mode: number): Promise<void> {
  const file = await open(path, 'wx', mode).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code !== 'EEXIST') throw cause;
    throw new OwnerError('OWNER_WOULD_OVERWRITE', `${path} exists already.`, cause);
  });
  try {
    await file.writeFile(content);
    await file.sync();
  } catch (error) {
    await rm(path, { force: true }); // half a key would be in the way of the next attempt
    throw error;
  } finally {
    await file.close();
  }
}
