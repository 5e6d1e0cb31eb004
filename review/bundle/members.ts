/** What a bundle may hold: a closed list of names, each with the largest size of its kind (docs/evidence-bundle.md section 2). */
import { DOCUMENT_MAX_BYTES } from '../../shared/attestation/limits.ts';
import { DEPLOYMENT_MAX_BYTES } from '../../shared/deployment/deployment.ts';
import { POLICY_MAX_BYTES } from '../../shared/policy/parse.ts';
import { MANIFEST_MAX_BYTES } from '../../shared/sealed-model/manifest.ts';
import { REGISTERS_FILE_MAX_BYTES } from '../registers.ts';

/** Members that every bundle has. */
export const REQUIRED = [
  'attestation.cbor',
  'deployment.json',
  'image.json',
  'index.json',
  'policy-review.json',
  'policy.json',
] as const;

const LARGEST: Readonly<Record<string, number>> = {
  'attestation.cbor': DOCUMENT_MAX_BYTES,
  'context.json': 4 << 20,
  'deployment.json': DEPLOYMENT_MAX_BYTES,
  'image.json': REGISTERS_FILE_MAX_BYTES,
  'index.dsse.json': 256 << 10,
  'index.json': 64 << 10,
  'policy-review.json': 32 << 20,
  'policy.json': POLICY_MAX_BYTES,
  'release.json': 64 << 10,
  'suppressions.json': 1 << 20,
};
/** The index and its signature say what the others are. */
export const INDEX = 'index.json';
export const SIGNATURE = 'index.dsse.json';

/** The names that deployments give models. */
const MODEL = /^models\/([A-Za-z0-9][A-Za-z0-9._-]{0,63})\.json$/;

export const ARCHIVE_MAX_BYTES = 128 << 20;
/** All of the list, and the manifests of the most models that a deployment names. */
export const MEMBERS_MAX = Object.keys(LARGEST).length + 16;

/** Undefined for a name that no bundle has: paths, links to elsewhere and the like among them. */
export function largestOf(name: string): number | undefined {
  if (MODEL.test(name)) return MANIFEST_MAX_BYTES;
  return Object.hasOwn(LARGEST, name) ? LARGEST[name] : undefined;
}

export function modelMember(modelName: string): string {
  return `models/${modelName}.json`;
}

/** The model whose manifest a member is. */
export function modelOfMember(name: string): string | undefined {
  return MODEL.exec(name)?.[1];
}
