/** Makes a bundle of its parts. What is made is verified as anybody will verify it, before anybody gets it. */
import type { KeyObject } from 'node:crypto';
import { parseDeployment } from '../../shared/deployment/deployment.ts';
import { DEPLOYMENT_PCR, pcrOfMeasuredBytes, pcrOfText } from '../../shared/pcr.ts';
import { parseEnvelope, parseStatement } from '../../shared/sealed-model/manifest.ts';
import { parseRegisters } from '../registers.ts';
import { parseRelease } from '../releases.ts';
import { encodeArchive, type Member } from './archive.ts';
import { encodeIndex, sha256Of } from './bundle-index.ts';
import { EvidenceBundleError } from './errors.ts';
import { INDEX, largestOf, modelMember, SIGNATURE } from './members.ts';
import { reviewAgain } from './review-again.ts';
import { signIndex } from './signature.ts';

export interface BundleParts {
  /** `strongroom image measure --json`, or registers alone. */
  readonly image: Uint8Array;
  readonly deployment: Uint8Array;
  readonly policy: Uint8Array;
  readonly attestation: Uint8Array;
  readonly context?: Uint8Array | undefined;
  readonly suppressions?: Uint8Array | undefined;
  readonly release?: Uint8Array | undefined;
  readonly modelManifests: readonly Uint8Array[];
  readonly hostRoleArn?: string | undefined;
  readonly keyArn?: string | undefined;
}

export interface BundleMaking {
  readonly made: Date;
  /** When the review is asked for: suppressions have a last day. */
  readonly at: Date;
  readonly toolVersion: string;
  readonly signer: KeyObject | undefined;
}

/** The archive's bytes: the same for the same parts and times, but for an ECDSA signature. Throws StrongroomError for an unusable part. */
export function makeBundle(parts: BundleParts, making: BundleMaking): Uint8Array {
  const members = [...givenMembers(parts), { name: 'policy-review.json', bytes: reviewOf(parts, making) }];
  for (const { name, bytes } of members) {
    const largest = largestOf(name) ?? 0;
    if (bytes.length > largest) {
      throw new EvidenceBundleError(
        'BUNDLE_MALFORMED',
        `${name} has ${bytes.length} bytes, more than ${largest}.`,
      );
    }
  }
  const index = encodeIndex({
    made: making.made,
    toolVersion: making.toolVersion,
    hostRoleArn: parts.hostRoleArn,
    keyArn: parts.keyArn,
    digests: new Map(members.map(({ name, bytes }) => [name, sha256Of(bytes)])),
  });
  const signature =
    making.signer === undefined ? [] : [{ name: SIGNATURE, bytes: signIndex(index, making.signer) }];
  return encodeArchive([...members, { name: INDEX, bytes: index }, ...signature]);
}

function givenMembers(parts: BundleParts): Member[] {
  const named: readonly (readonly [string, Uint8Array | undefined])[] = [
    ['image.json', parts.image],
    ['deployment.json', parts.deployment],
    ['policy.json', parts.policy],
    ['attestation.cbor', parts.attestation],
    ['context.json', parts.context],
    ['suppressions.json', parts.suppressions],
    ['release.json', parts.release],
    ...parts.modelManifests.map((bytes) => [nameOfManifest(bytes), bytes] as const),
  ];
  const members = named.flatMap(([name, bytes]) => (bytes === undefined ? [] : [{ name, bytes }]));
  if (new Set(members.map(({ name }) => name)).size !== members.length) {
    throw new EvidenceBundleError('BUNDLE_MISMATCH', 'Two manifests are of one model.');
  }
  return members;
}

function nameOfManifest(bytes: Uint8Array): string {
  return modelMember(parseStatement(parseEnvelope(bytes).payload).name);
}

function reviewOf(parts: BundleParts, { at }: BundleMaking): Uint8Array {
  const { image, deployment, policy, context, suppressions, release, hostRoleArn, keyArn } = parts;
  parseDeployment(deployment);
  const registers = new Map([
    ...parseRegisters(image),
    ...(hostRoleArn === undefined ? [] : [[3, hex(pcrOfText(hostRoleArn))] as const]),
    [DEPLOYMENT_PCR, hex(pcrOfMeasuredBytes(deployment))] as const,
  ]);
  const { report } = reviewAgain({
    policy,
    registers,
    hostRoleArn,
    keyArn,
    context,
    suppressions,
    release: release && parseRelease(release),
    at,
  });
  return Buffer.from(`${JSON.stringify(report, undefined, 2)}\n`);
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}
