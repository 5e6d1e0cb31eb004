/**
 * Two image files, written by `strongroom image build` and measured by `strongroom image measure`, and what a
 * machine needs to boot one: kernel, command line and ramdisks as the strict reader finds them in the file, the
 * ramdisks in a row as the Nitro loader leaves them in memory, and behind them the machine's own.
 */
import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { generateOwnerKeyPair } from '../../owner/keygen.ts';
import { fileStream } from '../../review/image/eif/file-stream.ts';
import { RamdiskLister } from '../../review/image/eif/ramdisk.ts';
import { walkEif } from '../../review/image/eif/walk.ts';
import type { FileEntry } from '../../review/image/entries.ts';
import { debianFiles } from '../../scripts/image/debian-files.ts';
import {
  DEBIAN_LOCK_FILE,
  DEBIAN_PACKAGES_FOLDER,
  packageFileName,
  readDebianLock,
} from '../../scripts/image/debian-lock.ts';
import { predictIris, readFlowers, splitFlowers, trainIris } from '../../scripts/model/iris.ts';
import { encodeIrisModel } from '../../scripts/model/iris-onnx.ts';
import { layOutSimulatedImage } from '../../simulator/image.ts';
import type { OwnersModel } from './guest/outside.ts';
import type { BootedImage } from './guest/world.ts';
import { CannotRun, type Kernel } from './kernel.ts';
import { appendRamdisk, inMemory, script } from './ramdisk.ts';

const PROJECT = join(import.meta.dirname, '..', '..');
const PACKAGES = join(PROJECT, DEBIAN_PACKAGES_FOLDER);
const PLATFORM = { os: 'linux', cpu: 'x64' } as const;
const STAND_IN = 'test/vm/guest/enclave.ts';
/** nitro-cli's, but for `pci=off`, which this machine's devices need, and less talk. */
const COMMAND_LINE = 'reboot=k panic=-1 console=ttyS0 quiet loglevel=3 random.trust_cpu=on';
const INIT = join(import.meta.dirname, 'image', 'init.sh');

export interface BootableImage extends BootedImage {
  readonly kernel: string;
  readonly ramdisk: string;
}

/** The C library comes from the packages of the lock file. Throws CannotRun where they cannot be had. */
export function fetchDebianPackages(): void {
  const wanted = readDebianLock(join(PROJECT, DEBIAN_LOCK_FILE)).x64;
  if (wanted.every((name) => existsSync(join(PACKAGES, packageFileName(name, PLATFORM))))) return;
  try {
    const args = [join(PROJECT, 'scripts', 'debian-packages.ts'), 'download'];
    execFileSync(process.execPath, args, { stdio: 'pipe' });
  } catch (error) {
    const { stderr = '' } = error as { stderr?: Buffer | string };
    throw new CannotRun(`the image's Debian packages cannot be downloaded: ${stderr.toString().trim()}`);
  }
}

/** Builds, measures and takes apart. `own` are the files of the machine's own ramdisk. */
export async function bootableImage(
  name: BootedImage['name'],
  kernel: Kernel,
  own: readonly FileEntry[],
  model: OwnersModel,
  folder: string,
): Promise<BootableImage> {
  mkdirSync(folder);
  const nsmModule = join(folder, 'nsm.ko');
  const bytes = kernel.modules.get('nsm');
  if (bytes === undefined) throw new CannotRun(`Linux ${kernel.name} has no module nsm`);
  writeFileSync(nsmModule, bytes);
  let root: readonly string[] = [];
  if (name === 'stand-in') root = ['--root', await layOutStandIn(join(folder, 'root'))];
  const file = join(folder, 'image.eif');
  await strongroom([
    ...['image', 'build', '--kernel', kernel.image, '--init', INIT, '--nsm-module', nsmModule],
    ...['--cmdline', COMMAND_LINE, '--name', name, '--out', file, ...root],
  ]);
  const { Measurements: pcrs } = JSON.parse(await strongroom(['image', 'measure', '--json', file]));
  const measured = { 0: pcrs.PCR0, 1: pcrs.PCR1, 2: pcrs.PCR2 };

  const parts = await takeApart(file, folder);
  const image: BootedImage = { name, pcrs: measured, commandLine: parts.commandLine, model };
  const machine = [...own, ...machineFiles(image)];
  for (const { path } of machine) assert.ok(!parts.paths.has(path), `${path} is a path of the image`);
  await appendRamdisk(machine, parts.ramdisk);
  for (const done of ['root', 'image.eif']) rmSync(join(folder, done), { recursive: true, force: true });
  return { ...image, kernel: parts.kernel, ramdisk: parts.ramdisk };
}

/** Trained and encoded here; sealed in the machine, where KMS is. */
export async function ownersModel(): Promise<OwnersModel> {
  const network = trainIris(splitFlowers(readFlowers()).training);
  const measurements = [5.1, 3.5, 1.4, 0.2];
  const { publicKey } = await generateOwnerKeyPair('recovery');
  return {
    recoveryKey: publicKey.export({ type: 'spki', format: 'pem' }).toString(),
    onnx: Buffer.from(encodeIrisModel(network)).toString('base64'),
    measurements,
    probabilities: predictIris(network, measurements),
  };
}

async function strongroom(args: readonly string[]): Promise<string> {
  const main = join(PROJECT, 'scripts', 'strongroom.ts');
  const { stdout } = await promisify(execFile)(process.execPath, [main, ...args]);
  return stdout;
}

/** What `image build` puts into the application ramdisk, with another entry in the place of enclave/main.ts. */
async function layOutStandIn(folder: string): Promise<string> {
  await layOutSimulatedImage(PROJECT, folder, STAND_IN);
  const libraries = debianFiles(readDebianLock(join(PROJECT, DEBIAN_LOCK_FILE)), PACKAGES, PLATFORM);
  // The build gives the folders their modes again; meanwhile this user adds to them, and removes them in the end.
  execFileSync('chmod', ['-R', 'u+w', folder]);
  for (const { path, content, mode } of libraries) {
    assert.ok(content instanceof Uint8Array);
    const target = join(folder, path);
    mkdirSync(dirname(target), { recursive: true });
    writeFileSync(target, content, { mode });
  }
  return folder;
}

interface TakenApart {
  readonly kernel: string;
  readonly commandLine: string;
  readonly ramdisk: string;
  /** Everything that the image's own ramdisks hold. */
  readonly paths: ReadonlySet<string>;
}

async function takeApart(file: string, folder: string): Promise<TakenApart> {
  const files = { kernel: join(folder, 'kernel'), ramdisk: join(folder, 'ramdisk.cpio') };
  const fds = { kernel: openSync(files.kernel, 'wx'), ramdisk: openSync(files.ramdisk, 'wx') };
  const lister = new RamdiskLister();
  let commandLine = '';
  await walkEif(fileStream(file), {
    data: async ({ kind, ramdisk }, piece) => {
      writeSync(kind === 'kernel' ? fds.kernel : fds.ramdisk, piece);
      if (ramdisk !== undefined) await lister.piece(ramdisk, piece);
    },
    held: ({ kind }, content) => {
      if (kind === 'cmdline') commandLine = Buffer.from(content).toString('latin1');
    },
    end: async ({ ramdisk }) => {
      if (ramdisk !== undefined) await lister.end(ramdisk);
    },
  });
  for (const fd of Object.values(fds)) closeSync(fd);
  const paths = lister.outcomes.flatMap(({ list }) => list?.entries.map(({ path }) => path) ?? []);
  assert.equal(lister.outcomes.length, 2);
  for (const needed of ['init', 'nsm.ko', 'cmd', 'env']) assert.ok(paths.includes(needed), needed);
  return { ...files, commandLine, paths: new Set(paths) };
}

/** Below /machine, where the image's init finds them. */
function machineFiles(image: BootedImage): readonly FileEntry[] {
  const names = ['power-on', 'power-off', 'heartbeat'];
  return [
    ...names.map((name) => script(`machine/${name}`, `image/${name}.sh`)),
    inMemory('machine/image.json', Buffer.from(JSON.stringify(image))),
  ];
}
