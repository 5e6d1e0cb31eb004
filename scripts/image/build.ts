/** From a checkout, a folder or a container image to an image file (docs/image.md section 6). */
import { createHash, createPrivateKey, type KeyObject } from 'node:crypto';
import { lstatSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { cpioArchive } from '../../review/image/cpio.ts';
import { EifError } from '../../review/image/eif/errors.ts';
import { fileStream } from '../../review/image/eif/file-stream.ts';
import type { Architecture } from '../../review/image/eif/format.ts';
import type { MeasuredEif } from '../../review/image/eif/measure-eif.ts';
import type { ImageSigner } from '../../review/image/eif/signature-write.ts';
import { writeEif } from '../../review/image/eif/write-eif.ts';
import type { ImageEntry } from '../../review/image/entries.ts';
import { containerRamdisk } from './container/container-ramdisk.ts';
import { bootstrapRamdisk, checkoutRamdisk, type FileOnDisk, folderRamdisk } from './ramdisks.ts';

export interface BuildOptions {
  readonly architecture: Architecture;
  readonly kernelFile: string;
  readonly initFile: string;
  readonly nsmModuleFile: string;
  readonly commandLine: string;
  readonly application:
    | { readonly kind: 'checkout'; readonly projectFolder: string; readonly packagesFolder: string }
    | { readonly kind: 'folder'; readonly folder: string }
    | { readonly kind: 'container-image'; readonly path: string };
  readonly imageName: string;
  readonly signer: ImageSigner | undefined;
  readonly outputFile: string;
  readonly replace: boolean;
  /** When the certificate's dates are judged. Nothing else depends on the time. */
  readonly at: Date;
  readonly signal?: AbortSignal;
}

/** Throws EifError, ImageError, ContainerImageError. */
export async function buildImage(options: BuildOptions): Promise<MeasuredEif> {
  const kernel = await input(options.kernelFile, 'the kernel');
  const init = await input(options.initFile, 'init');
  const nsmModule = await input(options.nsmModuleFile, 'the NSM driver');
  const layersFolder = mkdtempSync(join(tmpdir(), 'strongroom-layers-'));
  try {
    const application = await applicationEntries(options, layersFolder);
    const archive = (entries: readonly ImageEntry[]) => () => cpioArchive(entries);
    return await writeEif(
      {
        architecture: options.architecture,
        kernel: () => fileStream(kernel.path),
        commandLine: options.commandLine,
        ramdisks: [archive(bootstrapRamdisk(init, nsmModule)), archive(application)],
        metadata: metadata(options.imageName, { kernel, init, nsmModule }),
        signer: options.signer,
      },
      options.outputFile,
      options,
    );
  } finally {
    rmSync(layersFolder, { recursive: true, force: true });
  }
}

function applicationEntries(
  { application, architecture, signal }: BuildOptions,
  layersFolder: string,
): readonly ImageEntry[] | Promise<readonly ImageEntry[]> {
  switch (application.kind) {
    case 'folder':
      return folderRamdisk(application.folder);
    case 'container-image':
      return containerRamdisk({ path: application.path, architecture, folder: layersFolder, signal });
    case 'checkout':
      return checkoutRamdisk(application.projectFolder, application.packagesFolder, architecture);
  }
}

interface Input extends FileOnDisk {
  readonly sha256: string;
}

async function input(path: string, what: string): Promise<Input> {
  const status = lstatSync(path, { throwIfNoEntry: false });
  if (status === undefined || status.isDirectory() || status.size === 0) {
    throw new EifError('EIF_INPUT', `${path}, given as ${what}, is not a file with content.`);
  }
  const hash = createHash('sha256');
  let sizeBytes = 0;
  for await (const piece of fileStream(path)) {
    hash.update(piece);
    sizeBytes += piece.length;
  }
  return { path, sizeBytes, sha256: hash.digest('hex') };
}

/** nitro-cli's members. The time is fixed, so that an unsigned image of one commit is one file. */
function metadata(imageName: string, inputs: Readonly<Record<string, Input>>): object {
  return {
    ImageName: imageName,
    ImageVersion: '0',
    BuildMetadata: {
      BuildTime: '1970-01-01T00:00:00+00:00',
      BuildTool: 'strongroom image build',
      BuildToolVersion: '0',
      OperatingSystem: 'Linux',
      KernelVersion: 'see CustomMetadata.inputs.kernel',
    },
    DockerInfo: null,
    CustomMetadata: {
      inputs: Object.fromEntries(
        Object.entries(inputs).map(([name, { path, sizeBytes, sha256 }]) => {
          return [name, { file: basename(path), sizeBytes, sha256 }];
        }),
      ),
    },
  };
}

/** The key is read into memory of its own and wiped once it is a key object. Throws EifError EIF_INPUT. */
export async function readSigner(keyFile: string, certificateFile: string): Promise<ImageSigner> {
  const KEY_MAX_BYTES = 16_384;
  const pem = Buffer.from(new ArrayBuffer(KEY_MAX_BYTES));
  try {
    const file = await open(keyFile, 'r');
    let privateKey: KeyObject;
    try {
      const { bytesRead } = await file.read(pem, 0, KEY_MAX_BYTES, 0);
      privateKey = createPrivateKey(pem.subarray(0, bytesRead));
    } catch {
      // The cause is left out: an error of the parser must not carry a piece of the key.
      throw new EifError('EIF_INPUT', `${keyFile} is not an unencrypted private key in PEM.`);
    } finally {
      await file.close();
    }
    return { privateKey, certificatePem: readFileSync(certificateFile) };
  } finally {
    pem.fill(0);
  }
}
