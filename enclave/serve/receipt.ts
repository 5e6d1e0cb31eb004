/** Receipts in HTTP: who asks for one, and where an answer has it (docs/receipts.md section 1). */
import type { IncomingMessage } from 'node:http';
import {
  FRAMING_HEADER,
  RECEIPT_HEADER,
  RECEIPT_HEADER_VALUE,
  RECEIPT_SALT_HEADER,
  streamEnding,
} from '../../shared/receipt/receipt.ts';
import type { ModelSet, ServedModel } from '../models/model-set.ts';
import type { PendingReceipt, ReceiptIssuer } from '../receipts.ts';
import { ApiError, invalid } from './errors.ts';
import type { ApiAnswer } from './exchange.ts';
import { DONE } from './openai/event-stream.ts';
import { type Route, takesBody } from './routes.ts';

/** Throws ApiError API_INVALID for a value that is not known, and where no model answers. */
export function asksForReceipt(request: IncomingMessage, route: Route): boolean {
  const value = request.headers[RECEIPT_HEADER];
  if (value === undefined) return false;
  if (value !== RECEIPT_HEADER_VALUE) throw invalid('Strongroom-Receipt', `expected ${RECEIPT_HEADER_VALUE}`);
  if (!takesBody(route)) throw invalid('Strongroom-Receipt', 'this path gives no receipts');
  return true;
}

export function beginReceipt(
  issuer: ReceiptIssuer,
  request: IncomingMessage,
  { models }: ModelSet,
): PendingReceipt {
  return issuer.begin(models, {
    method: request.method ?? '',
    target: request.url ?? '',
    contentType: request.headers['content-type'],
    framing: request.headers[FRAMING_HEADER]?.toString(),
  });
}

/** Before the model computes anything. Rejects with ApiError RECEIPT_UNAVAILABLE. */
export async function vouchFor(receipt: PendingReceipt, { name }: ServedModel): Promise<void> {
  try {
    await receipt.vouch(name);
  } catch {
    throw new ApiError('RECEIPT_UNAVAILABLE', 'receipts are not available at the moment');
  }
}

/** The same answer, with its receipt in the headers, or, if it is still being made, at its end. */
export function withReceipt(answer: ApiAnswer, receipt: PendingReceipt): ApiAnswer {
  const { status, headers, body } = answer;
  receipt.beginAnswer({ status, contentType: headers['content-type'], framing: headers[FRAMING_HEADER] });
  const salted = { ...headers, [RECEIPT_SALT_HEADER]: Buffer.from(receipt.salt).toString('base64url') };
  if (Symbol.asyncIterator in body) return { status, headers: salted, body: ended(body, receipt) };
  for (const part of body) receipt.readAnswer(part);
  const inHeader = Buffer.from(receipt.finish()).toString('base64url');
  return { status, headers: { ...salted, [RECEIPT_HEADER]: inHeader }, body };
}

/** A stream that ended with anything but its last event is not complete, and gets no receipt. */
async function* ended(
  parts: AsyncIterable<Uint8Array>,
  receipt: PendingReceipt,
): AsyncGenerator<Uint8Array, void, undefined> {
  let last: Uint8Array | undefined;
  for await (const part of parts) {
    receipt.readAnswer(part);
    yield part;
    last = part;
  }
  if (last === DONE) yield streamEnding(receipt.finish());
}
