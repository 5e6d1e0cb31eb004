import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { MeasuredEif } from '../../review/image/eif/measure-eif.ts';
import type { Command } from '../command.ts';
import { CommandError } from '../errors.ts';
import { type BuildOptions, buildImage, readSigner } from '../image/build.ts';
import { DEBIAN_PACKAGES_FOLDER } from '../image/debian-lock.ts';
import { describeImage, imageAsJson } from '../image/describe.ts';
import { buildWithNitroCli } from '../image/nitro-cli-build.ts';
import { architectureOf } from '../image/options.ts';

const PROJECT = join(import.meta.dirname, '..', '..');

/** The command line of nitro-cli's kernels. */
const COMMAND_LINE = 'reboot=k panic=30 pci=off nomodules console=ttyS0 random.trust_cpu=on';

export const command: Command = {
  name: 'image build',
  summary: 'Build the enclave image file of this checkout',
  help: `
Usage: strongroom image build --kernel FILE --init FILE --nsm-module FILE -o OUT.eif [--cmdline TEXT]
                              [--arch x86_64|aarch64] [--root FOLDER | --container FILE|FOLDER]
                              [--packages FOLDER] [--sign KEY --certificate CERT] [--name NAME] [--force] [--json]
       strongroom image build --docker-uri NAME -o OUT.eif [--nitro-cli PROGRAM]
                              [--sign KEY --certificate CERT] [--name NAME] [--force] [--json]

Writes an enclave image file of version 4: what boots (kernel, init, NSM driver), and the application, which is
the files that enclave/main.ts of this checkout reaches, its packages, the pinned Node and the C library. The
same checkout and inputs give the same measurements on any machine, in any folder, at any time. The file is
written aside, read back and measured before it gets its name (docs/image.md section 6).

The second form lets nitro-cli build it of an image in the Docker daemon, with nitro-cli's own kernel, and refuses
the file unless it measures to what nitro-cli says (docs/image.md section 10).

Options:
  --kernel FILE       Linux kernel: bzImage (x86_64) or Image (aarch64)
  --init FILE         first program: loads the driver, sends the heartbeat, starts the application
  --nsm-module FILE   nsm.ko for that kernel
  -o, --out FILE      where the image goes
  --cmdline TEXT      kernel command line; default: that of nitro-cli's kernels
  --arch NAME         x86_64 or aarch64; default: of this machine
  --root FOLDER       instead of this checkout: a folder with cmd, env and rootfs
  --container PATH    instead of this checkout: a saved container image, which is an OCI image layout (folder or
                      tar archive) or what "docker save" wrote (docs/image.md section 9)
  --packages FOLDER   Debian packages of deploy/debian-packages.lock.json; default: where
                      "node scripts/debian-packages.ts download" puts them
  --sign KEY          sign with this private key (PEM, P-384), for PCR8; needs --certificate
  --certificate CERT  its certificate (PEM)
  --name NAME         ImageName in the metadata, which nothing measures; default: strongroom
  --docker-uri NAME   build with nitro-cli, of this image in the Docker daemon
  --nitro-cli PROGRAM where nitro-cli is; default: nitro-cli, as the shell would find it
  --force             replace OUT.eif
  --json              print what "image measure --json" prints

Example:
  strongroom image build --kernel blobs/bzImage --init blobs/init --nsm-module blobs/nsm.ko -o strongroom.eif

Exit codes: 0 built; 1 the checkout holds what an image must not; 2 unusable inputs, or usage; 3 inputs changed
meanwhile, or nitro-cli failed or says something else than its file.
`,
  run: async (args, io) => {
    const { values } = parseArgs({
      args: [...args],
      options: {
        kernel: { type: 'string' },
        init: { type: 'string' },
        'nsm-module': { type: 'string' },
        out: { type: 'string', short: 'o' },
        cmdline: { type: 'string' },
        arch: { type: 'string' },
        root: { type: 'string' },
        container: { type: 'string' },
        packages: { type: 'string' },
        sign: { type: 'string' },
        certificate: { type: 'string' },
        name: { type: 'string', default: 'strongroom' },
        'docker-uri': { type: 'string' },
        'nitro-cli': { type: 'string' },
        force: { type: 'boolean', default: false },
        json: { type: 'boolean', default: false },
      },
    });
    const needed = (name: 'kernel' | 'init' | 'nsm-module' | 'out'): string => {
      const value = values[name];
      if (value === undefined) throw new CommandError('USAGE', `image build needs --${name} FILE.`);
      return value;
    };
    const { sign, certificate, 'docker-uri': dockerUri } = values;
    if ((sign === undefined) !== (certificate === undefined)) {
      throw new CommandError('USAGE', '--sign and --certificate belong together.');
    }
    const signing =
      sign === undefined || certificate === undefined
        ? undefined
        : { keyFile: sign, certificateFile: certificate };
    const common = {
      imageName: values.name,
      outputFile: needed('out'),
      replace: values.force,
      at: new Date(),
      signal: io.signal,
    };
    let image: MeasuredEif;
    try {
      if (dockerUri !== undefined) {
        const names = [
          'kernel',
          'init',
          'nsm-module',
          'cmdline',
          'arch',
          'root',
          'container',
          'packages',
        ] as const;
        const given = names.find((name) => values[name] !== undefined);
        if (given !== undefined) {
          throw new CommandError('USAGE', `nitro-cli decides by itself on what --${given} says.`);
        }
        const program = values['nitro-cli'] ?? 'nitro-cli';
        image = await buildWithNitroCli({ ...common, program, dockerUri, signing });
      } else {
        if (values['nitro-cli'] !== undefined) {
          throw new CommandError('USAGE', '--nitro-cli needs --docker-uri, the image to build of.');
        }
        image = await buildImage({
          ...common,
          architecture: architectureOf(values.arch ?? process.arch),
          kernelFile: needed('kernel'),
          initFile: needed('init'),
          nsmModuleFile: needed('nsm-module'),
          commandLine: values.cmdline ?? COMMAND_LINE,
          application: applicationOf(values),
          signer:
            signing === undefined ? undefined : await readSigner(signing.keyFile, signing.certificateFile),
        });
      }
    } catch (error) {
      if (io.signal.aborted)
        throw new CommandError('INTERRUPTED', 'Interrupted; nothing was written.', error);
      throw error;
    }
    io.stdout.write(values.json ? `${JSON.stringify(imageAsJson(image))}\n` : describeImage(image));
    return 0;
  },
};

function applicationOf(values: {
  readonly root?: string | undefined;
  readonly container?: string | undefined;
  readonly packages?: string | undefined;
}): BuildOptions['application'] {
  const { root, container, packages } = values;
  if (root !== undefined && container !== undefined) {
    throw new CommandError('USAGE', '--root and --container exclude each other.');
  }
  if (root !== undefined) return { kind: 'folder', folder: root };
  if (container !== undefined) return { kind: 'container-image', path: container };
  return {
    kind: 'checkout',
    projectFolder: PROJECT,
    packagesFolder: packages ?? join(PROJECT, DEBIAN_PACKAGES_FOLDER),
  };
}
