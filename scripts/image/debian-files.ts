/** Takes the locked files out of the locked packages. Debian's own tool unpacks; every digest is checked here. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, lstatSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { EifError } from '../../review/image/eif/errors.ts';
import type { FileEntry } from '../../review/image/entries.ts';
import type { ImagePlatform } from '../../review/image/packages.ts';
import { type DebianLock, type DebianPackage, packageFileName } from './debian-lock.ts';

/** As entries of the application ramdisk, in memory: a few megabytes. Throws EifError (DEBIAN_*). */
export function debianFiles(
  lock: DebianLock,
  packagesFolder: string,
  platform: ImagePlatform,
): readonly FileEntry[] {
  const packages = lock[platform.cpu];
  if (packages.length === 0) {
    throw new EifError('DEBIAN_LOCK', `The lock file lists no packages for ${platform.cpu}.`);
  }
  const missing = packages
    .map((wanted) => packageFileName(wanted, platform))
    .filter((name) => !existsSync(join(packagesFolder, name)));
  if (missing.length > 0) {
    throw new EifError('DEBIAN_PACKAGE_MISSING', `Not in ${packagesFolder}: ${missing.join(', ')}.`);
  }
  return packages.flatMap((wanted) =>
    filesOf(wanted, join(packagesFolder, packageFileName(wanted, platform))),
  );
}

function filesOf(wanted: DebianPackage, path: string): readonly FileEntry[] {
  const folder = mkdtempSync(join(tmpdir(), 'strongroom-deb-'));
  try {
    // The bytes that were checked are the bytes that are unpacked, whatever becomes of the file meanwhile.
    const archive = readFileSync(path);
    expectDigest(archive, wanted.sha256, path);
    unpack(archive, folder);
    return wanted.files.map(({ from, to, executable, sha256 }) => {
      const file = join(folder, from);
      if (!lstatSync(file, { throwIfNoEntry: false })?.isFile()) {
        throw new EifError('DEBIAN_PACKAGE_WRONG', `${path} holds no file ${from}.`);
      }
      const content = Uint8Array.from(readFileSync(file));
      expectDigest(content, sha256, `${from} in ${path}`);
      const mode = executable ? 0o555 : 0o444;
      return { kind: 'file', path: `rootfs/${to}`, mode, sizeBytes: content.length, content };
    });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** dpkg-deb prints the package's tar archive, tar lays it out; neither runs anything of the package. */
export function unpack(archive: Uint8Array, folder: string): void {
  const tar = execFileSync('dpkg-deb', ['--fsys-tarfile', '-'], {
    input: archive,
    maxBuffer: 256 << 20,
  });
  execFileSync('tar', ['-x', '--no-same-owner', '--no-same-permissions', '-C', folder], { input: tar });
}

function expectDigest(bytes: Uint8Array, sha256: string, what: string): void {
  const found = createHash('sha256').update(bytes).digest('hex');
  if (found !== sha256) {
    throw new EifError('DEBIAN_PACKAGE_WRONG', `${what}: expected SHA-256 ${sha256}, found ${found}.`);
  }
}
