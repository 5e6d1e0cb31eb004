import { fetch as undiciFetch } from 'undici';
import { strongroomErrorIn } from './error-in.ts';
import type { VerifiedAgent } from './verified-agent.ts';
import type { EnclaveEvidence } from './verify-evidence.ts';

/** A verified enclave. Its `fetch` and `dispatcher` reach it and nothing else, over verified connections only. */
export class VerifiedEnclave {
  /** For undici's functions and everything that takes an undici dispatcher. */
  readonly dispatcher: VerifiedAgent;

  constructor(agent: VerifiedAgent) {
    if (agent.evidence === undefined) throw new TypeError('Expected an agent that has verified its enclave.');
    this.dispatcher = agent;
  }

  /** What was verified about the connection that was opened last. */
  get evidence(): EnclaveEvidence {
    return this.dispatcher.evidence as EnclaveEvidence;
  }

  /**
   * The standard `fetch`; a path such as `/v1/models` is enough of a URL. Rejects with ClientError `CLIENT_OTHER_ORIGIN`
   * for another server, also where a redirect leads there, `CLIENT_ANSWER_LOST` when the connection ends before an
   * answer comes, and with the verifier's errors when a new connection does not pass. An answer that is cut later fails
   * where its body is read, with a TypeError in which `strongroomErrorIn` finds `CLIENT_ANSWER_LOST`.
   */
  readonly fetch: typeof globalThis.fetch = async (input, init) => {
    try {
      const [url, request] = typeof input === 'object' && 'url' in input ? [input.url, input] : [input, {}];
      const { method, headers, body, signal, redirect } = request as Request;
      const taken = { method, headers, body, signal, redirect, ...(body ? { duplex: 'half' } : {}) };
      const options = { ...withoutMissing(taken), ...init, dispatcher: this.dispatcher };
      const response = await undiciFetch(
        new URL(url, this.dispatcher.origin),
        encodedForm(options) as Parameters<typeof undiciFetch>[1],
      );
      return response as unknown as Response;
    } catch (error) {
      throw error instanceof TypeError ? (strongroomErrorIn(error) ?? error) : error;
    }
  };

  /**
   * Verifies the enclave now, over a new connection; those opened before carry no further requests. Rejects as `connect`
   * does.
   */
  verify(): Promise<EnclaveEvidence> {
    return this.dispatcher.verify();
  }

  /** Whether evidence that was verified named this key for receipts. */
  hasReceiptKey(spki: Uint8Array): boolean {
    return this.dispatcher.hasReceiptKey(spki);
  }

  /** Waits for requests under way, then closes every connection. */
  close(): Promise<void> {
    return this.dispatcher.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

interface Init {
  readonly body?: unknown;
  readonly headers?: unknown;
}

/** undici takes for a form only one of its own; Node's would be sent as the text "[object FormData]". */
function encodedForm(options: Init): Init & { readonly duplex?: string } {
  if (!(options.body instanceof FormData)) return options;
  const { body, headers } = new Response(options.body);
  const given = new Headers(options.headers as Record<string, string>);
  given.set('content-type', headers.get('content-type') as string);
  return { ...options, body, headers: given, duplex: 'half' };
}

function withoutMissing(members: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(members).filter(([, value]) => value !== undefined && value !== null),
  );
}
