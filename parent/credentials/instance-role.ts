/**
 * Credentials of the instance's role, by IMDSv2 (AWS EC2 User Guide, "Use the Instance Metadata Service"):
 * PUT for a session token, then GET the role's name, then GET its credentials, both with the token. There is no
 * fallback to IMDSv1.
 */
import {
  type AwsCredentials,
  CREDENTIALS_MAX_BYTES,
  parseAwsCredentials,
} from '../../shared/credentials/aws-credentials.ts';
import { type JsonValue, parseStrictJson } from '../../shared/json.ts';
import { ParentError } from '../errors.ts';
import type { CredentialsProvider } from './provider.ts';

export const IMDS_ENDPOINT = 'http://169.254.169.254';
const TOKEN_TTL_SECONDS = 21_600;
const TIMEOUT_MS = 2_000;
/** AWS makes new credentials available at least five minutes before the old ones expire. */
const REFRESH_BEFORE_EXPIRY_MS = 5 * 60_000;
/** While a refresh fails and the old credentials still hold, how long until the next try. */
const RETRY_PAUSE_MS = 10_000;
const ROLE_NAME = /^[\w+=,.@-]{1,64}$/;
const SESSION_TOKEN = /^[\x21-\x7e]{1,1024}$/;

export interface InstanceRoleOptions {
  readonly endpoint?: string;
  readonly now?: () => number;
}

/** Credentials are kept and shared until shortly before they expire; callers at the same time share one refresh. */
export function credentialsFromInstanceRole(options: InstanceRoleOptions = {}): CredentialsProvider {
  const endpoint = options.endpoint ?? IMDS_ENDPOINT;
  const now = options.now ?? Date.now;
  let held: AwsCredentials | undefined;
  let refresh: Promise<AwsCredentials> | undefined;
  let retryAt = 0;

  async function provide(): Promise<AwsCredentials> {
    const leftMs = held === undefined ? 0 : held.expiration.getTime() - now();
    if (held !== undefined && leftMs > REFRESH_BEFORE_EXPIRY_MS) return held;
    if (held !== undefined && leftMs > 0 && now() < retryAt) return held;
    refresh ??= fetchRoleCredentials(endpoint).finally(() => {
      refresh = undefined;
    });
    try {
      const fetched = await refresh;
      if (fetched.expiration.getTime() <= now()) throw unavailable('the credentials have already expired');
      held = fetched;
      retryAt = now() + RETRY_PAUSE_MS;
    } catch (error) {
      retryAt = now() + RETRY_PAUSE_MS;
      if (held === undefined || held.expiration.getTime() <= now()) throw error;
    }
    return held;
  }

  return { provide };
}

async function fetchRoleCredentials(endpoint: string): Promise<AwsCredentials> {
  const token = await call(endpoint, 'PUT', '/latest/api/token', {
    'x-aws-ec2-metadata-token-ttl-seconds': String(TOKEN_TTL_SECONDS),
  });
  if (!SESSION_TOKEN.test(token)) throw unavailable('the session token has a wrong form');
  const headers = { 'x-aws-ec2-metadata-token': token };
  const path = '/latest/meta-data/iam/security-credentials/';
  const role = await call(endpoint, 'GET', path, headers);
  if (!ROLE_NAME.test(role)) throw unavailable('the instance has no role');
  return parseRoleCredentials(await call(endpoint, 'GET', path + role, headers));
}

/** IMDS spells its members in its own way and adds others; the values pass the one check of all credentials. */
function parseRoleCredentials(body: string): AwsCredentials {
  let members: { readonly [name: string]: JsonValue };
  try {
    members = parseStrictJson(Buffer.from(body), { maxBytes: CREDENTIALS_MAX_BYTES, maxDepth: 2 })
      .value as never;
  } catch {
    throw unavailable('the credentials are not JSON');
  }
  if (members?.Code !== 'Success') throw unavailable('the role gives no credentials now');
  const spelled = {
    accessKeyId: members.AccessKeyId,
    secretAccessKey: members.SecretAccessKey,
    sessionToken: members.Token,
    expiration: members.Expiration,
  };
  try {
    return parseAwsCredentials(Buffer.from(JSON.stringify(spelled)));
  } catch (cause) {
    throw unavailable('the credentials have a wrong form', cause);
  }
}

async function call(
  endpoint: string,
  method: 'GET' | 'PUT',
  path: string,
  headers: Readonly<Record<string, string>>,
): Promise<string> {
  try {
    const response = await fetch(endpoint + path, {
      method,
      headers,
      redirect: 'error',
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    if (response.status !== 200) throw new Error(`status ${response.status}`);
    return await readText(response);
  } catch (cause) {
    throw unavailable(`${method} ${path} failed`, cause);
  }
}

async function readText(response: Response): Promise<string> {
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  for await (const chunk of response.body ?? []) {
    sizeBytes += chunk.length;
    if (sizeBytes > CREDENTIALS_MAX_BYTES) throw new Error('answer too long');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function unavailable(found: string, cause?: unknown): ParentError {
  return new ParentError('PARENT_CREDENTIALS_UNAVAILABLE', `Instance metadata service: ${found}.`, cause);
}
