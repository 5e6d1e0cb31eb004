/**
 * Receipts for the requests of this client (docs/receipts.md section 8): asks for them, hashes what is sent and what
 * comes back, and checks each receipt as whoever gets it later will.
 */
import type { Trust } from '../shared/attestation/anchors.ts';
import type { LoadedModel } from '../shared/evidence/evidence.ts';
import { parseReceipt, readStreamEnding } from '../shared/receipt/decode.ts';
import { ReceiptError } from '../shared/receipt/errors.ts';
import {
  answerDigest,
  FRAMING_HEADER,
  RECEIPT_HEADER,
  RECEIPT_HEADER_VALUE,
  RECEIPT_SALT_HEADER,
  STREAM_ENDING_MAX_BYTES,
} from '../shared/receipt/receipt.ts';
import {
  expectAnswerDigest,
  expectReceipt,
  expectRequest,
  parseSalt,
  type VerifiedReceipt,
  verifyReceipt,
} from '../shared/receipt/verify.ts';
import { type CheckedExpectations, type ClientExpectations, checkExpectations } from './expectations.ts';

/** A receipt that was checked against the request that was sent and the answer that came. */
export interface AnswerReceipt {
  /** As the enclave gave it: to keep, and to show to others. */
  readonly receipt: Uint8Array;
  /** To keep with request and answer. Whoever has it and the receipt can try out what short prompts were. */
  readonly salt: Uint8Array;
  readonly trust: Trust;
  /** The model that answered. */
  readonly model: LoadedModel;
  /** When the answer was complete, by the enclave's clock. */
  readonly answeredAt: Date;
  readonly sequence: number;
}

/** A verified enclave, as far as receipts go. */
export interface ReceiptGiver {
  readonly fetch: typeof globalThis.fetch;
  /** Whether evidence that was verified named this key for receipts. */
  hasReceiptKey(spki: Uint8Array): boolean;
}

const receipts = new WeakMap<Response, Promise<AnswerReceipt>>();
/** `fetch` takes a path for a URL, a `Request` does not. */
const ANY_ORIGIN = 'https://enclave.invalid';

/**
 * A `fetch` that asks for a receipt with every POST; `receiptOf` has it once the body of the answer was read to its
 * end. The expectations are those that the enclave was verified with. The request's body is held in memory.
 */
export function withReceipts(
  enclave: ReceiptGiver,
  expectations: ClientExpectations,
): typeof globalThis.fetch {
  const expected = checkExpectations(expectations);
  return async (input, init) => {
    const given = new Request(typeof input === 'string' ? new URL(input, ANY_ORIGIN) : input, init);
    if (given.method !== 'POST') return enclave.fetch(input, init);
    const body = new Uint8Array(await given.arrayBuffer());
    const headers = new Headers(given.headers);
    headers.set(RECEIPT_HEADER, RECEIPT_HEADER_VALUE);
    const { method, signal, redirect } = given;
    const url = new URL(given.url);
    const target = `${url.pathname}${url.search}`;
    const response = await enclave.fetch(url.origin === ANY_ORIGIN ? target : url, {
      method,
      headers,
      body,
      signal,
      redirect,
    });
    const head = {
      method,
      target,
      contentType: headers.get('content-type') ?? undefined,
      framing: headers.get(FRAMING_HEADER) ?? undefined,
    };
    return watched(response, (bytes, salt, digest) => {
      const receipt = verified(bytes, enclave, expected);
      expectRequest(receipt, salt, head, [body]);
      expectAnswerDigest(receipt, digest);
      return described(bytes, salt, receipt);
    });
  };
}

type CheckReceipt = (bytes: Uint8Array, salt: Uint8Array, answerDigest: Uint8Array) => AnswerReceipt;

/** The same response, with its receipt checked once its body has passed. */
function watched(response: Response, check: CheckReceipt): Response {
  const { promise, resolve, reject } = Promise.withResolvers<AnswerReceipt>();
  // Whoever never asks for the receipt is not to be stopped by one that is missing.
  promise.catch(() => {});
  const { ok, status, statusText, headers, body } = response;
  const salt = headers.get(RECEIPT_SALT_HEADER);
  if (!ok || salt === null || body === null) {
    reject(missing(`the answer has the status ${status} and names none`));
    receipts.set(response, promise);
    return response;
  }
  const finish = (hash: AnswerHash, saltBytes: Uint8Array): void => {
    try {
      const { digest, receipt: ofStream } = hash.finish();
      const inHead = headers.get(RECEIPT_HEADER);
      const bytes = inHead === null ? ofStream : Buffer.from(inHead, 'base64url');
      if (bytes === undefined) throw missing('the answer ended without one');
      resolve(check(bytes, saltBytes, digest));
    } catch (error) {
      reject(error);
    }
  };
  let passed = response;
  try {
    const saltBytes = parseSalt(salt);
    const hash = new AnswerHash(saltBytes, response);
    const hashed = hashing(body, hash, () => finish(hash, saltBytes), reject);
    passed = new Response(hashed, { status, statusText, headers });
  } catch (error) {
    reject(error);
  }
  receipts.set(passed, promise);
  return passed;
}

/**
 * The receipt of an answer that a `fetch` of `withReceipts` gave, once its body was read to the end. Rejects with
 * ReceiptError, AttestationError or CodecError: `RECEIPT_MISSING` if the answer was cut short or not read whole.
 */
export function receiptOf(response: Response): Promise<AnswerReceipt> {
  return (
    receipts.get(response) ??
    Promise.reject(missing('this answer is not one that a fetch of withReceipts gave'))
  );
}

function verified(bytes: Uint8Array, enclave: ReceiptGiver, expected: CheckedExpectations): VerifiedReceipt {
  const receipt = verifyReceipt(parseReceipt(bytes), { anchors: expected.anchors, at: 'document' });
  if (!enclave.hasReceiptKey(receipt.key)) {
    throw new ReceiptError('RECEIPT_OTHER_KEY', 'Expected the key that the evidence named, found another.');
  }
  // Which models may answer is the caller's to say in the request; they all were in the evidence.
  expectReceipt(receipt, { pcrs: expected.pcrs, models: [] });
  return receipt;
}

function described(bytes: Uint8Array, salt: Uint8Array, receipt: VerifiedReceipt): AnswerReceipt {
  const { trust, model, fields } = receipt;
  return Object.freeze({
    receipt: Uint8Array.from(bytes),
    salt: Uint8Array.from(salt),
    trust,
    model,
    answeredAt: new Date(fields.timestampMs),
    sequence: fields.sequence,
  });
}

/** Hashes the answer's body, but for the receipt with which a stream ends: as much as one can have is held back. */
class AnswerHash {
  readonly #hash: ReturnType<typeof answerDigest>;
  readonly #isStream: boolean;
  #tail = Buffer.alloc(0);

  constructor(salt: Uint8Array, { status, headers }: Response) {
    this.#isStream = !headers.has(RECEIPT_HEADER);
    this.#hash = answerDigest(salt, {
      status,
      contentType: headers.get('content-type') ?? undefined,
      framing: headers.get(FRAMING_HEADER) ?? undefined,
    });
  }

  update(chunk: Uint8Array): void {
    if (!this.#isStream) {
      this.#hash.update(chunk);
      return;
    }
    const held = Buffer.concat([this.#tail, chunk]);
    const settled = Math.max(0, held.length - HELD_BACK_BYTES);
    this.#hash.update(held.subarray(0, settled));
    this.#tail = held.subarray(settled);
  }

  /** Whether what is held back has the last event of a stream. */
  get hasLastEvent(): boolean {
    return this.#tail.includes(LAST_EVENT);
  }

  finish(): { readonly digest: Uint8Array; readonly receipt: Uint8Array | undefined } {
    const ending = this.#isStream ? readStreamEnding(this.#tail) : undefined;
    this.#hash.update(this.#tail.subarray(0, this.#tail.length - (ending?.endingBytes ?? 0)));
    return { digest: this.#hash.digest(), receipt: ending?.receipt };
  }
}

/** No event before it can hold these bytes: they are JSON, which has no line breaks. */
const LAST_EVENT = 'data: [DONE]\n\n';
/** The ending, and the end of the block before it. */
const HELD_BACK_BYTES = STREAM_ENDING_MAX_BYTES + 2;

/** The same bytes at the same pace; `finish` is told once all have passed. */
function hashing(
  body: ReadableStream<Uint8Array>,
  hash: AnswerHash,
  finish: () => void,
  fail: (error: unknown) => void,
): ReadableStream<Uint8Array> {
  const reader = body.getReader();
  return new ReadableStream(
    {
      async pull(controller) {
        try {
          const { done, value } = await reader.read();
          if (!done) {
            hash.update(value);
            controller.enqueue(value);
            return;
          }
          finish();
          controller.close();
        } catch (error) {
          fail(missing('the answer broke off', error));
          throw error;
        }
      },
      async cancel(reason) {
        try {
          // OpenAI's client reads no further than the last event, and the receipt comes after it.
          if (!hash.hasLastEvent) throw missing('the answer was not read to its end');
          await readRest(reader, hash);
          finish();
        } catch (error) {
          fail(error);
          // A stream that broke off has nothing to cancel, and whoever leaves has no use for the reason.
          await reader.cancel(reason).catch(() => {});
        }
      },
    },
    { highWaterMark: 0 },
  );
}

/** What can follow the last event: its receipt, and no more. */
async function readRest(reader: ReadableStreamDefaultReader<Uint8Array>, hash: AnswerHash): Promise<void> {
  let leftBytes = STREAM_ENDING_MAX_BYTES;
  for (;;) {
    const { done, value } = await reader.read().catch((cause: unknown) => {
      throw missing('the answer broke off', cause);
    });
    if (done) return;
    leftBytes -= value.length;
    if (leftBytes < 0) throw missing('more than a receipt follows the last event');
    hash.update(value);
  }
}

function missing(why: string, cause?: unknown): ReceiptError {
  return new ReceiptError('RECEIPT_MISSING', `There is no receipt: ${why}.`, cause);
}
