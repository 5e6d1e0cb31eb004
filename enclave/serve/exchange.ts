import type { IncomingMessage } from 'node:http';
import type { Caller } from '../clients/caller.ts';
import type { ModelSet } from '../models/model-set.ts';
import type { PendingReceipt } from '../receipts.ts';

/** One request that has climbed the ladder up to its content, and what it may use. */
export interface Exchange {
  readonly request: IncomingMessage;
  readonly caller: Caller;
  /** The models that the connection's evidence named. */
  readonly models: ModelSet;
  /** Aborts when the client goes or the answer takes too long; its reason says which. */
  readonly signal: AbortSignal;
  /** Asks a client that waits for it (`Expect: 100-continue`) for the body. */
  readonly proceed: () => void;
  /** Called when the answer has been sent, or never will be. */
  readonly defer: (cleanUp: () => void) => void;
  /** If the caller asked for one. */
  readonly receipt: PendingReceipt | undefined;
}

export interface ApiAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  /** Known as a whole, or made while it is sent: then a fault ends the connection before the answer's end. */
  readonly body: readonly Uint8Array[] | AsyncIterable<Uint8Array>;
}

export function json(status: number, value: object): ApiAnswer {
  return {
    status,
    headers: { 'content-type': 'application/json' },
    body: [new TextEncoder().encode(JSON.stringify(value))],
  };
}
