/**
 * The releases that a policy is generated for, as options give them: image and deployment in pairs, each from a file
 * that is measured here or as the register itself.
 */

import type { PolicyRelease } from '../../review/policy/generate.ts';
import { parseRegisters, REGISTERS_FILE_MAX_BYTES } from '../../review/registers.ts';
import { parseRelease } from '../../review/releases.ts';
import { DEPLOYMENT_PCR, pcrOfMeasuredBytes } from '../../shared/pcr.ts';
import type { CommandIo } from '../command.ts';
import { readDeploymentFile } from '../deployment-file.ts';
import { CommandError } from '../errors.ts';
import { measureFile } from '../image/options.ts';
import { hex } from '../image/shown.ts';
import { readSmallFile } from '../input-file.ts';

/** One option of the command line that names an image or a deployment. */
export interface ReleasePart {
  readonly kind: ImageKind | DeploymentKind;
  readonly value: string;
}

export const IMAGE_KINDS = ['image', 'pcrs', 'pcr0', 'manifest'] as const;
export const DEPLOYMENT_KINDS = ['deployment', 'pcr16'] as const;
type ImageKind = (typeof IMAGE_KINDS)[number];
type DeploymentKind = (typeof DEPLOYMENT_KINDS)[number];

/** One image with the deployments that may run in it, and the models that are asked for; none: all that they name. */
export interface ReleaseChoice {
  readonly image: ReleasePart;
  readonly deployment: ReleasePart | undefined;
  readonly models: readonly string[];
}

/** `image=X.eif,deployment=D.json,model=iris`. Throws CommandError USAGE. */
export function parseReleaseOption(text: string): ReleaseChoice {
  const parts: ReleasePart[] = [];
  const models: string[] = [];
  for (const part of text.split(',')) {
    const at = part.indexOf('=');
    const [name, value] = [part.slice(0, at), part.slice(at + 1)];
    const kind = [...IMAGE_KINDS, ...DEPLOYMENT_KINDS].find((known) => known === name);
    if (at < 1 || value === '' || (kind === undefined && name !== 'model')) {
      throw usage(
        `--release is made of image=FILE, pcrs=FILE, pcr0=HEX or manifest=FILE, deployment=FILE or pcr16=HEX, and model=NAME, with commas between; found ${JSON.stringify(part)}.`,
      );
    }
    if (kind === undefined) models.push(value);
    else parts.push({ kind, value });
  }
  const images = parts.filter(({ kind }) => isImage(kind));
  const deployments = parts.filter(({ kind }) => !isImage(kind));
  const [image] = images;
  if (image === undefined || images.length > 1 || deployments.length > 1) {
    throw usage(
      `--release names one image and at most one deployment, found ${images.length} and ${deployments.length}.`,
    );
  }
  return { image, deployment: deployments[0], models };
}

export function isImage(kind: string): kind is ImageKind {
  return (IMAGE_KINDS as readonly string[]).includes(kind);
}

/** One PolicyRelease for each model of each deployment. */
export async function measureRelease(
  choice: ReleaseChoice,
  io: CommandIo,
): Promise<readonly PolicyRelease[]> {
  const image = await readImage(choice.image, io);
  const deployments = await deploymentsOf(choice, image);
  return deployments.flatMap(({ pcr16, models, from }) => {
    const unnamed = models === undefined ? undefined : choice.models.find((name) => !models.includes(name));
    if (unnamed !== undefined) throw usage(`${from} names the models ${models?.join(', ')}, not ${unnamed}.`);
    const own = choice.models.length > 0 ? choice.models : (models ?? []);
    if (own.length === 0) {
      throw usage(
        'Only a deployment document or a release manifest says which models it is for; a register does not. Give --model NAME.',
      );
    }
    return own.map((modelName) => ({ pcr0: image.pcr0, pcr16, modelName }));
  });
}

interface DeploymentFacts {
  readonly pcr16: string;
  /** Undefined: only the register is known. */
  readonly models: readonly string[] | undefined;
  readonly from: string;
}

interface ImageFacts {
  readonly pcr0: string;
  readonly from: string;
  /** What was reviewed with it, where the source says so. */
  readonly deployments: readonly DeploymentFacts[];
}

async function readImage({ kind, value }: ReleasePart, io: CommandIo): Promise<ImageFacts> {
  switch (kind) {
    case 'image':
      return { pcr0: hex((await measureFile(value, io)).measurements.pcr0), from: value, deployments: [] };
    case 'pcrs': {
      const registers = parseRegisters(await readSmallFile(value, REGISTERS_FILE_MAX_BYTES));
      const pcr0 = registers.get(0);
      if (pcr0 === undefined) throw usage(`${value} has no PCR0, which is the image.`);
      const pcr16 = registers.get(DEPLOYMENT_PCR);
      const deployments = pcr16 === undefined ? [] : [{ pcr16, models: undefined, from: value }];
      return { pcr0, from: value, deployments };
    }
    case 'manifest': {
      const { pcrs, deployments, withdrawn } = parseRelease(await readSmallFile(value, 64 * 1024));
      if (withdrawn !== undefined)
        throw usage(`${value} says that the release was withdrawn: ${withdrawn.reason}`);
      return {
        pcr0: pcrs[0],
        from: value,
        deployments: deployments.map(({ pcr16, models }) => ({ pcr16, models, from: value })),
      };
    }
    default:
      return { pcr0: value, from: '--pcr0', deployments: [] };
  }
}

/** A deployment that is given must be one of those that the image's source knows, if it knows any. */
async function deploymentsOf(
  { deployment }: ReleaseChoice,
  image: ImageFacts,
): Promise<readonly DeploymentFacts[]> {
  if (deployment === undefined) {
    if (image.deployments.length > 0) return image.deployments;
    throw usage(
      `Which deployment runs in ${image.from}? Give its document or its PCR16: PCR0 alone lets the host choose.`,
    );
  }
  const given = await readDeployment(deployment);
  if (image.deployments.length > 0 && !image.deployments.some(({ pcr16 }) => pcr16 === given.pcr16)) {
    throw usage(`${given.from} measures to PCR16 ${given.pcr16}, which is not in ${image.from}.`);
  }
  return [given];
}

async function readDeployment({ kind, value }: ReleasePart): Promise<DeploymentFacts> {
  if (kind === 'pcr16') return { pcr16: value.toLowerCase(), models: undefined, from: '--pcr16' };
  const { bytes, deployment } = await readDeploymentFile(value);
  return {
    pcr16: hex(pcrOfMeasuredBytes(bytes)),
    models: deployment.models.map(({ name }) => name),
    from: value,
  };
}

function usage(message: string): CommandError {
  return new CommandError('USAGE', message);
}
