/** One request from its headers to the end of its answer: what it asks for, whether it may, and for how long. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { TLSSocket } from 'node:tls';
import type { DurationClass } from '../../shared/telemetry.ts';
import type { Caller } from '../clients/caller.ts';
import type { Door } from '../clients/door.ts';
import { announcesBody } from './body.ts';
import { ApiError } from './errors.ts';
import { Evidenced } from './evidenced.ts';
import { type ApiAnswer, type Exchange, json } from './exchange.ts';
import { Intake } from './intake.ts';
import type { Deadlines } from './limits.ts';
import { TextApi } from './openai/text-api.ts';
import { asksForReceipt, beginReceipt, withReceipt } from './receipt.ts';
import { type ReplyOptions, sendAnswer, sendRefusal } from './reply.ts';
import { isTextRoute, type Route, requireMethod, routeOf, takesBody } from './routes.ts';
import type { RequestEvent, ServerOptions } from './server.ts';
import { TensorApi } from './tensor-api.ts';

type Options = Pick<ServerOptions, 'evidence' | 'receipts' | 'models' | 'limits' | 'now' | 'observe'> & {
  readonly door: Door;
};

export class Dispatcher {
  readonly #options: Options;
  readonly #deadlines: Deadlines;
  readonly #tensors: TensorApi;
  readonly #texts: TextApi;
  readonly #evidenced: Evidenced;
  #atWork = 0;
  #draining: PromiseWithResolvers<void> | undefined;

  constructor(options: Options, deadlines: Deadlines) {
    this.#options = options;
    this.#deadlines = deadlines;
    const intake = new Intake(options.limits, deadlines);
    this.#tensors = new TensorApi(intake);
    this.#texts = new TextApi(intake, options.limits, options.now);
    this.#evidenced = new Evidenced(options.models);
  }

  get ready(): boolean {
    return this.#draining === undefined && this.#options.models.ready;
  }

  /** Takes no more inferences. Resolves once none is at work. */
  drain(): Promise<void> {
    this.#draining ??= Promise.withResolvers<void>();
    if (this.#atWork === 0) this.#draining.resolve();
    return this.#draining.promise;
  }

  /** Never rejects. `proceed` asks a client that waits for it for the body. */
  async serve(request: IncomingMessage, response: ServerResponse, proceed: () => void): Promise<void> {
    const startedMs = performance.now();
    let kind: RequestEvent['route'] = 'unknown';
    const work = new Work();
    this.#atWork += 1;
    response.once('close', () => {
      work.end(response.writableEnded ? undefined : () => new ApiError('API_INVALID', 'the client has gone'));
      this.#atWork -= 1;
      if (this.#atWork === 0) this.#draining?.resolve();
      this.#options.observe({
        route: kind,
        status: response.headersSent ? response.statusCode : 0,
        duration: durationClass(performance.now() - startedMs),
      });
    });
    let route: Route | undefined;
    try {
      route = routeOf(request.url ?? '');
      kind = route.kind;
      requireMethod(route, request.method);
      requirePlainHeaders(request);
      if (!takesBody(route)) requireNoBody(request);
      const wantsReceipt = asksForReceipt(request, route);
      const { caller, leave } = this.#options.door.admit(
        request.socket as TLSSocket,
        route.kind === 'evidence' ? 'evidence' : 'request',
      );
      work.defer(leave);
      work.limit(this.#timeFor(route));
      const answer = await this.#answer(route, request, { caller, work, proceed, wantsReceipt });
      await sendAnswer(response, answer, this.#replyOptions(request));
    } catch (error) {
      sendRefusal(request, response, error, route, this.#replyOptions(request));
    }
  }

  #timeFor({ kind }: Route): number {
    const generates = kind === 'chat' || kind === 'completions';
    return generates ? this.#deadlines.generationMs : this.#deadlines.answerMs;
  }

  #replyOptions({ socket }: IncomingMessage): ReplyOptions {
    const last =
      this.#draining !== undefined ||
      this.#options.door.isOver(socket as TLSSocket) ||
      this.#evidenced.isOutdated(socket);
    const { deliveryMs, partMs } = this.#deadlines;
    return { last, deliveryMs, partMs };
  }

  async #answer(
    route: Route,
    request: IncomingMessage,
    { caller, work, proceed, wantsReceipt }: Circumstances,
  ): Promise<ApiAnswer> {
    if (route.kind === 'live') return json(200, { live: true });
    if (route.kind === 'ready') return json(this.ready ? 200 : 503, { ready: this.ready });
    if (route.kind === 'evidence') return this.#giveEvidence(request.socket as TLSSocket, route.nonce);
    const models = this.#evidenced.modelsOf(request.socket);
    if (models === undefined) {
      throw new ApiError('EVIDENCE_REQUIRED', 'ask for GET /attestation first, on this very connection');
    }
    if (this.#draining !== undefined && takesBody(route)) {
      throw new ApiError('API_DRAINING', 'this enclave takes no more requests');
    }
    work.use(this.#options.models.hold(models));
    const exchange: Exchange = {
      request,
      caller,
      models,
      signal: work.signal,
      proceed,
      defer: (cleanUp) => work.defer(cleanUp),
      receipt: wantsReceipt ? beginReceipt(this.#options.receipts, request, models) : undefined,
    };
    const answer = isTextRoute(route)
      ? await this.#texts.answer(route, exchange)
      : await this.#tensors.answer(route, exchange);
    return exchange.receipt === undefined ? answer : withReceipt(answer, exchange.receipt);
  }

  async #giveEvidence(socket: TLSSocket, nonce: string | null): Promise<ApiAnswer> {
    const { status, headers, body, models } = await this.#options.evidence.answer(socket, nonce);
    if (models !== undefined) this.#evidenced.gave(socket, models);
    return { status, headers, body: [body] };
  }
}

interface Circumstances {
  readonly caller: Caller;
  readonly work: Work;
  readonly proceed: () => void;
  readonly wantsReceipt: boolean;
}

/** What one request holds while it is at work, and the signal that ends it. */
class Work {
  readonly #held = new DisposableStack();
  readonly #controller = new AbortController();

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  use(resource: Disposable): void {
    this.#held.use(resource);
  }

  /** At once if the work has ended meanwhile. */
  defer(cleanUp: () => void): void {
    if (this.#held.disposed) cleanUp();
    else this.#held.defer(cleanUp);
  }

  limit(timeoutMs: number): void {
    const timer = setTimeout(
      () => this.#controller.abort(new ApiError('API_DEADLINE', 'the answer took too long')),
      timeoutMs,
    );
    this.#held.defer(() => clearTimeout(timer));
  }

  /** `reason` says why, where the work ends before its answer has been sent; nobody listens after that. */
  end(reason: (() => unknown) | undefined): void {
    if (reason !== undefined) this.#controller.abort(reason());
    this.#held.dispose();
  }
}

/** What Node lets pass: RFC 9112 section 3.2 has one Host, and RFC 9110 section 10.1.1 knows one expectation. */
function requirePlainHeaders({ headers, rawHeaders }: IncomingMessage): void {
  // Node keeps the first of several, and shows all of them only here: names and values in turns.
  const hosts = rawHeaders.filter((name, index) => index % 2 === 0 && name.toLowerCase() === 'host');
  if (hosts.length !== 1) throw new ApiError('API_INVALID', 'Host: expected once');
  const { expect } = headers;
  if (expect !== undefined && expect.toLowerCase() !== '100-continue') {
    throw new ApiError('API_INVALID', 'Expect: expected 100-continue, or none');
  }
}

function requireNoBody(request: IncomingMessage): void {
  if (announcesBody(request)) throw new ApiError('API_INVALID', 'body: expected none');
}

function durationClass(durationMs: number): DurationClass {
  if (durationMs < 10) return 'under-10ms';
  if (durationMs < 100) return 'under-100ms';
  if (durationMs < 1_000) return 'under-1s';
  return durationMs < 10_000 ? 'under-10s' : 'longer';
}
