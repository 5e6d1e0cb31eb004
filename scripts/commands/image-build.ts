import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { Architecture } from '../../review/image/eif/format.ts';
import type { Command } from '../command.ts';
import { CommandError } from '../errors.ts';
import { buildImage, readSigner } from '../image/build.ts';
import { DEBIAN_PACKAGES_FOLDER } from '../image/debian-lock.ts';
import { describeImage, imageAsJson } from '../image/describe.ts';

const PROJECT = join(import.meta.dirname, '..', '..');

/** The command line of nitro-cli's kernels. */
const COMMAND_LINE = 'reboot=k panic=30 pci=off nomodules console=ttyS0 random.trust_cpu=on';

const ARCHITECTURES: Readonly<Record<string, Architecture>> = {
  x86_64: 'x86_64',
  x64: 'x86_64',
  aarch64: 'aarch64',
  arm64: 'aarch64',
};

export const command: Command = {
  name: 'image build',
  summary: 'Build the enclave image file of this checkout',
  help: `
Usage: strongroom image build --kernel FILE --init FILE --nsm-module FILE -o OUT.eif [--cmdline TEXT]
                              [--arch x86_64|aarch64] [--root FOLDER] [--packages FOLDER]
                              [--sign KEY --certificate CERT] [--name NAME] [--force] [--json]

Writes an enclave image file of version 4: what boots (kernel, init, NSM driver), and the application, which is
the files that enclave/main.ts of this checkout reaches, its packages, the pinned Node and the C library. The
same checkout and inputs give the same measurements on any machine, in any folder, at any time. The file is
written aside, read back and measured before it gets its name (docs/image.md section 6).

Options:
  --kernel FILE       Linux kernel: bzImage (x86_64) or Image (aarch64)
  --init FILE         first program: loads the driver, sends the heartbeat, starts the application
  --nsm-module FILE   nsm.ko for that kernel
  -o, --out FILE      where the image goes
  --cmdline TEXT      kernel command line; default: that of nitro-cli's kernels
  --arch NAME         x86_64 or aarch64; default: of this machine
  --root FOLDER       instead of this checkout: a folder with cmd, env and rootfs
  --packages FOLDER   Debian packages of deploy/debian-packages.lock.json; default: where
                      "node scripts/debian-packages.ts download" puts them
  --sign KEY          sign with this private key (PEM, P-384), for PCR8; needs --certificate
  --certificate CERT  its certificate (PEM)
  --name NAME         ImageName in the metadata, which nothing measures; default: strongroom
  --force             replace OUT.eif
  --json              print what "image measure --json" prints

Example:
  strongroom image build --kernel blobs/bzImage --init blobs/init --nsm-module blobs/nsm.ko -o strongroom.eif

Exit codes: 0 built; 1 the checkout holds what an image must not; 2 unusable inputs, or usage; 3 inputs changed
meanwhile.
`,
  run: async (args, io) => {
    const { values } = parseArgs({
      args: [...args],
      options: {
        kernel: { type: 'string' },
        init: { type: 'string' },
        'nsm-module': { type: 'string' },
        out: { type: 'string', short: 'o' },
        cmdline: { type: 'string', default: COMMAND_LINE },
        arch: { type: 'string', default: process.arch },
        root: { type: 'string' },
        packages: { type: 'string', default: join(PROJECT, DEBIAN_PACKAGES_FOLDER) },
        sign: { type: 'string' },
        certificate: { type: 'string' },
        name: { type: 'string', default: 'strongroom' },
        force: { type: 'boolean', default: false },
        json: { type: 'boolean', default: false },
      },
    });
    const needed = (name: 'kernel' | 'init' | 'nsm-module' | 'out'): string => {
      const value = values[name];
      if (value === undefined) throw new CommandError('USAGE', `image build needs --${name} FILE.`);
      return value;
    };
    const architecture = ARCHITECTURES[values.arch];
    if (architecture === undefined) {
      throw new CommandError(
        'USAGE',
        `--arch must be x86_64 or aarch64, not ${JSON.stringify(values.arch)}.`,
      );
    }
    const { sign, certificate } = values;
    if ((sign === undefined) !== (certificate === undefined)) {
      throw new CommandError('USAGE', '--sign and --certificate belong together.');
    }
    const image = await buildImage({
      architecture,
      kernelFile: needed('kernel'),
      initFile: needed('init'),
      nsmModuleFile: needed('nsm-module'),
      outputFile: needed('out'),
      commandLine: values.cmdline,
      application:
        values.root === undefined
          ? { kind: 'checkout', projectFolder: PROJECT, packagesFolder: values.packages }
          : { kind: 'folder', folder: values.root },
      imageName: values.name,
      signer:
        sign === undefined || certificate === undefined ? undefined : await readSigner(sign, certificate),
      replace: values.force,
      at: new Date(),
      signal: io.signal,
    }).catch((error: unknown) => {
      if (io.signal.aborted)
        throw new CommandError('INTERRUPTED', 'Interrupted; nothing was written.', error);
      throw error;
    });
    io.stdout.write(values.json ? `${JSON.stringify(imageAsJson(image))}\n` : describeImage(image));
    return 0;
  },
};
