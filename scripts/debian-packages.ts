/**
 * The Debian packages that the image takes its C library from (docs/image.md section 7):
 *
 *     node scripts/debian-packages.ts download [FOLDER]   fetch the packages of the lock file
 *     node scripts/debian-packages.ts lock [FOLDER]       fetch today's packages and write the lock file
 *
 * apt-get downloads, for both platforms on either, with lists of its own in a temporary folder: nothing of this
 * machine's package management is touched, and nothing of a package runs.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ImagePlatform } from '../review/image/packages.ts';
import { unpack } from './image/debian-files.ts';
import {
  DEBIAN_LOCK_FILE,
  DEBIAN_PACKAGES_FOLDER,
  type DebianFile,
  type DebianLock,
  type DebianPackage,
  debianArchitecture,
  packageFileName,
  readDebianLock,
} from './image/debian-lock.ts';

const PROJECT = join(import.meta.dirname, '..');
const LOCK_FILE = join(PROJECT, DEBIAN_LOCK_FILE);
const RELEASE = 'bookworm';
const PLATFORMS: readonly ImagePlatform[] = [
  { os: 'linux', cpu: 'x64' },
  { os: 'linux', cpu: 'arm64' },
];

/**
 * What Node, ONNX Runtime and koffi name as needed (readelf -d), the loader that the kernel starts them with, and
 * the licences. The licence of the two GCC libraries is in gcc-12-base.
 */
function wantedFiles(name: string, { cpu }: ImagePlatform): readonly Omit<DebianFile, 'sha256'>[] {
  const triplet = cpu === 'x64' ? 'x86_64-linux-gnu' : 'aarch64-linux-gnu';
  const loader = cpu === 'x64' ? 'ld-linux-x86-64.so.2' : 'ld-linux-aarch64.so.1';
  const library = (from: string, soname = from.slice(from.lastIndexOf('/') + 1)) => {
    return { from: from.replace('TRIPLET', triplet), to: `lib/${triplet}/${soname}`, executable: false };
  };
  const licence = {
    from: `usr/share/doc/${name}/copyright`,
    to: `usr/share/doc/${name}/copyright`,
    executable: false,
  };
  switch (name) {
    case 'libc6':
      return [
        {
          from: `lib/${triplet}/${loader}`,
          to: `${cpu === 'x64' ? 'lib64' : 'lib'}/${loader}`,
          executable: true,
        },
        ...['libc.so.6', 'libm.so.6', 'libdl.so.2', 'libpthread.so.0', 'librt.so.1'].map((soname) =>
          library(`lib/TRIPLET/${soname}`),
        ),
        licence,
      ];
    case 'libgcc-s1':
      return [library('lib/TRIPLET/libgcc_s.so.1')];
    case 'libstdc++6':
      return [library('usr/lib/TRIPLET/libstdc++.so.6.0.30', 'libstdc++.so.6')];
    case 'gcc-12-base':
      return [licence];
    default:
      return [];
  }
}
const NAMES = ['gcc-12-base', 'libc6', 'libgcc-s1', 'libstdc++6'];

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

/** Fetches `requests` (`name` or `name=version`) into `folder`. */
function download(requests: readonly string[], platform: ImagePlatform, folder: string): void {
  const apt = mkdtempSync(join(tmpdir(), 'strongroom-apt-'));
  try {
    for (const name of ['state/lists/partial', 'cache/archives/partial']) {
      mkdirSync(join(apt, name), { recursive: true });
    }
    writeFileSync(join(apt, 'status'), '');
    const mirror = 'http://deb.debian.org';
    const lines = [`${mirror}/debian ${RELEASE}`, `${mirror}/debian-security ${RELEASE}-security`];
    writeFileSync(join(apt, 'sources.list'), lines.map((line) => `deb ${line} main\n`).join(''));
    const settings = [
      `APT::Architecture=${debianArchitecture(platform)}`,
      `APT::Architectures=${debianArchitecture(platform)}`,
      `Dir::State=${join(apt, 'state')}`,
      `Dir::State::status=${join(apt, 'status')}`,
      `Dir::Cache=${join(apt, 'cache')}`,
      `Dir::Etc::sourcelist=${join(apt, 'sources.list')}`,
      'Dir::Etc::sourceparts=-',
      'APT::Sandbox::User=root',
    ].flatMap((setting) => ['-o', setting]);
    const run = (...args: string[]) =>
      execFileSync('apt-get', ['-q', ...settings, ...args], {
        cwd: folder,
        stdio: ['ignore', 'ignore', 'inherit'],
      });
    run('update');
    run('download', ...requests);
  } finally {
    rmSync(apt, { recursive: true, force: true });
  }
}

function downloadLocked(folder: string): void {
  const lock = readDebianLock(LOCK_FILE);
  mkdirSync(folder, { recursive: true });
  for (const platform of PLATFORMS) {
    const missing = lock[platform.cpu].filter(
      (wanted) => !existsSync(join(folder, packageFileName(wanted, platform))),
    );
    if (missing.length > 0) {
      download(
        missing.map(({ name, version }) => `${name}=${version}`),
        platform,
        folder,
      );
    }
    for (const wanted of lock[platform.cpu]) {
      const file = packageFileName(wanted, platform);
      if (sha256(readFileSync(join(folder, file))) !== wanted.sha256) {
        rmSync(join(folder, file));
        throw new Error(`${file} is not the package of the lock file; it was removed.`);
      }
    }
  }
}

function lockedPackages(platform: ImagePlatform): DebianPackage[] {
  const folder = mkdtempSync(join(tmpdir(), 'strongroom-lock-'));
  try {
    download(NAMES, platform, folder);
    return NAMES.map((name): DebianPackage => {
      const file = readdirSync(folder).find((candidate) => candidate.startsWith(`${name}_`)) ?? '';
      const archive = readFileSync(join(folder, file));
      const root = join(folder, name);
      mkdirSync(root);
      unpack(archive, root);
      const version = decodeURIComponent(file.split('_')[1] ?? '');
      const files = wantedFiles(name, platform).map((wanted) => {
        return { ...wanted, sha256: sha256(readFileSync(join(root, wanted.from))) };
      });
      return { name, version, sha256: sha256(archive), files };
    });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

if (import.meta.main) {
  const [what, folder = join(PROJECT, DEBIAN_PACKAGES_FOLDER)] = process.argv.slice(2);
  if (what === 'lock') {
    const [x64 = [], arm64 = []] = PLATFORMS.map(lockedPackages);
    const lock: DebianLock = { format: 'strongroom-debian-packages/1', release: RELEASE, x64, arm64 };
    mkdirSync(join(LOCK_FILE, '..'), { recursive: true });
    writeFileSync(LOCK_FILE, `${JSON.stringify(lock, undefined, 2)}\n`);
  } else if (what !== 'download') {
    process.stderr.write('Usage: node scripts/debian-packages.ts download|lock [FOLDER]\n');
    process.exitCode = 2;
  }
  if (what === 'lock' || what === 'download') downloadLocked(folder);
}
