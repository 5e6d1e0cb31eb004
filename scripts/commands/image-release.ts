import { parseArgs } from 'node:util';
import { formatRelease, parseRelease, releaseDeployment } from '../../review/releases.ts';
import type { Command } from '../command.ts';
import { readDeploymentFile } from '../deployment-file.ts';
import { CommandError } from '../errors.ts';
import { measureFile, onlyFile } from '../image/options.ts';
import { hex } from '../image/shown.ts';

export const command: Command = {
  name: 'image release',
  summary: 'Write the release manifest of an image: its registers under a name and version',
  help: `
Usage: strongroom image release FILE.eif --name NAME --version LABEL [--deployment FILE]...

Measures an enclave image file as image measure does and writes its release manifest to standard output. A folder of
such manifests is what --releases DIR takes: with it, trails and policies name images instead of showing digests
(docs/releases.md). The manifest is not signed: keep the folder where only reviewers write.

Options:
  --name NAME        what is released, for example strongroom
  --version LABEL    its version, for example 1.4.0
  --deployment FILE  a deployment document reviewed for this image (repeatable)

Example:
  strongroom image release strongroom.eif --name strongroom --version 1.4.0 \\
    --deployment deployment.json > releases/strongroom-1.4.0.json

Exit codes: 0 written, 2 not an acceptable image file or deployment document, or usage.
`,
  run: async (args, io) => {
    const { values, positionals } = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        name: { type: 'string' },
        version: { type: 'string' },
        deployment: { type: 'string', multiple: true, default: [] },
      },
    });
    const path = onlyFile(positionals);
    const { name, version } = values;
    if (name === undefined) throw new CommandError('USAGE', 'image release needs --name NAME.');
    if (version === undefined) throw new CommandError('USAGE', 'image release needs --version LABEL.');
    const deployments = [];
    for (const file of values.deployment) {
      deployments.push(releaseDeployment((await readDeploymentFile(file)).bytes));
    }
    const { measurements, signature } = await measureFile(path, io);
    const text = formatRelease({
      name,
      version,
      pcrs: {
        0: hex(measurements.pcr0),
        1: hex(measurements.pcr1),
        2: hex(measurements.pcr2),
        ...(signature === undefined ? {} : { 8: hex(measurements.pcr8) }),
      },
      deployments,
    });
    // What is written must be what --releases will read.
    parseRelease(Buffer.from(text));
    io.stdout.write(text);
    return 0;
  },
};
