/** What every inference needs first: its model, its body, its turn. */
import type { ServedModel } from '../models/model-set.ts';
import { Admission, BodyBudget, type HeldBytes } from './admission.ts';
import { announcedSize, type BodyRules, readBody } from './body.ts';
import { ApiError } from './errors.ts';
import type { Exchange } from './exchange.ts';
import type { ApiLimits, Deadlines } from './limits.ts';
import { vouchFor } from './receipt.ts';

/** One request at work and one ready to follow, so that a tensor engine never waits for a body to be parsed. */
const TENSOR_PLACES = 2;
/** All bodies together take at most as much memory as this many of the largest size. */
const BUFFERED_REQUESTS = 16;

export class Intake {
  readonly #queueLength: number;
  readonly #waitMs: number;
  readonly #bodyRules: BodyRules;
  readonly #budget: BodyBudget;
  /** A model keeps its queue for as long as it is served, whichever sets it is in. */
  readonly #admissions = new WeakMap<ServedModel, Admission>();

  constructor(limits: ApiLimits, deadlines: Deadlines) {
    this.#queueLength = limits.queueLength;
    this.#waitMs = deadlines.answerMs;
    this.#bodyRules = {
      limitBytes: limits.requestBytes,
      windowMs: deadlines.bodyWindowMs,
      bytesPerSecond: deadlines.bodyBytesPerSecond,
    };
    this.#budget = new BodyBudget(limits.requestBytes * BUFFERED_REQUESTS);
  }

  /** Memory for a body, to be disposed when nothing of it is needed any more. */
  openBody(): HeldBytes & Disposable {
    return this.#budget.open();
  }

  /** Rejects with ApiError: API_MEDIA_TYPE and API_TOO_LARGE before anything is read, or as `readBody` says. */
  async readBody(
    { request, proceed, receipt }: Exchange,
    contentType: 'application/json' | 'application/octet-stream',
    held: HeldBytes,
  ): Promise<Uint8Array> {
    const type = request.headers['content-type']?.split(';', 1)[0]?.trim().toLowerCase();
    if (type !== contentType) throw new ApiError('API_MEDIA_TYPE', `Content-Type: expected ${contentType}`);
    const sizeBytes = announcedSize(request, this.#bodyRules.limitBytes);
    proceed();
    return readBody(request, sizeBytes, held, this.#bodyRules, (piece) => receipt?.readRequest(piece));
  }

  /**
   * A place at the model's engine. Rejects with ApiError API_OVERLOADED, API_DEADLINE or RECEIPT_UNAVAILABLE, or the
   * signal's reason.
   */
  async enter(model: ServedModel, { caller, signal, receipt }: Exchange): Promise<Disposable> {
    if (receipt !== undefined) await vouchFor(receipt, model);
    return this.#admissionOf(model).enter(caller.key, signal);
  }

  #admissionOf(model: ServedModel): Admission {
    let admission = this.#admissions.get(model);
    if (admission === undefined) {
      const places = model.engine.kind === 'text' ? model.engine.metadata.sequences : TENSOR_PLACES;
      admission = new Admission(places, { queueLength: this.#queueLength, waitMs: this.#waitMs });
      this.#admissions.set(model, admission);
    }
    return admission;
  }
}
