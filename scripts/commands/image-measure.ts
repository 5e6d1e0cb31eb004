import { parseArgs } from 'node:util';
import type { MeasuredEif } from '../../review/image/eif/measure-eif.ts';
import { pcrOfMeasuredBytes, pcrOfText } from '../../shared/pcr.ts';
import type { Command } from '../command.ts';
import { readDeploymentFile } from '../deployment-file.ts';
import { CommandError } from '../errors.ts';
import { hex, measureFile, onlyFile, shown } from './image-options.ts';

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
    io.stdout.write(values.json ? `${JSON.stringify(asJson(image, around))}\n` : asText(image, around));
    return 0;
  },
};

/** Registers that depend on more than the image; undefined if not asked for. */
interface Surroundings {
  readonly pcr3: Uint8Array | undefined;
  readonly pcr4: Uint8Array | undefined;
  readonly pcr16: Uint8Array | undefined;
}

/** PCR3 is made of the text, so a text that is not the ARN of a role measures to a register that never occurs. */
function pcrOfRole(arn: string): Uint8Array {
  if (!/^arn:aws[a-z-]*:iam::\d{12}:role\/[\w+=,.@/-]+$/.test(arn)) {
    throw new CommandError('USAGE', `--role takes the ARN of an IAM role, not ${JSON.stringify(arn)}.`);
  }
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

/** docs/image.md section 4 documents every member. */
function asJson(image: MeasuredEif, { pcr3, pcr4, pcr16 }: Surroundings): object {
  const { header, measurements, signature } = image;
  const more = {
    ...(pcr3 === undefined ? {} : { PCR3: hex(pcr3) }),
    ...(pcr4 === undefined ? {} : { PCR4: hex(pcr4) }),
    ...(pcr16 === undefined ? {} : { PCR16: hex(pcr16) }),
  };
  return {
    Measurements: {
      HashAlgorithm: 'Sha384 { ... }',
      PCR0: hex(measurements.pcr0),
      PCR1: hex(measurements.pcr1),
      PCR2: hex(measurements.pcr2),
      ...(signature === undefined ? {} : { PCR8: hex(measurements.pcr8) }),
    },
    surroundings: more,
    image: {
      version: header.version,
      architecture: header.architecture,
      sizeBytes: header.sizeBytes,
      crc32: header.crc32.toString(16).padStart(8, '0'),
      sections: image.sections.map(({ kind, offset, sizeBytes }) => ({ kind, offset, sizeBytes })),
    },
    commandLine: image.commandLine,
    signature:
      signature === undefined
        ? null
        : {
            algorithm: signature.algorithm,
            subject: signature.certificate.subject,
            issuer: signature.certificate.issuer,
            notBefore: signature.certificate.notBefore.toISOString(),
            notAfter: signature.certificate.notAfter.toISOString(),
            dates: signature.dates,
            sha256: signature.certificate.sha256,
          },
    unmeasuredMetadata: image.unmeasuredMetadata ?? null,
  };
}

function asText(image: MeasuredEif, { pcr3, pcr4, pcr16 }: Surroundings): string {
  const { header, measurements, signature } = image;
  const lines: string[] = [];
  const register = (name: string, value: Uint8Array | undefined, covers: string) => {
    if (value !== undefined) lines.push(`${name.padEnd(6)}${hex(value)}`, `      ${covers}`);
  };
  register('PCR0', measurements.pcr0, 'the whole image: kernel, command line, every ramdisk');
  register('PCR1', measurements.pcr1, 'what boots: kernel, command line, first ramdisk');
  register('PCR2', measurements.pcr2, 'the application: every ramdisk but the first');
  register('PCR3', pcr3, 'the IAM role of the parent instance');
  register('PCR4', pcr4, 'the parent instance');
  if (signature === undefined) lines.push('PCR8  zero: the image is not signed');
  else register('PCR8', measurements.pcr8, 'the signing certificate, whatever image it signs');
  register('PCR16', pcr16, 'the deployment document, once the enclave has extended it');

  lines.push(
    '',
    `image         version ${header.version}, ${header.architecture}, ${header.sizeBytes} bytes, ${image.sections.length} sections`,
    `command line  ${shown(image.commandLine)}`,
  );
  if (signature !== undefined) {
    const { algorithm, certificate, dates } = signature;
    const days = `${certificate.notBefore.toISOString()} to ${certificate.notAfter.toISOString()}`;
    const verdict = { valid: 'valid now', expired: 'EXPIRED', 'not-yet-valid': 'NOT YET VALID' }[dates];
    lines.push(
      `signature     ${algorithm}, over this image`,
      `  subject     ${shown(certificate.subject)}`,
      `  issuer      ${shown(certificate.issuer)}`,
      `  dates       ${days}: ${verdict}`,
      `  SHA-256     ${certificate.sha256}`,
    );
  }
  lines.push('', 'Not measured, so anybody may have changed it:');
  if (image.unmeasuredMetadata === undefined) lines.push('  (no metadata)');
  else {
    const text = JSON.stringify(image.unmeasuredMetadata, undefined, 2);
    lines.push(...text.split('\n').map((line) => `  ${shown(line)}`));
  }
  return `${lines.join('\n')}\n`;
}
