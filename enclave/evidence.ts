/**
 * Answers `GET /attestation` (docs/evidence.md section 4): evidence for one TLS connection.
 *
 * Every answer costs a request to the NSM, which serves one at a time and which the boot and the clock need
 * too. So requests are limited per connection and overall before they are queued, the queue is short, and one
 * whose caller has gone is dropped. What goes wrong inside is told inside; the caller learns only whether to
 * try again.
 */
import type { TLSSocket } from 'node:tls';
import { encodeEvidenceClaims, encodeEvidenceResponse, parseNonce } from '../shared/evidence/encode.ts';
import {
  EXPORTER_BYTES,
  EXPORTER_LABEL,
  type LoadedModel,
  modelsDigest,
  TLS_PURPOSE,
} from '../shared/evidence/evidence.ts';
import { TokenBucket, type TokenBucketLimits } from './token-bucket.ts';

/** What evidence says of models; whoever serves them has more. */
interface Models {
  readonly models: readonly LoadedModel[];
}

export interface EvidenceAnswer<Set> {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array;
  /** What the evidence names, if it was given: the connection is served by these and no others from now on. */
  readonly models?: Set;
}

export interface EvidenceIssuer<Set = Models> {
  /** Never rejects. `nonceText` is the query's `nonce` as it stands, null if there is not exactly one. */
  answer(socket: TLSSocket, nonceText: string | null): Promise<EvidenceAnswer<Set>>;
}

export interface EvidenceSource<Set extends Models = Models> {
  readonly nsm: {
    attest(fields: {
      readonly userData: Uint8Array | null;
      readonly nonce: Uint8Array | null;
      readonly publicKey: Uint8Array | null;
    }): Promise<Uint8Array>;
  };
  /** SHA-256 of the public key of the certificate that the server presents. */
  readonly spkiSha256: Uint8Array;
  /** The public key of this enclave's receipts, SubjectPublicKeyInfo in DER. */
  readonly receiptKey: Uint8Array;
  /** SHA-384 of the measured deployment document. */
  readonly deploymentSha384: Uint8Array;
  /** The models of the moment, which evidence is given of. */
  readonly currentModels: () => Set;
  /** A clock that never goes back, in milliseconds. */
  readonly monotonicMs: () => number;
  /** Told what the caller is not told. */
  readonly onFailure: (error: unknown) => void;
  readonly limits?: EvidenceLimits;
}

export interface EvidenceLimits {
  readonly overall: TokenBucketLimits;
  readonly perConnection: TokenBucketLimits;
  /** Requests that may wait for the NSM. */
  readonly queueLength: number;
}

/** One connection needs one answer and perhaps a fresh one now and then; the NSM's own rate is not published. */
const DEFAULT_LIMITS: EvidenceLimits = {
  overall: { burst: 100, perSecond: 50 },
  perConnection: { burst: 4, perSecond: 0.1 },
  queueLength: 32,
};

export function createEvidenceIssuer<Set extends Models>(source: EvidenceSource<Set>): EvidenceIssuer<Set> {
  const limits = source.limits ?? DEFAULT_LIMITS;
  const overall = new TokenBucket(limits.overall, source.monotonicMs);
  const perConnection = new WeakMap<TLSSocket, TokenBucket>();
  let lastInQueue: Promise<unknown> = Promise.resolve();
  let queued = 0;

  async function answer(socket: TLSSocket, nonceText: string | null): Promise<EvidenceAnswer<Set>> {
    const nonce = readNonce(nonceText);
    if (nonce === undefined) return refusal(400, 'nonce: expected 32 bytes in base64url without padding');

    let ofConnection = perConnection.get(socket);
    if (ofConnection === undefined) {
      ofConnection = new TokenBucket(limits.perConnection, source.monotonicMs);
      perConnection.set(socket, ofConnection);
    }
    if (queued > limits.queueLength) return refusal(503, 'too many evidence requests are waiting', 1);
    const waitMs = ofConnection.take() || overall.take();
    if (waitMs > 0) return refusal(429, 'too many evidence requests', Math.ceil(waitMs / 1000));

    try {
      return await inTurn(async () => {
        const set = source.currentModels();
        const document = await attest(socket, nonce, modelsDigest(set.models));
        return { ...reply(200, encodeEvidenceResponse(document, set.models)), models: set };
      });
    } catch (error) {
      source.onFailure(error);
      return refusal(503, 'evidence is not available', 5);
    }
  }

  /** One at a time, in order of arrival. */
  async function inTurn<T>(work: () => Promise<T>): Promise<T> {
    queued++;
    const mine = lastInQueue.then(work);
    lastInQueue = mine.catch(() => undefined);
    try {
      return await mine;
    } finally {
      queued--;
    }
  }

  async function attest(socket: TLSSocket, nonce: Uint8Array, models: Uint8Array): Promise<Uint8Array> {
    if (socket.destroyed) throw new Error('the caller left before its turn');
    // The exporters of TLS 1.2 do not bind the whole handshake unless extended master secrets are in use.
    if (socket.getProtocol() !== 'TLSv1.3') throw new Error('evidence is given for TLS 1.3 only');
    const exporter = socket.exportKeyingMaterial(EXPORTER_BYTES, EXPORTER_LABEL, Buffer.from(nonce));
    const userData = encodeEvidenceClaims({
      purpose: TLS_PURPOSE,
      exporter,
      spki: source.spkiSha256,
      models,
      deployment: source.deploymentSha384,
    });
    return source.nsm.attest({ userData, nonce, publicKey: source.receiptKey });
  }

  return { answer };
}

function readNonce(text: string | null): Uint8Array | undefined {
  try {
    return parseNonce(text);
  } catch {
    return undefined;
  }
}

function refusal(status: number, message: string, retryAfterSeconds?: number): EvidenceAnswer<never> {
  return reply(status, Buffer.from(JSON.stringify({ error: message })), retryAfterSeconds);
}

function reply(status: number, body: Uint8Array, retryAfterSeconds?: number): EvidenceAnswer<never> {
  return {
    status,
    headers: {
      'content-type': 'application/json',
      'content-length': String(body.length),
      'cache-control': 'no-store',
      ...(retryAfterSeconds === undefined ? {} : { 'retry-after': String(retryAfterSeconds) }),
    },
    body,
  };
}
