import { type ErrorTable, StrongroomError } from '../../shared/errors.ts';

export const trailErrors = {
  TRAIL_FORMAT: {
    exit: 2,
    means: 'A file is neither what CloudTrail delivers nor a list or lines of its records.',
    action: 'Give the files as S3 has them ({"Records": [...]}, also compressed), or JSON lines.',
  },
  TRAIL_TRUNCATED: {
    exit: 2,
    means: 'A file ends in the middle of a record or of its compressed stream.',
    action: 'Fetch the file again; what was read of it before the end is in the report.',
  },
  TRAIL_COMPRESSION: {
    exit: 2,
    means: 'A compressed file is damaged, or grows beyond what text of records can be compressed to.',
    action: 'Fetch the file again; if it stays so, somebody else wrote it.',
  },
  TRAIL_RECORD: {
    exit: 2,
    means: 'A record cannot be read without doubt: no JSON, repeated members, wrong types, or too large.',
    action: 'Look at the record at the place that the message names; CloudTrail writes no such record.',
  },
  TRAIL_EMPTY: {
    exit: 2,
    means: 'No file was found under the paths that were given.',
    action: 'Name files, or folders with files that end in .json, .jsonl, .ndjson or .gz.',
  },
  TRAIL_KEY: {
    exit: 2,
    means: 'The key whose uses are asked for is not named by its ARN or its id.',
    action: 'Give arn:aws:kms:REGION:ACCOUNT:key/ID or the id; an alias can be moved to another key.',
  },
} as const satisfies ErrorTable;

export class TrailError extends StrongroomError<keyof typeof trailErrors> {
  constructor(code: keyof typeof trailErrors, message: string, cause?: unknown) {
    super(trailErrors, code, message, cause);
  }
}
