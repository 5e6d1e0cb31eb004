import { httpOverLink } from '../link/http-client.ts';
import type { Link } from '../link/link.ts';
import { CONTROL_PORT } from '../link/ports.ts';

/** The enclave's control port (docs/link.md section 4): liveness and drain, and nothing else. */
export interface EnclaveControl {
  /** True if the enclave answers `GET /live` with 200 in time. It proves nothing to a caller; only evidence does. */
  live(): Promise<boolean>;
  /** `POST /drain`: the enclave takes no new work from now on, and says so with 202. Rejects with LinkError. */
  drain(): Promise<void>;
  close(): void;
}

export function enclaveControl(link: Link): EnclaveControl {
  const http = httpOverLink(link, CONTROL_PORT);
  return {
    live: () =>
      http.exchange({ method: 'GET', path: '/live', status: 200, receive: small }).then(
        () => true,
        () => false,
      ),
    drain: async () => {
      await http.exchange({ method: 'POST', path: '/drain', status: 202, receive: small });
    },
    close: () => http.close(),
  };
}

const ANSWER_MAX_BYTES = 1024;

function small(sizeBytes: number): Uint8Array {
  if (sizeBytes > ANSWER_MAX_BYTES) throw new RangeError('the control port has short answers');
  return new Uint8Array(sizeBytes);
}
