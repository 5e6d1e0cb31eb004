/**
 * The image of a simulated enclave: a read-only copy of the application root file system, laid out by the
 * image writer's own code and measured by it (docs/simulation.md section 3). Kernel, command line and
 * bootstrap ramdisk are fixed words, because there is none of them in a simulation.
 */
import { chmodSync, mkdirSync } from 'node:fs';
import { ENCLAVE_ENVIRONMENT, ENCLAVE_NODE_FLAGS } from '../enclave/start-guard.ts';
import { imageClosure } from '../review/image/closure.ts';
import { cpioArchive } from '../review/image/cpio.ts';
import { folderEntries, type ImageEntry } from '../review/image/entries.ts';
import { type ImageMeasurements, measureImage } from '../review/image/measure.ts';
import type { ImagePlatform } from '../review/image/packages.ts';
import { type ImageCommand, layOut, rootFileSystem } from '../review/image/root-filesystem.ts';

/** What the production image holds is the closure of this file. */
export const IMAGE_ENTRY = 'enclave/main.ts';
/** How the production image starts it; a simulation differs in the entry alone. */
export const IMAGE_COMMAND: ImageCommand = {
  nodeFlags: ENCLAVE_NODE_FLAGS,
  entry: IMAGE_ENTRY,
  environment: ENCLAVE_ENVIRONMENT,
};
/** What runs in a simulated enclave in its place; it comes on top, so that nothing of the image is missing. */
export const STAND_IN = 'simulator/enclave.ts';

const KERNEL = Buffer.from('Strongroom simulation: there is no kernel in this image.\n');
const COMMAND_LINE = 'strongroom.simulation=1';

/**
 * Makes `folder` and lays the image of the project out in it. Another stand-in than the simulator's is measured
 * like any other file, so it makes another image. Throws ImageError.
 */
export async function layOutSimulatedImage(
  projectFolder: string,
  folder: string,
  standIn: string = STAND_IN,
): Promise<void> {
  const closure = imageClosure({
    projectFolder,
    entries: [IMAGE_ENTRY, standIn],
    platform: thisPlatform(),
  });
  const entries = rootFileSystem(closure, { ...IMAGE_COMMAND, entry: standIn });
  mkdirSync(folder);
  await layOut(entries, folder);
  chmodSync(folder, 0o555);
}

/** Measures what the folder holds now, byte by byte, as the hypervisor does whenever an enclave starts. */
export function measureSimulatedImage(folder: string): Promise<ImageMeasurements> {
  return measureImage({
    kernel: [KERNEL],
    commandLine: COMMAND_LINE,
    ramdisks: [cpioArchive(bootstrap()), cpioArchive(folderEntries(folder))],
  });
}

/** nitro-cli's bootstrap ramdisk, with words in the place of its two programs. */
function bootstrap(): readonly ImageEntry[] {
  const program = (path: string): ImageEntry => {
    const content = Buffer.from(`Strongroom simulation: there is no ${path} in this image.\n`);
    return { kind: 'file', path, mode: 0o755, sizeBytes: content.length, content };
  };
  return [{ kind: 'folder', path: 'dev', mode: 0o755 }, program('init'), program('nsm.ko')];
}

function thisPlatform(): ImagePlatform {
  const { arch } = process;
  if (process.platform !== 'linux' || (arch !== 'x64' && arch !== 'arm64')) {
    throw new Error(`Enclaves are simulated on Linux x64 and arm64, not on ${process.platform} ${arch}.`);
  }
  return { os: 'linux', cpu: arch };
}
