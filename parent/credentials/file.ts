import { CREDENTIALS_MAX_BYTES, parseAwsCredentials } from '../../shared/credentials/aws-credentials.ts';
import { ParentError } from '../errors.ts';
import { readBounded } from '../files.ts';
import type { CredentialsProvider } from './provider.ts';

/** Reads the file anew each time, so that whoever rotates it need not tell the parent. */
export function credentialsFromFile(path: string): CredentialsProvider {
  return {
    provide: async () => {
      try {
        const bytes = await readBounded(path, CREDENTIALS_MAX_BYTES);
        if (bytes !== undefined) return parseAwsCredentials(bytes);
      } catch (cause) {
        throw new ParentError('PARENT_CREDENTIALS_UNAVAILABLE', `No credentials in ${path}.`, cause);
      }
      throw new ParentError('PARENT_CREDENTIALS_UNAVAILABLE', `${path} is too long or no regular file.`);
    },
  };
}
