import type { ApiLimits } from '../../shared/deployment/deployment.ts';

export type { ApiLimits };

/** How long anybody may take. They are not for the deployment to choose: each closes a way to tie up the enclave. */
export interface Deadlines {
  /** From the first byte of a connection to the end of the TLS handshake. */
  readonly handshakeMs: number;
  /** For the headers of a request. */
  readonly headersMs: number;
  /** For a request as a whole, headers and body. */
  readonly requestMs: number;
  /** For a body to bring `bodyBytesPerSecond` times this; then again for as much. */
  readonly bodyWindowMs: number;
  /** The slowest that a body may arrive. */
  readonly bodyBytesPerSecond: number;
  /** For the answer to be worked out, waiting included; for text, for a turn at the engine. */
  readonly answerMs: number;
  /** For a text to be generated, waiting included. */
  readonly generationMs: number;
  /** For a whole answer to be taken by the client. */
  readonly deliveryMs: number;
  /** For the next part of an answer that is still being made: whoever does not read holds a place at the engine. */
  readonly partMs: number;
  /** Between requests on one connection. */
  readonly idleMs: number;
  /** For a drain, after which connections are cut. */
  readonly drainMs: number;
}

export const DEADLINES: Deadlines = {
  handshakeMs: 10_000,
  headersMs: 10_000,
  requestMs: 60_000,
  bodyWindowMs: 5_000,
  bodyBytesPerSecond: 4_096,
  answerMs: 60_000,
  generationMs: 600_000,
  deliveryMs: 120_000,
  partMs: 30_000,
  idleMs: 30_000,
  drainMs: 20_000,
};

/** Request line and headers together. */
export const MAX_HEADER_BYTES = 16 * 1024;
