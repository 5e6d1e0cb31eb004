import { HTTP_LIMITS, httpOverLink } from '../link/http-client.ts';
import type { Link } from '../link/link.ts';
import { CONTROL_PORT } from '../link/ports.ts';
import { parseStrictJson } from '../shared/json.ts';

/** `live` without being ready: it drains, or an engine is being started again. */
export type EnclaveHealth = 'ready' | 'live' | 'silent';

/** The enclave's control port (docs/link.md section 4): liveness and drain, and nothing else. */
export interface EnclaveControl {
  /** What `GET /live` answers in time. It proves nothing to a caller; only evidence does. */
  health(): Promise<EnclaveHealth>;
  /** Whether it answers at all. */
  live(): Promise<boolean>;
  /** `POST /drain`: the enclave takes no new work from now on, and says so with 202. Rejects with LinkError. */
  drain(): Promise<void>;
  close(): void;
}

export function enclaveControl(link: Link): EnclaveControl {
  const http = httpOverLink(link, CONTROL_PORT, CONTROL_LIMITS);
  const health = (): Promise<EnclaveHealth> =>
    http
      .exchange({ method: 'GET', path: '/live', status: 200, receive: small })
      .then(readHealth, () => 'silent');
  return {
    health,
    live: async () => (await health()) !== 'silent',
    drain: async () => {
      await http.exchange({ method: 'POST', path: '/drain', status: 202, receive: small });
    },
    close: () => http.close(),
  };
}

function readHealth(body: Uint8Array): EnclaveHealth {
  try {
    const answer = parseStrictJson(body, { maxBytes: ANSWER_MAX_BYTES, maxDepth: 4 }).value;
    return (answer as { ready?: unknown } | null)?.ready === true ? 'ready' : 'live';
  } catch {
    return 'live';
  }
}

/** Whether somebody is there is asked often, and nobody should wait long for a no. */
const CONTROL_LIMITS = { ...HTTP_LIMITS, connectTimeoutMs: 2_000, headersTimeoutMs: 3_000 };
const ANSWER_MAX_BYTES = 1024;

function small(sizeBytes: number): Uint8Array {
  if (sizeBytes > ANSWER_MAX_BYTES) throw new RangeError('the control port has short answers');
  return new Uint8Array(sizeBytes);
}
