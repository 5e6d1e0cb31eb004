/**
 * The SDK's door: `connect` verifies an enclave and returns a `fetch` that reaches this enclave and nothing
 * else (docs/evidence.md). Every connection behind it goes through `VerifiedConnection.open`.
 */
import { ClientError } from './errors.ts';
import { type ClientExpectations, checkExpectations } from './expectations.ts';
import { VerifiedConnection } from './verified-connection.ts';
import { VerifiedEnclave } from './verified-enclave.ts';

export interface ConnectOptions {
  /** The time at which certificates and evidence must be valid. */
  readonly now?: () => Date;
  /** For connecting, shaking hands and obtaining evidence together; 10 seconds unless given. */
  readonly timeoutMs?: number;
}

/**
 * Verifies the enclave at `url` (`https://HOST:PORT`) and keeps the verified connection for the first request.
 *
 * Rejects with ClientError, AttestationError, EvidenceError or CodecError, each with a stable `code` and an
 * `action`. When it rejects, nothing but a nonce has been sent.
 */
export async function connect(
  url: string | URL,
  expectations: ClientExpectations,
  { now = () => new Date(), timeoutMs = 10_000 }: ConnectOptions = {},
): Promise<VerifiedEnclave> {
  const origin = parseOrigin(url);
  const expected = checkExpectations(expectations);
  const openVerified = () => VerifiedConnection.open(origin, expected, { now, timeoutMs });
  const first = await openVerified();
  return new VerifiedEnclave(origin, first, openVerified);
}

function parseOrigin(url: string | URL): URL {
  const parsed = URL.parse(String(url));
  const found = JSON.stringify(String(url).slice(0, 200));
  if (parsed === null || parsed.protocol !== 'https:') {
    throw new ClientError('CLIENT_URL', `Expected https://HOST:PORT, found ${found}.`);
  }
  if (parsed.href !== `${parsed.origin}/`) {
    throw new ClientError('CLIENT_URL', `Expected a URL without path, query or credentials, found ${found}.`);
  }
  return parsed;
}
