import { type ErrorTable, StrongroomError } from '../errors.ts';

export const credentialsErrors = {
  CREDENTIALS_MALFORMED: {
    exit: 2,
    means: 'Something that should be AWS session credentials is not.',
    action:
      'Provide accessKeyId, secretAccessKey, sessionToken and expiration (RFC 3339, UTC), and nothing else.',
  },
} as const satisfies ErrorTable;

/** Its messages name members and never repeat a value. */
export class CredentialsError extends StrongroomError<keyof typeof credentialsErrors> {
  constructor(message: string) {
    super(credentialsErrors, 'CREDENTIALS_MALFORMED', message);
  }
}
