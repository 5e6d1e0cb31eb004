/**
 * The SDK's door: `connect` verifies an enclave and returns a `fetch` that reaches this enclave and nothing
 * else (docs/evidence.md). Every connection behind it goes through `VerifiedConnection.open`.
 */
import type { ClientExpectations } from './expectations.ts';
import { type AgentOptions, VerifiedAgent } from './verified-agent.ts';
import { VerifiedEnclave } from './verified-enclave.ts';

export interface ConnectOptions extends AgentOptions {
  /** Ends the attempt to connect; afterwards it has no effect. */
  readonly signal?: AbortSignal;
}

/**
 * Verifies the enclave at `url` (`https://HOST:PORT`) and keeps the verified connection for the first request.
 *
 * Rejects with ClientError, AttestationError, EvidenceError or CodecError, each with a stable `code` and an
 * `action`, or with the signal's reason. When it rejects, nothing but a nonce has been sent.
 */
export async function connect(
  url: string | URL,
  expectations: ClientExpectations,
  { signal, ...options }: ConnectOptions = {},
): Promise<VerifiedEnclave> {
  const agent = new VerifiedAgent(url, expectations, options);
  try {
    await agent.verify(signal === undefined ? {} : { signal });
  } catch (error) {
    void agent.destroy();
    throw error;
  }
  return new VerifiedEnclave(agent);
}
