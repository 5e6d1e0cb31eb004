/** AWS session credentials as they cross the link, and as the parent's credentials file holds them (docs/link.md section 3). */
import { type JsonValue, parseStrictJson } from '../json.ts';
import { CredentialsError } from './errors.ts';

export interface AwsCredentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken: string;
  readonly expiration: Date;
}

export const CREDENTIALS_MAX_BYTES = 16 * 1024;

const ACCESS_KEY_ID = /^[A-Z0-9]{16,128}$/;
const SECRET_ACCESS_KEY = /^[A-Za-z0-9/+=]{16,128}$/;
const SESSION_TOKEN = /^[A-Za-z0-9/+=_-]{1,8192}$/;
const EXPIRATION = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,3})?Z$/;
const MEMBERS = ['accessKeyId', 'expiration', 'secretAccessKey', 'sessionToken'];

/** Takes `{accessKeyId, secretAccessKey, sessionToken, expiration}` as strict JSON, else throws CredentialsError. */
export function parseAwsCredentials(bytes: Uint8Array): AwsCredentials {
  const members = readObject(bytes);
  if (Object.keys(members).sort().join() !== MEMBERS.join()) {
    throw new CredentialsError(`Expected the members ${MEMBERS.join(', ')}, found others.`);
  }
  const text = (name: string, pattern: RegExp): string => {
    const value = members[name];
    if (typeof value !== 'string' || !pattern.test(value)) {
      throw new CredentialsError(`The member ${name} of the credentials has a wrong form.`);
    }
    return value;
  };
  const expiration = new Date(text('expiration', EXPIRATION));
  if (Number.isNaN(expiration.getTime())) {
    throw new CredentialsError('The member expiration of the credentials is no date.');
  }
  return {
    accessKeyId: text('accessKeyId', ACCESS_KEY_ID),
    secretAccessKey: text('secretAccessKey', SECRET_ACCESS_KEY),
    sessionToken: text('sessionToken', SESSION_TOKEN),
    expiration,
  };
}

function readObject(bytes: Uint8Array): { readonly [name: string]: JsonValue } {
  let value: JsonValue;
  try {
    value = parseStrictJson(bytes, { maxBytes: CREDENTIALS_MAX_BYTES, maxDepth: 2 }).value;
  } catch {
    // The cause is left out: a parser's message may quote what it read.
    throw new CredentialsError('Expected credentials as strict JSON, found something else.');
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new CredentialsError('Expected credentials as a JSON object, found another value.');
  }
  return value as { readonly [name: string]: JsonValue };
}
