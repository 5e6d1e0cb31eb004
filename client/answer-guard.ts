/**
 * Stands between undici and whoever asked, for one request. It keeps apart what must not be taken for one another: a
 * request of which nothing was sent and one that may have been computed; the end of an answer and a cut.
 */
import { type Dispatcher, errors } from 'undici';
import { ClientError } from './errors.ts';

type DispatchHandler = Dispatcher.DispatchHandler;
type Controller = Dispatcher.DispatchController;

/** The reason of a connection that ends before a request given to it was begun; never seen by whoever asked. */
export const NOTHING_SENT = new ClientError(
  'CLIENT_CONNECTION_LOST',
  'The connection ended before the request was sent.',
);

export class AnswerGuard implements DispatchHandler {
  readonly #handler: DispatchHandler;
  readonly #method: string;
  readonly #onUnsent: () => boolean;
  #begun = false;

  /** `onUnsent` is asked when nothing of the request was sent; true if it sees to it that it is sent otherwise. */
  constructor(handler: DispatchHandler, method: string, onUnsent: () => boolean) {
    this.#handler = handler;
    this.#method = method;
    this.#onUnsent = onUnsent;
  }

  onRequestStart(controller: Controller, context: unknown): void {
    this.#begun = true;
    this.#handler.onRequestStart?.(controller, context);
  }

  onResponseStart(
    controller: Controller,
    status: number,
    headers: Parameters<NonNullable<DispatchHandler['onResponseStart']>>[2],
    text?: string,
  ): void {
    if (status >= 200 && !this.#saysWhereItEnds(status, headers)) {
      controller.abort(
        new ClientError(
          'CLIENT_ANSWER_MALFORMED',
          'Expected an answer with a length or in chunks, found one that would end with the connection.',
        ),
      );
      return;
    }
    this.#handler.onResponseStart?.(controller, status, headers, text);
  }

  onResponseData(controller: Controller, chunk: Buffer): void {
    this.#handler.onResponseData?.(controller, chunk);
  }

  onResponseEnd(
    controller: Controller,
    trailers: Parameters<NonNullable<DispatchHandler['onResponseEnd']>>[1],
  ): void {
    this.#handler.onResponseEnd?.(controller, trailers);
  }

  onResponseError(controller: Controller, error: Error): void {
    if (error === NOTHING_SENT && !this.#begun && this.#onUnsent()) return;
    this.#handler.onResponseError?.(controller, explained(error));
  }

  /** RFC 9112 6.3: without either, the end of the connection is the end of the answer, and anybody can cut that. */
  #saysWhereItEnds(status: number, headers: Readonly<Record<string, unknown>>): boolean {
    const bodiless = this.#method === 'HEAD' || status === 204 || status === 304;
    if (bodiless || headers['content-length'] !== undefined) return true;
    return /(^|,)\s*chunked\s*$/i.test(String(headers['transfer-encoding'] ?? ''));
  }
}

const LOST = ['UND_ERR_SOCKET', 'UND_ERR_CLOSED', 'UND_ERR_DESTROYED', 'ECONNRESET', 'EPIPE', 'ETIMEDOUT'];
const LATE = ['UND_ERR_HEADERS_TIMEOUT', 'UND_ERR_BODY_TIMEOUT'];
const MALFORMED = ['UND_ERR_RES_CONTENT_LENGTH_MISMATCH', 'UND_ERR_HEADERS_OVERFLOW'];

/** What undici says of a connection, in our words; anything else, such as the reason of an abort, as it stands. */
function explained(error: Error): Error {
  // Whoever aborts may give any reason; that of a DOMException has a number for a code.
  const code = String((error as { code?: unknown } | null)?.code ?? '');
  if (error instanceof errors.HTTPParserError || MALFORMED.includes(code)) {
    return new ClientError('CLIENT_ANSWER_MALFORMED', `The answer is not HTTP: ${error.message}.`, error);
  }
  if (LATE.includes(code)) {
    return new ClientError('CLIENT_ANSWER_LOST', `The answer did not come in time: ${error.message}.`, error);
  }
  if (LOST.includes(code) || code.startsWith('ERR_SSL_')) {
    return new ClientError('CLIENT_ANSWER_LOST', `The connection ended: ${error.message}.`, error);
  }
  return error;
}
