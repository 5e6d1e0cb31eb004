/**
 * Verifies AWS Signature Version 4 (AWS IAM user guide, "Create a signed AWS API request"). A primer:
 *
 *     canonical request = method, path, query, headers, names of signed headers, SHA-256 of the body
 *     string to sign    = AWS4-HMAC-SHA256, time, scope (date/region/service/aws4_request), SHA-256 of the above
 *     signing key       = HMAC chain over date, region, service, "aws4_request", from "AWS4" + secret
 *
 * KMS speaks POST / without a query, so path and query are constants here. The body's hash is always computed,
 * never taken from a header.
 */
import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import { KmsException } from './exception.ts';

export interface SignedRequest {
  /** Names and values in turn, as received (`IncomingMessage.rawHeaders`). */
  readonly rawHeaders: readonly string[];
  readonly body: Uint8Array;
}

export interface Credentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
  /** From then on the session token is answered with ExpiredTokenException. */
  readonly expiration?: Date;
}

/** AWS answers requests whose clock is further off than this with InvalidSignatureException. */
const MAX_CLOCK_SKEW_MS = 5 * 60 * 1000;
const ALGORITHM = 'AWS4-HMAC-SHA256';
const AUTHORIZATION =
  /^AWS4-HMAC-SHA256 Credential=(\w{4,128})\/([0-9]{8})\/([a-z0-9-]{1,64})\/([a-z0-9-]{1,64})\/aws4_request, ?SignedHeaders=([a-z0-9-]{1,64}(?:;[a-z0-9-]{1,64}){0,63}), ?Signature=([0-9a-f]{64})$/;

/**
 * Resolves the caller's credentials. Throws KmsException as AWS does: the key is not known, the session token is
 * wrong or expired, the clock is off, or the signature does not match.
 */
export function verifySignature<C extends Credentials>(
  request: SignedRequest,
  service: { readonly region: string; readonly name: 'kms'; readonly now: Date },
  credentialsOf: (accessKeyId: string) => C | undefined,
): C {
  const headers = collectHeaders(request.rawHeaders);
  const authorization = headers.get('authorization');
  if (authorization === undefined) {
    throw new KmsException('MissingAuthenticationTokenException', 'Missing Authentication Token');
  }
  const match = AUTHORIZATION.exec(authorization.join(','));
  if (match === null) throw incomplete('The Authorization header is not in the form of Signature Version 4.');
  const [, accessKeyId, date, region, name, names, signature] = match as unknown as string[] & { length: 7 };
  const signedNames = (names as string).split(';');

  const credentials = credentialsOf(accessKeyId as string);
  if (credentials === undefined) throw unrecognized(`No principal has the access key ${accessKeyId}.`);
  if (region !== service.region || name !== service.name) {
    throw mismatch(
      `Credential should be scoped to ${service.region}/${service.name}, not ${region}/${name}.`,
    );
  }
  const time = requireFresh(headers, date as string, service.now);
  requireSigned(headers, signedNames);

  const canonical = canonicalRequest(headers, signedNames, request.body);
  const scope = `${date}/${region}/${name}/aws4_request`;
  const toSign = `${ALGORITHM}\n${time}\n${scope}\n${sha256(canonical)}`;
  const key = [date, region, name, 'aws4_request'].reduce<string | Buffer>(
    (secret, part) =>
      createHmac('sha256', secret)
        .update(part as string)
        .digest(),
    `AWS4${credentials.secretAccessKey}`,
  );
  const expected = createHmac('sha256', key).update(toSign).digest();
  if (!timingSafeEqual(expected, Buffer.from(signature as string, 'hex'))) {
    throw mismatch(
      'The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.',
    );
  }
  requireSessionToken(headers, credentials, service.now);
  return credentials;
}

function canonicalRequest(headers: Headers, signedNames: readonly string[], body: Uint8Array): string {
  const lines = signedNames.map((name) => `${name}:${(headers.get(name) as string[]).join(',')}\n`);
  return `POST\n/\n\n${lines.join('')}\n${signedNames.join(';')}\n${sha256(body)}`;
}

/** The signature must cover what gives the request its meaning: host, time, operation and session. */
function requireSigned(headers: Headers, signedNames: readonly string[]): void {
  const sorted = [...new Set(signedNames)].sort();
  if (sorted.join() !== signedNames.join()) throw incomplete('SignedHeaders is not sorted.');
  const absent = signedNames.filter((name) => !headers.has(name));
  if (absent.length > 0) throw incomplete(`Signed headers are missing: ${absent.join(', ')}.`);
  const needed = [...headers.keys()].filter((name) => name === 'host' || name.startsWith('x-amz-'));
  const unsigned = ['host', ...needed].filter((name) => !signedNames.includes(name));
  if (unsigned.length > 0) {
    throw mismatch(`There were headers present in the request which were not signed: ${unsigned.join(', ')}`);
  }
}

function requireFresh(headers: Headers, scopeDate: string, now: Date): string {
  const [time, ...others] = headers.get('x-amz-date') ?? [];
  const parts = /^([0-9]{4})([0-9]{2})([0-9]{2})T([0-9]{2})([0-9]{2})([0-9]{2})Z$/.exec(time ?? '');
  if (time === undefined || parts === null || others.length > 0) {
    throw incomplete("Authorization header requires existence of one 'X-Amz-Date' header.");
  }
  if (!time.startsWith(scopeDate)) {
    throw mismatch(`Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date: ${time}`);
  }
  const [, year, month, day, hour, minute, second] = parts;
  const signedMs = Date.parse(`${year}-${month}-${day}T${hour}:${minute}:${second}Z`);
  if (signedMs < now.getTime() - MAX_CLOCK_SKEW_MS) {
    throw mismatch(`Signature expired: ${time} is now earlier than ${basicTime(now, -MAX_CLOCK_SKEW_MS)}`);
  }
  if (!(signedMs <= now.getTime() + MAX_CLOCK_SKEW_MS)) {
    throw mismatch(
      `Signature not yet current: ${time} is still later than ${basicTime(now, MAX_CLOCK_SKEW_MS)}`,
    );
  }
  return time;
}

function requireSessionToken(headers: Headers, credentials: Credentials, now: Date): void {
  const sent = headers.get('x-amz-security-token')?.join(',');
  if (sent !== credentials.sessionToken)
    throw unrecognized('The session token is not that of the access key.');
  if (credentials.expiration !== undefined && credentials.expiration <= now) throw expiredToken();
}

export function expiredToken(): KmsException {
  return new KmsException('ExpiredTokenException', 'The security token included in the request is expired');
}

type Headers = ReadonlyMap<string, string[]>;

/** Values trimmed and with single blanks, as the canonical request wants them. */
function collectHeaders(rawHeaders: readonly string[]): Headers {
  const headers = new Map<string, string[]>();
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    const name = (rawHeaders[i] as string).toLowerCase();
    const value = (rawHeaders[i + 1] as string).trim().replace(/ +/g, ' ');
    headers.set(name, [...(headers.get(name) ?? []), value]);
  }
  return headers;
}

function sha256(data: string | Uint8Array): string {
  return createHash('sha256').update(data).digest('hex');
}

function basicTime(now: Date, offsetMs: number): string {
  return new Date(now.getTime() + offsetMs).toISOString().replace(/[-:]|\.[0-9]{3}/g, '');
}

function mismatch(message: string): KmsException {
  return new KmsException('InvalidSignatureException', message);
}

function incomplete(message: string): KmsException {
  return new KmsException('IncompleteSignatureException', message);
}

function unrecognized(explanation: string): KmsException {
  return new KmsException(
    'UnrecognizedClientException',
    'The security token included in the request is invalid.',
    { explanation: [explanation] },
  );
}
