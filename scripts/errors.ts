import { type ErrorTable, StrongroomError } from '../shared/errors.ts';

export const commandErrors = {
  USAGE: {
    exit: 2,
    means: 'The command line was not understood.',
    action: 'Run the command with --help; it shows the options and an example.',
  },
  INPUT_UNREADABLE: {
    exit: 2,
    means: 'A file that the command was given could not be read.',
    action: 'Check the path and its permissions.',
  },
  EXPECTATIONS_UNUSABLE: {
    exit: 2,
    means: 'What a document should be compared with is not the strict JSON that this version reads.',
    action: 'Correct the named member; docs/attestation.md section 12 lists them.',
  },
  OUTPUT_UNWRITABLE: {
    exit: 2,
    means: 'The result could not be written where it should go.',
    action: 'Make room, or choose a place that you may write to, then run the command again.',
  },
  UNEXPECTED: {
    exit: 2,
    means: 'Something failed that the command did not foresee.',
    action: 'Run it without --json for the details; if the message does not help, please report it.',
  },
  RESULT_UNSEEN: {
    exit: 3,
    means: 'What was asked for was done, but its result could not be read back.',
    action: 'Do not repeat the change. Look at the result again, with credentials that may see it.',
  },
  INTERRUPTED: {
    exit: 1,
    means: 'The command was interrupted and cleaned up after itself.',
    action: 'Run it again.',
  },
  KEY_UNREADABLE: {
    exit: 2,
    means: 'KMS did not answer what has to be known of the key, its policy above all.',
    action:
      'Check --key and your AWS credentials; kms:GetKeyPolicy, ListGrants and DescribeKey must be allowed.',
  },
  BUCKET_UNREADABLE: {
    exit: 2,
    means: 'The bucket does not exist, belongs to another account, or its server did not answer.',
    action: 'Check the name, --account, --region and your AWS credentials.',
  },
  BUCKET_NOT_CONFIGURED: {
    exit: 1,
    means: 'S3 refused a change of the configuration; those before it were made.',
    action: 'Settle what S3 says, then run the command again: it goes on with what is left.',
  },
  BUCKET_POLICY_UNCLEAR: {
    exit: 3,
    means: 'The bucket has a policy that cannot be understood without doubt, so nothing can be added to it.',
    action: 'Write the policy plainly at the line that the message names, then run the command again.',
  },
  DEMO_NOT_REFUSED: {
    exit: 1,
    means: 'An attack of the demonstration was not refused.',
    action: 'Do not use this build; report it as SECURITY.md says.',
  },
} as const satisfies ErrorTable;

export class CommandError extends StrongroomError<keyof typeof commandErrors> {
  constructor(code: keyof typeof commandErrors, message: string, cause?: unknown) {
    super(commandErrors, code, message, cause);
  }
}
