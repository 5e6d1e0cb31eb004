/** Asks S3 what a bucket is. Every answer is kept as it came; what was refused says by whom and why. */
import {
  GetBucketAclCommand,
  GetBucketEncryptionCommand,
  GetBucketLifecycleConfigurationCommand,
  GetBucketLoggingCommand,
  GetBucketOwnershipControlsCommand,
  GetBucketPolicyCommand,
  GetBucketReplicationCommand,
  GetBucketVersioningCommand,
  GetObjectCommand,
  GetObjectLockConfigurationCommand,
  GetPublicAccessBlockCommand,
  ListObjectsV2Command,
  type S3Client,
  type LifecycleRule as S3LifecycleRule,
  S3ServiceException,
} from '@aws-sdk/client-s3';
import type {
  BucketSnapshot,
  LifecycleRule,
  ObjectListing,
  ObjectSample,
  Seen,
} from '../../review/bucket/snapshot.ts';
import { CommandError } from '../errors.ts';

export interface CollectOptions {
  readonly client: S3Client;
  readonly bucket: string;
  /** 12 digits; a bucket of another account is refused by S3. */
  readonly accountId: string;
  readonly signal: AbortSignal;
  /** How many objects are looked at; 0 for none. */
  readonly objectsMax: number;
  readonly onObject?: (count: number) => void;
}

/** Enough for every magic, and for a JSON file whole. */
const BEGIN_BYTES = 96;
const JSON_BYTES = 64 * 1024;
const LANES = 8;

/** Throws CommandError BUCKET_UNREADABLE if not even the bucket can be seen. */
export async function collectBucket(options: CollectOptions): Promise<BucketSnapshot> {
  const { client, bucket, accountId, signal } = options;
  const input = { Bucket: bucket, ExpectedBucketOwner: accountId };
  const abort = { abortSignal: signal };
  const policy = await see(
    async () => (await client.send(new GetBucketPolicyCommand(input), abort)).Policy,
    ['NoSuchBucketPolicy'],
  );
  return {
    bucket,
    accountId,
    policy,
    encryption: await see(
      async () => {
        const answer = await client.send(new GetBucketEncryptionCommand(input), abort);
        const [rule] = answer.ServerSideEncryptionConfiguration?.Rules ?? [];
        const { SSEAlgorithm, KMSMasterKeyID } = rule?.ApplyServerSideEncryptionByDefault ?? {};
        return {
          algorithm: SSEAlgorithm ?? 'none',
          key: KMSMasterKeyID,
          bucketKey: rule?.BucketKeyEnabled ?? false,
          blocked: rule?.BlockedEncryptionTypes?.EncryptionType ?? [],
        };
      },
      // S3 itself encrypts every bucket since 2023; other servers need not.
      ['ServerSideEncryptionConfigurationNotFoundError'],
      { algorithm: 'none', key: undefined, bucketKey: false, blocked: [] },
    ),
    publicAccessBlock: await see(
      async () => {
        const answer = await client.send(new GetPublicAccessBlockCommand(input), abort);
        return blockOf(answer.PublicAccessBlockConfiguration ?? {});
      },
      ['NoSuchPublicAccessBlockConfiguration'],
      blockOf({}),
    ),
    ownership: await see(async () => {
      const answer = await client.send(new GetBucketOwnershipControlsCommand(input), abort);
      return answer.OwnershipControls?.Rules?.[0]?.ObjectOwnership;
    }, ['OwnershipControlsNotFoundError']),
    acl: await see(async () => {
      const { Grants = [], Owner } = await client.send(new GetBucketAclCommand(input), abort);
      return Grants.map(({ Grantee, Permission }) => ({
        grantee: Grantee?.URI ?? Grantee?.ID ?? 'unknown',
        isOwner: Grantee?.ID !== undefined && Grantee.ID === Owner?.ID,
        permission: String(Permission),
      }));
    }),
    versioning: await see(async () => {
      const { Status, MFADelete } = await client.send(new GetBucketVersioningCommand(input), abort);
      return { enabled: Status === 'Enabled', mfaDelete: MFADelete === 'Enabled' };
    }),
    objectLock: await see(async () => {
      const answer = await client.send(new GetObjectLockConfigurationCommand(input), abort);
      const { ObjectLockEnabled, Rule } = answer.ObjectLockConfiguration ?? {};
      if (ObjectLockEnabled !== 'Enabled') return undefined;
      const { Mode, Days, Years } = Rule?.DefaultRetention ?? {};
      const retention =
        Days !== undefined ? `${Days} days` : Years !== undefined ? `${Years} years` : undefined;
      return { mode: Mode, retention };
    }, ['ObjectLockConfigurationNotFoundError']),
    logging: await see(
      async () => (await client.send(new GetBucketLoggingCommand(input), abort)).LoggingEnabled?.TargetBucket,
    ),
    lifecycle: await see(
      async () => {
        const answer = await client.send(new GetBucketLifecycleConfigurationCommand(input), abort);
        return (answer.Rules ?? []).map(lifecycleRuleOf);
      },
      ['NoSuchLifecycleConfiguration'],
      [],
    ),
    replication: await see(
      async () => {
        const answer = await client.send(new GetBucketReplicationCommand(input), abort);
        return (answer.ReplicationConfiguration?.Rules ?? []).map(
          ({ Destination }) => Destination?.Bucket ?? '',
        );
      },
      ['ReplicationConfigurationNotFoundError'],
      [],
    ),
    objects: await see(() => listObjects(options)),
  };
}

async function see<T>(ask: () => Promise<T>): Promise<Seen<T>>;
async function see<T>(ask: () => Promise<T>, absentAs: readonly string[], absent: T): Promise<Seen<T>>;
async function see<T>(ask: () => Promise<T>, absentAs: readonly string[]): Promise<Seen<T | undefined>>;
async function see<T>(
  ask: () => Promise<T>,
  absentAs: readonly string[] = [],
  absent?: T,
): Promise<Seen<T | undefined>> {
  try {
    return { seen: true, value: await ask() };
  } catch (error) {
    if (!(error instanceof S3ServiceException)) throw unreadable(error);
    if (absentAs.includes(error.name)) return { seen: true, value: absent };
    if (error.name === 'NoSuchBucket') throw unreadable(error);
    return { seen: false, why: `S3 answered ${error.$metadata.httpStatusCode} ${error.name}` };
  }
}

function unreadable(error: unknown): CommandError {
  const { name, message } = error as Error;
  return new CommandError('BUCKET_UNREADABLE', `The bucket cannot be looked at: ${name}: ${message}`, error);
}

function blockOf(found: {
  BlockPublicAcls?: boolean | undefined;
  IgnorePublicAcls?: boolean | undefined;
  BlockPublicPolicy?: boolean | undefined;
  RestrictPublicBuckets?: boolean | undefined;
}) {
  return {
    blockPublicAcls: found.BlockPublicAcls ?? false,
    ignorePublicAcls: found.IgnorePublicAcls ?? false,
    blockPublicPolicy: found.BlockPublicPolicy ?? false,
    restrictPublicBuckets: found.RestrictPublicBuckets ?? false,
  };
}

function lifecycleRuleOf(rule: S3LifecycleRule): LifecycleRule {
  const { ID, Status, Filter, Prefix, AbortIncompleteMultipartUpload, Expiration } = rule;
  return {
    name: ID ?? 'a rule without a name',
    enabled: Status === 'Enabled',
    // A rule for tags or sizes is not for the whole bucket either.
    prefix:
      Filter?.Prefix ??
      Prefix ??
      (Filter === undefined || Object.keys(Filter).length === 0 ? '' : '(filter)'),
    abortsUploadsAfterDays: AbortIncompleteMultipartUpload?.DaysAfterInitiation,
    expires: Expiration?.Days !== undefined || Expiration?.Date !== undefined,
  };
}

async function listObjects({
  client,
  bucket,
  accountId,
  signal,
  objectsMax,
  onObject,
}: CollectOptions): Promise<ObjectListing> {
  if (objectsMax === 0) return { complete: false, objects: [] };
  const input = { Bucket: bucket, ExpectedBucketOwner: accountId };
  const abort = { abortSignal: signal };
  const found: { readonly key: string; readonly sizeBytes: number }[] = [];
  let token: string | undefined;
  let complete = true;
  do {
    const page = await client.send(
      new ListObjectsV2Command({ ...input, ...(token !== undefined && { ContinuationToken: token }) }),
      abort,
    );
    for (const { Key, Size } of page.Contents ?? []) {
      // A key that ends in a slash stands for a folder in the console.
      if (Key === undefined || (Key.endsWith('/') && Size === 0)) continue;
      if (found.length < objectsMax) found.push({ key: Key, sizeBytes: Size ?? 0 });
      else complete = false;
    }
    token = page.IsTruncated === true && complete ? page.NextContinuationToken : undefined;
  } while (token !== undefined);

  const objects: ObjectSample[] = new Array(found.length);
  const queue = found.entries();
  const lane = async (): Promise<void> => {
    for (const [index, { key, sizeBytes }] of queue) {
      const length = key.endsWith('.json') ? JSON_BYTES : BEGIN_BYTES;
      const begin = await see(async () => {
        if (sizeBytes === 0) return new Uint8Array();
        const get = new GetObjectCommand({ ...input, Key: key, Range: `bytes=0-${length - 1}` });
        const answer = await client.send(get, abort);
        return (await answer.Body?.transformToByteArray()) ?? new Uint8Array();
      });
      objects[index] = { key, sizeBytes, begin };
      onObject?.(index + 1);
    }
  };
  await Promise.all(Array.from({ length: LANES }, lane));
  return { complete, objects };
}
