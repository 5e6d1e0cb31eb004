/**
 * Is a receipt genuine, of the enclave that was wanted, and of this exchange? (docs/receipts.md sections 5 to 7.)
 * Time, anchors and expectations are arguments. The line goes from the root to the document, from the document to
 * its key, and from the key to the receipt; nothing in the receipt is believed before.
 */
import { verify } from 'node:crypto';
import type { Trust, TrustAnchor } from '../attestation/anchors.ts';
import { AttestationError } from '../attestation/errors.ts';
import { expectAttestation, isDebugImage, type PcrExpectations } from '../attestation/expect.ts';
import { parseAttestationDocument } from '../attestation/parse.ts';
import { type VerifiedDocument, verifyAttestationDocument } from '../attestation/verify.ts';
import { type LoadedModel, modelsDigest } from '../evidence/evidence.ts';
import { DEPLOYMENT_PCR, extendPcr, zeroPcr } from '../pcr.ts';
import type { NoteReceiptPassed } from './checks.ts';
import { decodeReceiptClaims, type ReceiptClaims, UnverifiedReceipt } from './decode.ts';
import { receiptToBeSigned } from './encode.ts';
import { ReceiptError } from './errors.ts';
import { readReceiptKey } from './key.ts';
import {
  type AnswerHead,
  answerDigest,
  CLOCK_TOLERANCE_MS,
  DOCUMENT_LIFE_MS,
  dated,
  modelThatAnswered,
  type ReceiptFields,
  type RequestHead,
  requestDigest,
  SALT_BYTES,
} from './receipt.ts';

const verifiedHere = Symbol('verified in this module');

/** A receipt that a genuine enclave signed. It may still be another enclave than the wanted one. */
export class VerifiedReceipt {
  readonly #verified = true;
  readonly fields: ReceiptFields;
  readonly trust: Trust;
  readonly document: VerifiedDocument;
  /** SHA-384 of the deployment document. */
  readonly deploymentSha384: Uint8Array;
  /** SubjectPublicKeyInfo in DER of the key that signed it; the evidence of a connection names the same. */
  readonly key: Uint8Array;

  constructor(
    token: typeof verifiedHere,
    fields: ReceiptFields,
    document: VerifiedDocument,
    deploymentSha384: Uint8Array,
    key: Uint8Array,
  ) {
    if (token !== verifiedHere) throw new TypeError('Use verifyReceipt.');
    this.fields = fields;
    this.trust = document.trust;
    this.document = document;
    this.deploymentSha384 = deploymentSha384;
    this.key = key;
    Object.freeze(this);
  }

  static isGenuine(value: unknown): value is VerifiedReceipt {
    return typeof value === 'object' && value !== null && #verified in value && value.#verified;
  }

  /** The model that answered. */
  get model(): LoadedModel {
    return modelThatAnswered(this.fields);
  }
}

export interface ReceiptVerificationOptions {
  /** Whom to trust. An empty list trusts nobody. */
  readonly anchors: readonly TrustAnchor[];
  /**
   * When the certificates must be valid; the receipt may not be dated later. `document` takes the document's own
   * time: it was genuine when it was made, which is at most an hour before the receipt.
   */
  readonly at: Date | 'document';
}

/** Throws ReceiptError, AttestationError or CodecError; the code names the rule that failed. */
export function verifyReceipt(
  receipt: UnverifiedReceipt,
  { anchors, at }: ReceiptVerificationOptions,
  note?: NoteReceiptPassed,
): VerifiedReceipt {
  if (!UnverifiedReceipt.isGenuine(receipt)) {
    throw new ReceiptError('RECEIPT_NOT_VERIFIED', 'Expected a receipt from parseReceipt.');
  }
  const fields = receipt.untrusted;
  const parsed = parseAttestationDocument(fields.document);
  const { timestampMs, moduleId } = parsed.untrusted;
  note?.('document', `of ${moduleId}`);
  const judgedAt = at === 'document' ? new Date(timestampMs) : at;
  const document = verifyAttestationDocument(parsed, { anchors, at: judgedAt });
  note?.('document-genuine', `${document.trust}, at ${judgedAt.toISOString()}`);
  const claims = decodeReceiptClaims(document.fields.userData);
  note?.('claims', 'purpose "receipt"');
  checkDeployment(document, claims);
  note?.('deployment', hex(claims.deployment));
  const { publicKey } = document.fields;
  const key = readReceiptKey(publicKey);
  if (key === undefined || publicKey === null) {
    throw new ReceiptError('RECEIPT_KEY', 'Expected public_key to be a P-256 key in its one DER form.');
  }
  note?.('key', 'P-256');
  const signed = receiptToBeSigned(receipt.payload);
  if (!verify('sha256', signed, { key, dsaEncoding: 'ieee-p1363' }, receipt.signature)) {
    throw new ReceiptError('RECEIPT_SIGNATURE', 'The signature is not by the key of its document.');
  }
  note?.('signature', 'ES256');
  if (!same(modelsDigest(fields.models), claims.models)) {
    throw new ReceiptError('RECEIPT_MODELS', 'Expected the models that the document covers, found others.');
  }
  note?.('models', fields.models.map(({ name, version }) => `${name} ${version}`).join(', '));
  checkTime(fields, timestampMs, at);
  note?.('time', dated(fields.timestampMs));
  // No expectation can make up for it: in debug mode the parent reads the enclave's memory, its keys included.
  if (isDebugImage(document.fields)) {
    throw new AttestationError('ATTESTATION_DEBUG_IMAGE', 'PCR0, PCR1 or PCR2 is all zero');
  }
  note?.('not-debug', 'PCR0, PCR1 and PCR2 are measured');
  return new VerifiedReceipt(verifiedHere, fields, document, claims.deployment, publicKey);
}

/** PCR16 is extended once, from zero, with the digest of the deployment (docs/deployment.md). */
function checkDeployment({ fields }: VerifiedDocument, { deployment }: ReceiptClaims): void {
  const measured = fields.pcrs.get(DEPLOYMENT_PCR);
  if (measured !== undefined && same(extendPcr(zeroPcr(), deployment), measured)) return;
  throw new ReceiptError(
    'RECEIPT_DEPLOYMENT',
    `Expected PCR16 to be the measurement of deployment ${hex(deployment)}, found ${measured === undefined ? 'no PCR16' : hex(measured)}.`,
  );
}

function checkTime({ timestampMs }: ReceiptFields, documentMs: number, at: Date | 'document'): void {
  const afterMs = timestampMs - documentMs;
  if (afterMs < -CLOCK_TOLERANCE_MS || afterMs > DOCUMENT_LIFE_MS) {
    throw new ReceiptError(
      'RECEIPT_TIME',
      `Expected a receipt of at most ${DOCUMENT_LIFE_MS / 60_000} minutes after its document, found ${afterMs} ms.`,
    );
  }
  if (at !== 'document' && timestampMs > at.getTime() + CLOCK_TOLERANCE_MS) {
    throw new ReceiptError(
      'RECEIPT_TIME',
      `Expected a receipt of before ${at.toISOString()}, found ${dated(timestampMs)}.`,
    );
  }
}

export interface ReceiptExpectations {
  readonly pcrs: PcrExpectations;
  /** The model that answered must be one of these, if any are given. */
  readonly models: readonly {
    readonly name: string;
    readonly minimumVersion?: number;
    readonly contentId?: string;
  }[];
}

/** Is it of the enclave that was wanted? Throws AttestationError or ReceiptError `RECEIPT_MODEL_UNEXPECTED`. */
export function expectReceipt(
  receipt: VerifiedReceipt,
  { pcrs, models }: ReceiptExpectations,
  note?: NoteReceiptPassed,
): void {
  requireVerified(receipt);
  const at = new Date(receipt.document.fields.timestampMs);
  expectAttestation(receipt.document, { pcrs, nonce: 'any', maxAgeMs: 'any', at });
  note?.(
    'pcrs',
    Object.entries(pcrs)
      .map(([index, value]) => `PCR${index}${value === 'any' ? ' any' : ''}`)
      .join(', '),
  );
  const { name, version, contentId } = receipt.model;
  const wanted = models.find((model) => model.name === name);
  const satisfied =
    models.length === 0 ||
    (wanted !== undefined &&
      version >= (wanted.minimumVersion ?? 1) &&
      (wanted.contentId === undefined || wanted.contentId === contentId));
  if (!satisfied) {
    throw new ReceiptError(
      'RECEIPT_MODEL_UNEXPECTED',
      `Expected an answer of ${JSON.stringify(models)}, found ${JSON.stringify(receipt.model)}.`,
    );
  }
  note?.('model', `${name} ${version}${models.length === 0 ? ' (any)' : ''}`);
}

/** Is it of this request? `body` is what was sent, as one or more pieces. Throws ReceiptError. */
export function expectRequest(
  receipt: VerifiedReceipt,
  salt: Uint8Array,
  head: RequestHead,
  body: Iterable<Uint8Array>,
  note?: NoteReceiptPassed,
): void {
  requireVerified(receipt);
  const hash = requestDigest(checkedSalt(salt), head);
  for (const piece of body) hash.update(piece);
  if (!same(hash.digest(), receipt.fields.requestDigest)) {
    throw new ReceiptError('RECEIPT_OTHER_REQUEST', `${head.method} ${head.target}: the digest is another.`);
  }
  note?.('request', `${head.method} ${head.target}`);
}

/** Is it of this answer? `body` is what was received, without a stream's receipt. Throws ReceiptError. */
export function expectAnswer(
  receipt: VerifiedReceipt,
  salt: Uint8Array,
  head: AnswerHead,
  body: Iterable<Uint8Array>,
  note?: NoteReceiptPassed,
): void {
  requireVerified(receipt);
  const hash = answerDigest(checkedSalt(salt), head);
  for (const piece of body) hash.update(piece);
  expectAnswerDigest(receipt, hash.digest(), note);
}

/** The same for an answer that was hashed as it passed. */
export function expectAnswerDigest(
  receipt: VerifiedReceipt,
  digest: Uint8Array,
  note?: NoteReceiptPassed,
): void {
  requireVerified(receipt);
  if (!same(digest, receipt.fields.answerDigest)) {
    throw new ReceiptError('RECEIPT_OTHER_ANSWER', 'The digest of the answer is another.');
  }
  note?.('answer', 'digest is the same');
}

/** Reads the header that carries it. Throws ReceiptError `RECEIPT_SALT`. */
export function parseSalt(text: string | null | undefined): Uint8Array {
  const salt = Buffer.from(text ?? '', 'base64url');
  if (salt.length === SALT_BYTES && salt.toString('base64url') === text) return salt;
  throw new ReceiptError('RECEIPT_SALT', `Expected ${SALT_BYTES} bytes in base64url without padding.`);
}

function checkedSalt(salt: Uint8Array): Uint8Array {
  if (salt.length === SALT_BYTES) return salt;
  throw new ReceiptError('RECEIPT_SALT', `Expected ${SALT_BYTES} bytes, found ${salt.length}.`);
}

function requireVerified(receipt: VerifiedReceipt): void {
  if (VerifiedReceipt.isGenuine(receipt)) return;
  throw new ReceiptError('RECEIPT_NOT_VERIFIED', 'Expected a receipt from verifyReceipt.');
}

/** These values are public; comparing them needs no constant time. */
function same(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}
