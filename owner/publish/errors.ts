import { type ErrorTable, StrongroomError } from '../../shared/errors.ts';

/** Causes of stopping publish and fetch (docs/publishing.md). */
export const publishErrors = {
  PUBLISH_INPUT_UNUSABLE: {
    exit: 2,
    means: 'The folder is not a whole sealed model: its payload is not the one that its head describes.',
    action:
      'Publish the folder that "strongroom seal" wrote; "strongroom verify" says what is wrong with it.',
  },
  PUBLISH_WOULD_REPLACE: {
    exit: 1,
    means: 'Another model is published under this name already.',
    action: 'Publish under another prefix, or replace it with --replace.',
  },
  PUBLISH_CHANGED_MEANWHILE: {
    exit: 1,
    means: 'Somebody else wrote to the destination at the same time.',
    action:
      'Find out who publishes there, then publish again; a reader refuses what does not belong together.',
  },
  PUBLISH_NOT_AS_SENT: {
    exit: 1,
    means: 'What the store holds is not what was sent, or is not encrypted as it was asked for.',
    action: 'Run "strongroom bucket audit" on the bucket, then publish again.',
  },
  PUBLISH_REFUSED: {
    exit: 1,
    means: 'The store refused a request.',
    action:
      'Check that your role may s3:PutObject, s3:GetObject, s3:ListBucket, s3:ListBucketMultipartUploads, s3:ListMultipartUploadParts and s3:AbortMultipartUpload there (s3:DeleteObject to replace), and kms:GenerateDataKey and kms:Decrypt on the key of the bucket.',
  },
  PUBLISH_UNREACHABLE: {
    exit: 3,
    means: 'The store gave no answer, or not one over a connection that can be trusted.',
    action: 'Check the network, --region, --endpoint and --ca; run the same command again to continue.',
  },
  PUBLISH_NO_CREDENTIALS: {
    exit: 2,
    means: 'No AWS credentials were found to call S3 with.',
    action: 'Set AWS_PROFILE, or AWS_ACCESS_KEY_ID and its companions, as for the aws command.',
  },
  PUBLISH_STOPPED: {
    exit: 3,
    means: 'Publishing or fetching was stopped before its end.',
    action: 'Run the same command again to continue where it stopped.',
  },
  FETCH_NOT_FOUND: {
    exit: 2,
    means: 'There is no published model at this place.',
    action:
      'Check the place: it names the whole model, up to NAME.sealed. Without s3:ListBucket, S3 says 403 instead.',
  },
  FETCH_OTHER_MODEL: {
    exit: 1,
    means: 'The parts at this place do not belong together, or are not the model that was asked for.',
    action: 'Do not use it. If it is being published right now, try again later.',
  },
  FETCH_ALTERED: {
    exit: 1,
    means: 'The payload at this place is not the one whose digests its head holds.',
    action: 'Do not use it; ask its owner to publish it again.',
  },
  FETCH_SOURCE_FAILED: {
    exit: 3,
    means: 'The source could not be read to its end.',
    action: 'Check the network and the place, then run the same command again to continue where it stopped.',
  },
} as const satisfies ErrorTable;

export class PublishError extends StrongroomError<keyof typeof publishErrors> {
  constructor(code: keyof typeof publishErrors, message: string, cause?: unknown) {
    super(publishErrors, code, message, cause);
  }
}

export function expectNotStopped(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new PublishError('PUBLISH_STOPPED', 'The command was stopped.', signal.reason);
}
