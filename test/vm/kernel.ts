/** Debian's kernel, and whether this machine can run the test at all. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

export const QEMU = 'qemu-system-x86_64';
export const BUSYBOX = '/bin/busybox';
export const STRACE = '/usr/bin/strace';

/** The first one that this machine's Debian has; the kernel for clouds is small. */
const { STRONGROOM_VM_KERNEL } = process.env;
const KERNEL_PACKAGES =
  STRONGROOM_VM_KERNEL === undefined
    ? ['linux-image-6.12-cloud-amd64', 'linux-image-cloud-amd64']
    : [STRONGROOM_VM_KERNEL];
/** Where a kernel has one of them built in, there is no file. */
const MODULES = [
  'fuse',
  'cuse',
  'nsm',
  'vsock',
  'vmw_vsock_virtio_transport_common',
  'vmw_vsock_virtio_transport',
  'vsock_loopback',
];

/** Says why this machine cannot run the test. */
export class CannotRun extends Error {}

export interface Kernel {
  readonly name: string;
  readonly image: string;
  /** Modules that exist in this kernel as files, uncompressed. */
  readonly modules: ReadonlyMap<string, Uint8Array>;
}

export function requireTools(): void {
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    throw new CannotRun(`it needs Linux on x86-64, found ${process.platform} on ${process.arch}`);
  }
  const programs = { [QEMU]: 'qemu-system-x86', [BUSYBOX]: 'busybox-static', [STRACE]: 'strace' };
  const missing = Object.entries(programs).filter(([program]) => !works(program));
  if (missing.length > 0) {
    throw new CannotRun(`install the Debian packages ${missing.map(([, name]) => name).join(' ')}`);
  }
}

function works(program: string): boolean {
  try {
    execFileSync(program, [program === BUSYBOX ? '--help' : '--version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

/** Takes Debian's kernel apart in `folder`; nothing is installed. Throws CannotRun where there is none. */
export function fetchKernel(folder: string): Kernel {
  const unpacked = join(folder, 'kernel');
  mkdirSync(unpacked);
  execFileSync('dpkg-deb', ['-x', downloadKernel(folder), unpacked]);
  const boot = join(unpacked, 'boot');
  const image = readdirSync(boot).find((name) => name.startsWith('vmlinuz-'));
  if (image === undefined) throw new CannotRun('the kernel package holds no kernel');
  return { name: image.slice('vmlinuz-'.length), image: join(boot, image), modules: modulesBelow(unpacked) };
}

function downloadKernel(folder: string): string {
  const failures: string[] = [];
  for (const metaPackage of KERNEL_PACKAGES) {
    try {
      const depends = execFileSync('apt-cache', ['depends', '--important', metaPackage], {
        encoding: 'utf8',
        stdio: 'pipe',
      });
      // A package that depends on no other kernel is one itself.
      const [, name = metaPackage] = /Depends: (linux-image-\d\S+)/.exec(depends) ?? [];
      execFileSync('apt-get', ['-o', 'Acquire::Retries=3', 'download', name], { cwd: folder, stdio: 'pipe' });
    } catch (error) {
      const { stderr = '' } = error as { stderr?: Buffer | string };
      failures.push(`${metaPackage}: ${stderr.toString().trim().split('\n').at(-1)}`);
      continue;
    }
    const file = readdirSync(folder).find((entry) => entry.endsWith('.deb'));
    if (file !== undefined) return join(folder, file);
  }
  throw new CannotRun(`apt-get can download no kernel (${failures.join('; ')}): apt-get update?`);
}

function modulesBelow(folder: string): Map<string, Uint8Array> {
  const modules = new Map<string, Uint8Array>();
  for (const path of readdirSync(folder, { recursive: true, encoding: 'utf8' })) {
    const [, name = '', compression] = /\/([\w-]+)\.ko(\.xz)?$/.exec(path) ?? [];
    if (!MODULES.includes(name)) continue;
    const file = join(folder, path);
    const unpack = () => execFileSync(BUSYBOX, ['xz', '-dc', file], { maxBuffer: 64 << 20 });
    modules.set(name, compression === undefined ? readFileSync(file) : unpack());
  }
  return modules;
}
