/**
 * deploy/debian-packages.lock.json: which files of which Debian packages the image takes its C library from, each
 * with its digest. `node scripts/debian-packages.ts lock` writes it; a change of it is a change of the image, to
 * be reviewed as one.
 */
import { readFileSync } from 'node:fs';
import { EifError } from '../../review/image/eif/errors.ts';
import type { ImagePlatform } from '../../review/image/packages.ts';

/** From the project's folder. */
export const DEBIAN_LOCK_FILE = 'deploy/debian-packages.lock.json';
/** Where downloads are kept; not part of the repository. */
export const DEBIAN_PACKAGES_FOLDER = '.strongroom/debian-packages';

export interface DebianFile {
  /** In the package, from its root: `lib/x86_64-linux-gnu/libc.so.6`. */
  readonly from: string;
  /** In the image. */
  readonly to: string;
  readonly executable: boolean;
  /** Hex. */
  readonly sha256: string;
}

export interface DebianPackage {
  readonly name: string;
  readonly version: string;
  /** Of the .deb file, hex. */
  readonly sha256: string;
  readonly files: readonly DebianFile[];
}

export interface DebianLock {
  readonly format: 'strongroom-debian-packages/1';
  readonly release: string;
  readonly x64: readonly DebianPackage[];
  readonly arm64: readonly DebianPackage[];
}

/** Debian's name of the platform. */
export function debianArchitecture({ cpu }: ImagePlatform): 'amd64' | 'arm64' {
  return cpu === 'x64' ? 'amd64' : 'arm64';
}

export function packageFileName({ name, version }: DebianPackage, platform: ImagePlatform): string {
  return `${name}_${version.replace(/^\d+:/, '')}_${debianArchitecture(platform)}.deb`;
}

/** Throws EifError DEBIAN_LOCK. The file is part of the checkout: its shape is checked, not its honesty. */
export function readDebianLock(path: string): DebianLock {
  let lock: DebianLock;
  try {
    lock = JSON.parse(readFileSync(path, 'utf8')) as DebianLock;
  } catch (cause) {
    throw new EifError('DEBIAN_LOCK', `${path} cannot be read as JSON.`, cause);
  }
  const well =
    lock.format === 'strongroom-debian-packages/1' &&
    [lock.x64, lock.arm64].every((packages) => Array.isArray(packages) && packages.every(isPackage));
  if (!well) throw new EifError('DEBIAN_LOCK', `${path} has another shape than this program knows.`);
  return lock;
}

const DIGEST = /^[0-9a-f]{64}$/;
const PATH = /^[\w.+-]+(\/[\w.+-]+)*$/;

function isPackage(value: Partial<DebianPackage>): boolean {
  return (
    /^[a-z0-9][a-z0-9+.-]+$/.test(value.name ?? '') &&
    /^[\w.+~:-]+$/.test(value.version ?? '') &&
    DIGEST.test(value.sha256 ?? '') &&
    Array.isArray(value.files) &&
    value.files.every(
      ({ from, to, executable, sha256 }: Partial<DebianFile>) =>
        PATH.test(from ?? '') &&
        PATH.test(to ?? '') &&
        !`${from}/${to}`.split('/').includes('..') &&
        typeof executable === 'boolean' &&
        DIGEST.test(sha256 ?? ''),
    )
  );
}
