/** Makes the steps of a plan, in its order. */
import {
  GetBucketLifecycleConfigurationCommand,
  PutBucketEncryptionCommand,
  PutBucketLifecycleConfigurationCommand,
  PutBucketOwnershipControlsCommand,
  PutBucketPolicyCommand,
  PutBucketVersioningCommand,
  PutObjectLockConfigurationCommand,
  PutPublicAccessBlockCommand,
  type S3Client,
  S3ServiceException,
} from '@aws-sdk/client-s3';
import { ABORT_UPLOADS_AFTER_DAYS, type BucketWish, type PlanStep } from '../../review/bucket/plan.ts';
import { CommandError } from '../errors.ts';

export interface ApplyOptions {
  readonly client: S3Client;
  readonly bucket: string;
  readonly accountId: string;
  readonly wish: BucketWish;
  readonly signal: AbortSignal;
}

/** Throws CommandError BUCKET_NOT_CONFIGURED. */
export async function applyStep(step: PlanStep, options: ApplyOptions): Promise<void> {
  try {
    await change(step, options);
  } catch (error) {
    if (!(error instanceof S3ServiceException)) throw error;
    throw new CommandError(
      'BUCKET_NOT_CONFIGURED',
      `${step.setting}: S3 answered ${error.$metadata.httpStatusCode} ${error.name}: ${error.message}`,
      error,
    );
  }
}

async function change(
  step: PlanStep,
  { client, bucket, accountId, wish, signal }: ApplyOptions,
): Promise<unknown> {
  const input = { Bucket: bucket, ExpectedBucketOwner: accountId };
  const abort = { abortSignal: signal };
  switch (step.setting) {
    case 'publicAccessBlock':
      return client.send(
        new PutPublicAccessBlockCommand({
          ...input,
          PublicAccessBlockConfiguration: {
            BlockPublicAcls: true,
            IgnorePublicAcls: true,
            BlockPublicPolicy: true,
            RestrictPublicBuckets: true,
          },
        }),
        abort,
      );
    case 'ownership':
      return client.send(
        new PutBucketOwnershipControlsCommand({
          ...input,
          OwnershipControls: { Rules: [{ ObjectOwnership: 'BucketOwnerEnforced' }] },
        }),
        abort,
      );
    case 'versioning':
      return client.send(
        new PutBucketVersioningCommand({ ...input, VersioningConfiguration: { Status: 'Enabled' } }),
        abort,
      );
    case 'encryption':
      return client.send(
        new PutBucketEncryptionCommand({
          ...input,
          ServerSideEncryptionConfiguration: {
            Rules: [
              {
                ApplyServerSideEncryptionByDefault: { SSEAlgorithm: 'aws:kms', KMSMasterKeyID: wish.kmsKey },
                BucketKeyEnabled: true,
                BlockedEncryptionTypes: { EncryptionType: ['SSE-C'] },
              },
            ],
          },
        }),
        abort,
      );
    case 'lifecycle': {
      // The call replaces all rules, so those that are there go with the new one.
      const existing = await client.send(new GetBucketLifecycleConfigurationCommand(input), abort).then(
        ({ Rules }) => Rules ?? [],
        (error) => {
          if (error.name === 'NoSuchLifecycleConfiguration') return [];
          throw error;
        },
      );
      const own = {
        ID: 'StrongroomAbortUploads',
        Status: 'Enabled' as const,
        Filter: { Prefix: '' },
        AbortIncompleteMultipartUpload: { DaysAfterInitiation: ABORT_UPLOADS_AFTER_DAYS },
      };
      const Rules = [...existing.filter(({ ID }) => ID !== own.ID), own];
      return client.send(
        new PutBucketLifecycleConfigurationCommand({ ...input, LifecycleConfiguration: { Rules } }),
        abort,
      );
    }
    case 'objectLock':
      return client.send(
        new PutObjectLockConfigurationCommand({
          ...input,
          ObjectLockConfiguration: {
            ObjectLockEnabled: 'Enabled',
            ...(wish.objectLock !== undefined && {
              Rule: { DefaultRetention: { Mode: wish.objectLock.mode, Days: wish.objectLock.days } },
            }),
          },
        }),
        abort,
      );
    case 'policy':
      return client.send(new PutBucketPolicyCommand({ ...input, Policy: step.policy }), abort);
  }
}
