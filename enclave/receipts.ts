/**
 * Issues receipts (docs/receipts.md): one signed statement for an answer whose caller asked for it.
 *
 * The key is made here, when the enclave boots, and never leaves; its public half is in every attestation
 * document for callers. The document that receipts hold is made for them alone, so that no caller's session shows
 * in another's hands. It covers one list of models, is renewed while receipts are asked for, and costs the NSM
 * one request in ten minutes for each list, however many receipts are issued.
 */
import { generateKeyPairSync, type Hash, type KeyObject, randomFillSync } from 'node:crypto';
import { type LoadedModel, modelsDigest } from '../shared/evidence/evidence.ts';
import { encodeReceiptClaims, signReceipt } from '../shared/receipt/encode.ts';
import {
  type AnswerHead,
  answerDigest,
  type ReceiptFields,
  type RequestHead,
  requestDigest,
  SALT_BYTES,
} from '../shared/receipt/receipt.ts';

export interface ReceiptSource {
  readonly nsm: {
    attest(fields: {
      readonly userData: Uint8Array | null;
      readonly nonce: Uint8Array | null;
      readonly publicKey: Uint8Array | null;
    }): Promise<Uint8Array>;
  };
  /** SHA-384 of the measured deployment document. */
  readonly deploymentSha384: Uint8Array;
  /** Enclave time. */
  readonly now: () => Date;
}

/** A document is used for this long, an answer has minutes, and a verifier allows an hour (DOCUMENT_LIFE_MS). */
const RENEW_AFTER_MS = 10 * 60 * 1000;
/** Lists of models that have a document at once: the one that is served, and those that a replacement left. */
const DOCUMENTS_MAX = 4;

interface HeldDocument {
  readonly document: Promise<Uint8Array>;
  readonly askedAtMs: number;
}

export class ReceiptIssuer {
  readonly #source: ReceiptSource;
  readonly #privateKey: KeyObject;
  /** SubjectPublicKeyInfo in DER: the `public_key` of attestation documents. */
  readonly publicKey: Uint8Array;
  /** By the digest of the models that they cover, the one that was used last at the end. */
  readonly #documents = new Map<string, HeldDocument>();
  #issued = 0;

  constructor(source: ReceiptSource) {
    this.#source = source;
    const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'prime256v1' });
    this.#privateKey = privateKey;
    this.publicKey = new Uint8Array(publicKey.export({ type: 'spki', format: 'der' }));
  }

  /** For one request. `models` are those of its connection's evidence. */
  begin(models: readonly LoadedModel[], head: RequestHead): PendingReceipt {
    return new PendingReceipt(
      head,
      () => this.#documentFor(models),
      (signed) => {
        this.#issued += 1;
        const timestampMs = this.#source.now().getTime();
        return signReceipt({ sequence: this.#issued, timestampMs, models, ...signed }, this.#privateKey);
      },
    );
  }

  /** Asks the NSM once for each list of models and each RENEW_AFTER_MS, however many wait for it. */
  #documentFor(models: readonly LoadedModel[]): Promise<Uint8Array> {
    const covered = Buffer.from(modelsDigest(models)).toString('hex');
    const nowMs = this.#source.now().getTime();
    const held = this.#documents.get(covered);
    this.#documents.delete(covered);
    const fresh =
      held !== undefined && Math.abs(nowMs - held.askedAtMs) < RENEW_AFTER_MS
        ? held
        : { document: this.#attest(models, covered), askedAtMs: nowMs };
    this.#documents.set(covered, fresh);
    for (const [oldest] of this.#documents) {
      if (this.#documents.size <= DOCUMENTS_MAX) break;
      this.#documents.delete(oldest);
    }
    return fresh.document;
  }

  async #attest(models: readonly LoadedModel[], covered: string): Promise<Uint8Array> {
    try {
      const userData = encodeReceiptClaims(models, this.#source.deploymentSha384);
      return await this.#source.nsm.attest({ userData, nonce: null, publicKey: this.publicKey });
    } catch (error) {
      this.#documents.delete(covered);
      throw error;
    }
  }
}

type Signed = Pick<ReceiptFields, 'model' | 'document' | 'requestDigest' | 'answerDigest'>;

/** The receipt of one exchange, from the first byte of the request's body to the last of the answer's. */
export class PendingReceipt {
  /** For the caller, beside the receipt and never in it. */
  readonly salt: Uint8Array = randomFillSync(new Uint8Array(SALT_BYTES));
  readonly #getDocument: () => Promise<Uint8Array>;
  readonly #sign: (signed: Signed) => Uint8Array;
  readonly #request: Hash;
  #vouched: Omit<Signed, 'answerDigest'> | undefined;
  #answer: Hash | undefined;

  constructor(
    head: RequestHead,
    getDocument: () => Promise<Uint8Array>,
    sign: (signed: Signed) => Uint8Array,
  ) {
    this.#getDocument = getDocument;
    this.#sign = sign;
    this.#request = requestDigest(this.salt, head);
  }

  /** Every byte of the request's body, in order, as it is received. */
  readRequest(bytes: Uint8Array): void {
    this.#request.update(bytes);
  }

  /**
   * Once, when the request was read whole and before `model` computes anything: nothing is computed for which there
   * would be no receipt. Rejects with what the NSM does.
   */
  async vouch(model: string): Promise<void> {
    const digest = this.#request.digest();
    this.#vouched = { model, document: await this.#getDocument(), requestDigest: digest };
  }

  /** Once, before the first byte of the answer. */
  beginAnswer(head: AnswerHead): void {
    if (this.#answer !== undefined) throw new TypeError('The answer has begun.');
    this.#answer = answerDigest(this.salt, head);
  }

  /** Every byte of the answer's body, in order, as it is sent. */
  readAnswer(bytes: Uint8Array): void {
    this.#begun().update(bytes);
  }

  /** The receipt, once the answer is complete. An answer that was cut short never gets here. */
  finish(): Uint8Array {
    if (this.#vouched === undefined) throw new TypeError('No model was asked.');
    return this.#sign({ ...this.#vouched, answerDigest: this.#begun().digest() });
  }

  #begun(): Hash {
    if (this.#answer === undefined) throw new TypeError('The answer has not begun.');
    return this.#answer;
  }
}
