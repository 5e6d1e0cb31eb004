import { parseArgs } from 'node:util';
import { pcrOfMeasuredBytes, pcrOfText } from '../../shared/pcr.ts';
import type { Command } from '../command.ts';
import { readDeploymentFile } from '../deployment-file.ts';
import { CommandError } from '../errors.ts';
import { describeImage, imageAsJson, type Surroundings } from '../image/describe.ts';
import { measureFile, onlyFile } from '../image/options.ts';
import { expectRole } from '../role-option.ts';

export const command: Command = {
  name: 'image measure',
  summary: 'Compute PCR0, 1, 2 and 8 of an enclave image file',
  help: `
Usage: strongroom image measure FILE.eif [--deployment FILE] [--role ARN] [--instance-id ID] [--json]

Reads an enclave image file strictly, checks its signature if it has one, and prints the registers that an
enclave of it starts with, what each covers, the kernel command line, and the metadata, which nothing measures.
A file about which two readers could disagree is refused (docs/image.md section 2).

Options:
  --deployment FILE  also compute PCR16 of this deployment document
  --role ARN         also compute PCR3 of a parent instance with this IAM role
  --instance-id ID   also compute PCR4 of this parent instance
  --json             print one JSON document; its "Measurements" is nitro-cli's (docs/image.md section 4)

Example:
  strongroom image measure strongroom.eif --deployment deployment.json

Exit codes: 0 measured, 2 not an acceptable image file, or usage.
`,
  run: async (args, io) => {
    const { values, positionals } = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        deployment: { type: 'string' },
        role: { type: 'string' },
        'instance-id': { type: 'string' },
        json: { type: 'boolean', default: false },
      },
    });
    const path = onlyFile(positionals);
    const around: Surroundings = {
      pcr3: values.role === undefined ? undefined : pcrOfRole(values.role),
      pcr4: values['instance-id'] === undefined ? undefined : pcrOfInstance(values['instance-id']),
      pcr16: values.deployment === undefined ? undefined : await pcrOfDeployment(values.deployment),
    };
    const image = await measureFile(path, io);
    io.stdout.write(
      values.json ? `${JSON.stringify(imageAsJson(image, around))}\n` : describeImage(image, around),
    );
    return 0;
  },
};

function pcrOfRole(arn: string): Uint8Array {
  expectRole(arn);
  return pcrOfText(arn);
}

function pcrOfInstance(id: string): Uint8Array {
  if (!/^i-([0-9a-f]{8}|[0-9a-f]{17})$/.test(id)) {
    throw new CommandError(
      'USAGE',
      `--instance-id takes an id such as i-0123456789abcdef0, not ${JSON.stringify(id)}.`,
    );
  }
  return pcrOfText(id);
}

/** A document that no enclave accepts is refused, rather than given a register. */
async function pcrOfDeployment(path: string): Promise<Uint8Array> {
  return pcrOfMeasuredBytes((await readDeploymentFile(path)).bytes);
}
