/**
 * Receipts (docs/receipts.md): what an enclave signs about one answer that it gave.
 *
 * The enclave makes a P-256 key when it boots. An attestation document carries it in `public_key`, with claims
 * about the models and the deployment. A receipt is a COSE_Sign1 by that key over two digests, of the request
 * and of the answer, and holds that document: whoever has the receipt can follow the line from the root of the
 * hardware to the answer, without a network and years later. Both digests are salted, and the salt is not in
 * the receipt, so that its reader cannot try short prompts until one fits.
 *
 * This file is what both ends share. encode.ts is the enclave's side and decode.ts the verifier's.
 */
import { createHash, type Hash } from 'node:crypto';
import type { LoadedModel } from '../evidence/evidence.ts';

export const RECEIPT_VERSION = 1;
/** The purpose in the claims of the document that a receipt holds. */
export const RECEIPT_PURPOSE = 'receipt';

/** What a caller sends to get a receipt, and the one value that is known. */
export const RECEIPT_HEADER = 'strongroom-receipt';
export const RECEIPT_HEADER_VALUE = '1';
/** In the answer's headers: 32 bytes in base64url, without padding. The receipt itself is in RECEIPT_HEADER. */
export const RECEIPT_SALT_HEADER = 'strongroom-receipt-salt';
export const FRAMING_HEADER = 'inference-header-content-length';

export const SALT_BYTES = 32;
export const RECEIPT_DIGEST_BYTES = 48;
/** ES256, RFC 9053 2.1: r and s in 32 bytes each. */
export const RECEIPT_SIGNATURE_BYTES = 64;

/** An attestation document of 16,512 bytes, 16 models of at most 147, and room for what surrounds them. */
export const RECEIPT_MAX_BYTES = 20_480;

/** A receipt is dated at most this long after its document; enclaves renew theirs much earlier. */
export const DOCUMENT_LIFE_MS = 60 * 60 * 1000;
/** How far the enclave's clock, carried forward from its last look at the NSM's, may be behind a document's. */
export const CLOCK_TOLERANCE_MS = 60_000;

/**
 * {1: -7, 16: "application/vnd.strongroom.receipt+cose"}: the algorithm is ES256 (RFC 9053 2.1), and the `typ` of
 * RFC 9596 says what is signed, so that no other signature of this key could pass for a receipt.
 */
export const RECEIPT_TYPE = 'application/vnd.strongroom.receipt+cose';
export const RECEIPT_PROTECTED_HEADER: Uint8Array = new Uint8Array([
  ...[0xa2, 0x01, 0x26, 0x10, 0x78, RECEIPT_TYPE.length],
  ...new TextEncoder().encode(RECEIPT_TYPE),
]);

/** What a receipt says. */
export interface ReceiptFields {
  /** Of this receipt among those of its key, from 1 on, without gaps. */
  readonly sequence: number;
  /** When the answer was complete, by the enclave's clock: milliseconds since 1970. */
  readonly timestampMs: number;
  /** The name of the model that answered; one of `models`. */
  readonly model: string;
  /** The models that the caller's evidence named, in canonical order (docs/evidence.md section 3). */
  readonly models: readonly LoadedModel[];
  /** 48 bytes each: `RequestDigest` and `AnswerDigest`. */
  readonly requestDigest: Uint8Array;
  readonly answerDigest: Uint8Array;
  /** The attestation document that vouches for the key, as the NSM made it. */
  readonly document: Uint8Array;
}

export function modelThatAnswered({ model, models }: ReceiptFields): LoadedModel {
  return models.find(({ name }) => name === model) as LoadedModel;
}

/** A receipt's integers go further than dates do. */
export function dated(timestampMs: number): string {
  const date = new Date(timestampMs);
  return Number.isNaN(date.getTime()) ? `${timestampMs} ms` : date.toISOString();
}

/** What stands before a request's body and says how it is read. */
export interface RequestHead {
  readonly method: string;
  /** The request target as sent: path and query. */
  readonly target: string;
  readonly contentType: string | undefined;
  /** The header `Inference-Header-Content-Length` (docs/serving.md section 3). */
  readonly framing: string | undefined;
}

export interface AnswerHead {
  readonly status: number;
  readonly contentType: string | undefined;
  readonly framing: string | undefined;
}

const REQUEST_DOMAIN = 'strongroom-receipt-request-v1';
const ANSWER_DOMAIN = 'strongroom-receipt-answer-v1';

/** SHA-384 of domain, salt, method, target, media type and framing, each with its length in front, then the body. */
export function requestDigest(salt: Uint8Array, head: RequestHead): Hash {
  return digestOf(REQUEST_DOMAIN, salt, [
    head.method,
    head.target,
    mediaType(head.contentType),
    head.framing ?? '',
  ]);
}

/** The same of domain, salt, status in decimal digits, media type and framing, then the body as it was sent. */
export function answerDigest(salt: Uint8Array, head: AnswerHead): Hash {
  return digestOf(ANSWER_DOMAIN, salt, [
    String(head.status),
    mediaType(head.contentType),
    head.framing ?? '',
  ]);
}

/** Lengths are 8 bytes, big-endian. The body comes last and needs none, so it can be hashed as it passes. */
function digestOf(domain: string, salt: Uint8Array, texts: readonly string[]): Hash {
  const hash = createHash('sha384');
  const encoder = new TextEncoder();
  for (const part of [encoder.encode(domain), salt, ...texts.map((text) => encoder.encode(text))]) {
    const length = Buffer.alloc(8);
    length.writeBigUInt64BE(BigInt(part.length));
    hash.update(length).update(part);
  }
  return hash;
}

/** Type and subtype in lower case, which is all that the enclave goes by; its parameters are left out. */
function mediaType(contentType: string | undefined): string {
  return (contentType ?? '').split(';', 1)[0]?.trim().toLowerCase() ?? '';
}

/** A stream ends with its receipt in a comment, which every reader of event streams skips (WHATWG HTML 9.2.6). */
export const STREAM_COMMENT = ': strongroom-receipt ';

export function streamEnding(receipt: Uint8Array): Uint8Array {
  return Buffer.from(`${STREAM_COMMENT}${Buffer.from(receipt).toString('base64url')}\n\n`, 'latin1');
}

export const STREAM_ENDING_MAX_BYTES = STREAM_COMMENT.length + Math.ceil((RECEIPT_MAX_BYTES * 4) / 3) + 2;
