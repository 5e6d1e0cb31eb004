/**
 * A folder with a certificate and its key, always of one pair: both names lead through one symbolic link, and
 * renewing replaces that link. Links are relative, so that the folder can be moved and copied whole.
 *
 *     certificate.pem -> current/certificate.pem
 *     key.pem         -> current/key.pem
 *     current         -> .0f3a…
 *     .0f3a…/           certificate.pem, key.pem (mode 600)
 */
import { randomBytes, X509Certificate } from 'node:crypto';
import {
  chown,
  lstat,
  mkdir,
  readdir,
  readFile,
  readlink,
  rename,
  rm,
  stat,
  symlink,
} from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { removeMadeFolders, syncFolder } from '../aside.ts';
import { asideOf, removeLeftovers } from '../leftovers.ts';
import { expectAbsent, renameNew } from '../rename.ts';
import { readPrivateKey, writeNewFile } from '../secret-files.ts';
import { CertificateError } from './errors.ts';
import type { Holder, Pair } from './issue.ts';

const CERTIFICATE = 'certificate.pem';
const KEY = 'key.pem';
const CURRENT = 'current';
const VERSION = /^\.[0-9a-f]{32}$/;
/** No renewal takes so long: what is older and not current was left by one that was killed. */
const ABANDONED_AFTER_MS = 60 * 60 * 1000;
const CERTIFICATE_FILE_MAX_BYTES = 65_536;

type PairText = Pick<Pair, 'certificatePem' | 'keyPem'>;

/** Appears whole or not at all. Throws OWNER_WOULD_OVERWRITE. */
export async function createFolder(path: string, pair: PairText): Promise<void> {
  const out = resolve(path);
  await expectAbsent(out);
  await removeLeftovers(out);
  const made = await mkdir(dirname(out), { recursive: true });
  const aside = asideOf(out);
  try {
    await mkdir(aside, { mode: 0o700 });
    const version = newVersion();
    await writeVersion(join(aside, version), pair);
    await symlink(version, join(aside, CURRENT));
    for (const name of [CERTIFICATE, KEY]) await symlink(`${CURRENT}/${name}`, join(aside, name));
    await syncFolder(aside);
    await renameNew(aside, out);
    await syncFolder(dirname(out));
  } catch (error) {
    await rm(aside, { recursive: true, force: true });
    await removeMadeFolders(made, out);
    throw error;
  }
}

/** The old pair stays in use until the new one is whole. Files keep their owner. */
export async function replaceInFolder(path: string, pair: PairText, nowMs: number): Promise<void> {
  const folder = resolve(path);
  const old = await currentVersion(folder);
  const { uid, gid } = await stat(join(folder, old));
  const version = newVersion();
  const link = join(folder, `.${CURRENT}-${randomBytes(6).toString('hex')}`);
  try {
    await writeVersion(join(folder, version), pair, { uid, gid });
    await symlink(version, link);
    await syncFolder(folder);
    await rename(link, join(folder, CURRENT));
  } catch (error) {
    await rm(link, { force: true });
    await rm(join(folder, version), { recursive: true, force: true });
    throw error;
  }
  await syncFolder(folder);
  await rm(join(folder, old), { recursive: true, force: true });
  await removeAbandoned(folder, version, nowMs);
}

/** Throws CERT_UNUSABLE if certificate and key are not there or not of one pair; OWNER_KEY_EXPOSED. */
export async function readFolder(path: string): Promise<Holder> {
  await currentVersion(path);
  const file = join(path, CERTIFICATE);
  const { size } = await stat(file);
  if (size > CERTIFICATE_FILE_MAX_BYTES) throw unusable(path, `${size} bytes of certificate`);
  let certificate: X509Certificate;
  try {
    certificate = new X509Certificate(await readFile(file));
  } catch (cause) {
    throw unusable(path, 'no certificate in PEM', cause);
  }
  const key = await readPrivateKey(join(path, KEY));
  if (!certificate.checkPrivateKey(key)) throw unusable(path, 'a key that is not the certificate’s');
  return { certificate, key };
}

async function currentVersion(folder: string): Promise<string> {
  const version = await readlink(join(folder, CURRENT)).catch((cause) => {
    throw unusable(folder, `no link "${CURRENT}"`, cause);
  });
  if (!VERSION.test(version)) throw unusable(folder, `a link "${CURRENT}" to ${JSON.stringify(version)}`);
  return version;
}

function newVersion(): string {
  return `.${randomBytes(16).toString('hex')}`;
}

async function writeVersion(
  folder: string,
  { certificatePem, keyPem }: PairText,
  owner?: { readonly uid: number; readonly gid: number },
): Promise<void> {
  await mkdir(folder, { mode: 0o700 });
  await writeNewFile(join(folder, KEY), keyPem, 0o600);
  await writeNewFile(join(folder, CERTIFICATE), certificatePem, 0o644);
  if (owner !== undefined && owner.uid !== process.getuid?.()) {
    for (const path of [join(folder, KEY), join(folder, CERTIFICATE), folder])
      await chown(path, owner.uid, owner.gid);
  }
  await syncFolder(folder);
}

async function removeAbandoned(folder: string, current: string, nowMs: number): Promise<void> {
  for (const name of await readdir(folder)) {
    if (name === current || !(VERSION.test(name) || name.startsWith(`.${CURRENT}-`))) continue;
    const found = await lstat(join(folder, name)).catch(() => undefined);
    if (found === undefined || nowMs - found.mtimeMs < ABANDONED_AFTER_MS) continue;
    await rm(join(folder, name), { recursive: true, force: true });
  }
}

function unusable(path: string, found: string, cause?: unknown): CertificateError {
  return new CertificateError(
    'CERT_UNUSABLE',
    `${path}: expected a folder that "strongroom cert" wrote, found ${found}.`,
    cause,
  );
}
