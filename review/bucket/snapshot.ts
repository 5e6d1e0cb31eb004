/**
 * What a bucket is, as far as its owner's credentials let one see: answers of S3, collected by somebody else and
 * judged here. What could not be read says why; nobody takes that for an absence.
 */

export type Seen<T> =
  | { readonly seen: true; readonly value: T }
  | { readonly seen: false; readonly why: string };

export interface BucketSnapshot {
  readonly bucket: string;
  /** The account that the bucket belongs to, 12 digits. */
  readonly accountId: string;
  /** As S3 returns it; undefined if there is none. */
  readonly policy: Seen<string | undefined>;
  readonly encryption: Seen<DefaultEncryption>;
  readonly publicAccessBlock: Seen<PublicAccessBlock>;
  /** `BucketOwnerEnforced`, `BucketOwnerPreferred`, `ObjectWriter`. */
  readonly ownership: Seen<string | undefined>;
  readonly acl: Seen<readonly AclGrant[]>;
  readonly versioning: Seen<{ readonly enabled: boolean; readonly mfaDelete: boolean }>;
  readonly objectLock: Seen<ObjectLock | undefined>;
  /** Where access logs go; undefined if nowhere. */
  readonly logging: Seen<string | undefined>;
  readonly lifecycle: Seen<readonly LifecycleRule[]>;
  /** ARNs of the buckets that this one is copied to. */
  readonly replication: Seen<readonly string[]>;
  readonly objects: Seen<ObjectListing>;
}

export interface DefaultEncryption {
  /** `AES256`, `aws:kms`, `aws:kms:dsse`. */
  readonly algorithm: string;
  /** As configured: ARN, id or alias. Without one, the account's own key for S3. */
  readonly key: string | undefined;
  readonly bucketKey: boolean;
  /** What uploads may not ask for, for example `SSE-C`. */
  readonly blocked: readonly string[];
}

export interface PublicAccessBlock {
  readonly blockPublicAcls: boolean;
  readonly ignorePublicAcls: boolean;
  readonly blockPublicPolicy: boolean;
  readonly restrictPublicBuckets: boolean;
}

export interface AclGrant {
  /** A group's URI, or a canonical user id. */
  readonly grantee: string;
  readonly isOwner: boolean;
  readonly permission: string;
}

export interface ObjectLock {
  /** `GOVERNANCE` or `COMPLIANCE`; undefined without a default retention. */
  readonly mode: string | undefined;
  /** For example `30 days`. */
  readonly retention: string | undefined;
}

export interface LifecycleRule {
  readonly name: string;
  readonly enabled: boolean;
  readonly prefix: string;
  readonly abortsUploadsAfterDays: number | undefined;
  /** Whether it ever deletes current versions. */
  readonly expires: boolean;
}

export interface ObjectListing {
  /** False if there were more objects than were looked at. */
  readonly complete: boolean;
  readonly objects: readonly ObjectSample[];
}

export interface ObjectSample {
  readonly key: string;
  readonly sizeBytes: number;
  /** The first bytes; of small JSON files all. */
  readonly begin: Seen<Uint8Array>;
}
