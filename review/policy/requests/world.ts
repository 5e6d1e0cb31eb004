/** Everything that the answers of a review depend on, compiled once. */

import { parseKeyArn } from '../../../shared/policy/arn.ts';
import type { Grant, Policy } from '../../../shared/policy/model.ts';
import type { KnownRegisters } from '../attestation-keys.ts';
import type { IdentityDocument, KeyMetadata } from '../supplied.ts';

export interface World {
  readonly keyPolicy: Policy;
  readonly keyArn: string;
  readonly accountId: string;
  readonly region: string;
  /** Whether --key or metadata named the key, so that its Region and kind are facts. */
  readonly keyIsGiven: boolean;
  readonly reviewed: readonly ReviewedRegisters[];
  /** Roles of the parent instance. */
  readonly hostArns: readonly string[];
  /** PCR3 of the hosts, where they are known. */
  readonly hostPcr3: readonly string[];
  readonly iamPolicies: ReadonlyMap<string, readonly IdentityDocument[]>;
  readonly trustPolicies: ReadonlyMap<string, Policy>;
  readonly grants: readonly Grant[];
  readonly metadata: KeyMetadata;
  /** No request is made before it. */
  readonly now: Date;
  /** KnownRegisters of further images, by the name of their release. */
  readonly releases: ReadonlyMap<string, KnownRegisters>;
}

export interface ReviewedRegisters {
  readonly name: string;
  readonly registers: KnownRegisters;
}

/** Undefined when it was not supplied and the key's id does not show it: ids of multi-Region keys start with mrk-. */
export function isMultiRegion({ metadata, keyArn, keyIsGiven }: World): boolean | undefined {
  if (metadata.multiRegion !== undefined) return metadata.multiRegion;
  return keyIsGiven ? /:key\/mrk-/.test(keyArn) : undefined;
}

/** Undefined when it was not supplied. */
export function keyUsage({ metadata }: World): string | undefined {
  const { keyUsage: usage, keySpec: spec = '' } = metadata;
  if (usage !== undefined) return usage;
  if (spec === 'SYMMETRIC_DEFAULT') return 'ENCRYPT_DECRYPT';
  if (spec.startsWith('HMAC')) return 'GENERATE_VERIFY_MAC';
  return spec === 'ECC_SECG_P256K1' ? 'SIGN_VERIFY' : undefined;
}

export function regionOf(keyArn: string): string {
  return parseKeyArn(keyArn)?.region ?? '';
}
