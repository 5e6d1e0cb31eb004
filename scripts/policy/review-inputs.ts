/** What a review is given, from the options of the command: every file's digest is kept for the report. */
import { createHash } from 'node:crypto';
import { basename } from 'node:path';
import type { KnownRegisters } from '../../review/policy/attestation-keys.ts';
import type { ReviewInput } from '../../review/policy/report.ts';
import type { ReviewedRegisters } from '../../review/policy/requests/world.ts';
import { parseRegisters, REGISTERS_FILE_MAX_BYTES } from '../../review/registers.ts';
import { nameOfRelease, readReleases } from '../../review/releases.ts';
import { isZeroPcr, pcrOfMeasuredBytes } from '../../shared/pcr.ts';
import type { CommandIo } from '../command.ts';
import { readDeploymentFile } from '../deployment-file.ts';
import { CommandError } from '../errors.ts';
import { measureFile } from '../image/options.ts';
import { hex } from '../image/shown.ts';
import { readSmallFile } from '../input-file.ts';

/** Collects digests of what was read. */
export class Inputs {
  readonly #read: ReviewInput[] = [];

  get list(): readonly ReviewInput[] {
    return this.#read;
  }

  note(kind: string, name: string, bytes: Uint8Array): void {
    this.#read.push({ kind, name, sha256: createHash('sha256').update(bytes).digest('hex') });
  }

  async file(kind: string, path: string, maxBytes: number): Promise<Uint8Array> {
    const bytes = await readSmallFile(path, maxBytes);
    this.note(kind, path, bytes);
    return bytes;
  }
}

export interface ImageOption {
  readonly kind: 'image' | 'pcrs';
  readonly path: string;
}

/** --image and --pcrs in the order in which they were given, which `parseArgs` keeps in its tokens alone. */
export function imageOptions(
  tokens: readonly { readonly kind: string; readonly name?: string; readonly value?: string | undefined }[],
): ImageOption[] {
  return tokens.flatMap(({ kind, name, value }): ImageOption[] =>
    kind === 'option' && (name === 'image' || name === 'pcrs') ? [{ kind: name, path: value ?? '' }] : [],
  );
}

/** One deployment is that of every image; several go with the images in order. Throws CommandError USAGE. */
export async function readReviewed(
  images: readonly ImageOption[],
  deployments: readonly string[],
  inputs: Inputs,
  io: CommandIo,
): Promise<ReviewedRegisters[]> {
  if (deployments.length > 1 && deployments.length !== images.length) {
    throw new CommandError(
      'USAGE',
      `Give one --deployment, or one for each image: found ${deployments.length} for ${images.length}.`,
    );
  }
  const reviewed: ReviewedRegisters[] = [];
  for (const [index, option] of images.entries()) {
    const measured = await readImage(option, inputs, io);
    const deployment = deployments.length > 1 ? deployments[index] : deployments[0];
    const registers =
      deployment === undefined ? measured : { ...measured, pcr16: await readDeployment(deployment, inputs) };
    const name = index === 0 ? 'the reviewed image' : `the reviewed image ${basename(option.path)}`;
    reviewed.push({ name, registers });
  }
  return reviewed;
}

async function readImage(
  { kind, path }: ImageOption,
  inputs: Inputs,
  io: CommandIo,
): Promise<KnownRegisters> {
  if (kind === 'image') {
    const { measurements } = await measureFile(path, io);
    const registers = {
      pcr0: hex(measurements.pcr0),
      pcr1: hex(measurements.pcr1),
      pcr2: hex(measurements.pcr2),
      pcr8: hex(measurements.pcr8),
    };
    // The image is large, and its measurement is a digest of it already.
    inputs.note('image', path, Buffer.from(registers.pcr0, 'hex'));
    return registers;
  }
  const given = parseRegisters(await inputs.file('pcrs', path, REGISTERS_FILE_MAX_BYTES));
  const registers = Object.fromEntries([...given].map(([index, value]) => [`pcr${index}`, value]));
  if (registers.pcr0 === undefined) {
    throw new CommandError('USAGE', `${path} has no PCR0, which is the image.`);
  }
  if (isZeroPcr(Buffer.from(registers.pcr0, 'hex'))) {
    throw new CommandError('USAGE', `PCR0 in ${path} is zero: that is any image in debug mode.`);
  }
  return registers;
}

async function readDeployment(path: string, inputs: Inputs): Promise<string> {
  const { bytes } = await readDeploymentFile(path);
  inputs.note('deployment', path, bytes);
  return hex(pcrOfMeasuredBytes(bytes));
}

export async function readKnownReleases(
  path: string | undefined,
  inputs: Inputs,
): Promise<ReadonlyMap<string, KnownRegisters>> {
  if (path === undefined) return new Map();
  const releases = await readReleases(path);
  inputs.note('releases', path, Buffer.from(JSON.stringify(releases)));
  return new Map(
    releases.map((release) => [
      nameOfRelease(release),
      Object.fromEntries(
        Object.entries(release.pcrs).map(([index, value]) => [`pcr${index}`, String(value)]),
      ),
    ]),
  );
}
