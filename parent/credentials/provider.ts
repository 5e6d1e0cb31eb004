import type { AwsCredentials } from '../../shared/credentials/aws-credentials.ts';

/** Where the parent gets the credentials that it hands to the enclave. */
export interface CredentialsProvider {
  /** Credentials that are valid now. Throws ParentError when there are none. */
  provide(): Promise<AwsCredentials>;
}

export function encodeAwsCredentials(credentials: AwsCredentials): Uint8Array {
  const { accessKeyId, secretAccessKey, sessionToken, expiration } = credentials;
  return Buffer.from(
    JSON.stringify({ accessKeyId, secretAccessKey, sessionToken, expiration: expiration.toISOString() }),
  );
}
