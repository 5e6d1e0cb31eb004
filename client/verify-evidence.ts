/**
 * The checks between an answer and trust, in the order of docs/evidence.md section 7. Each step takes what the
 * one before it made, so none can be left out.
 */
import { expectAttestation } from '../shared/attestation/expect.ts';
import { parseAttestationDocument } from '../shared/attestation/parse.ts';
import { verifyAttestationDocument } from '../shared/attestation/verify.ts';
import { decodeEvidenceClaims, decodeEvidenceResponse } from '../shared/evidence/decode.ts';
import { EvidenceError } from '../shared/evidence/errors.ts';
import {
  type EvidenceClaims,
  type LoadedModel,
  modelsDigest,
  TLS_PURPOSE,
} from '../shared/evidence/evidence.ts';
import { DEPLOYMENT_PCR, extendPcr, zeroPcr } from '../shared/pcr.ts';
import { readReceiptKey } from '../shared/receipt/key.ts';
import { ClientError } from './errors.ts';
import type { CheckedExpectations, ExpectedModel } from './expectations.ts';

/** What the client knows of its own TLS session; the evidence must say the same. */
export interface SessionFacts {
  readonly nonce: Uint8Array;
  readonly exporter: Uint8Array;
  readonly spkiSha256: Uint8Array;
}

/** What was verified about an enclave; measurements and digests in lower-case hex. */
export interface EnclaveEvidence {
  readonly trust: 'aws-nitro' | 'simulation';
  readonly moduleId: string;
  /** When the NSM made the document. */
  readonly timestamp: Date;
  readonly pcrs: Readonly<Record<number, string>>;
  readonly models: readonly LoadedModel[];
  readonly deploymentSha384: string;
  readonly certificateSpkiSha256: string;
  /** The public key of the enclave's receipts (docs/receipts.md): P-256, SubjectPublicKeyInfo in DER, in hex. */
  readonly receiptKey: string;
  /** The attestation document itself, to keep or to verify elsewhere. */
  readonly document: Uint8Array;
}

/** Throws CodecError, EvidenceError, AttestationError or ClientError; each has a stable code and an action. */
export function verifyEvidence(
  response: Uint8Array,
  session: SessionFacts,
  expected: CheckedExpectations,
  at: Date,
): EnclaveEvidence {
  const { untrustedDocument, untrustedModels } = decodeEvidenceResponse(response);
  const wellFormed = parseAttestationDocument(untrustedDocument);
  const genuine = verifyAttestationDocument(wellFormed, { anchors: expected.anchors, at });
  const accepted = expectAttestation(genuine, {
    pcrs: expected.pcrs,
    nonce: session.nonce,
    maxAgeMs: expected.maxAgeMs,
    at,
  });
  const claims = decodeEvidenceClaims(accepted.fields.userData);
  expectMeasuredDeployment(claims, accepted.fields.pcrs);
  expectTlsPurpose(claims);
  const receiptKey = expectReceiptKey(accepted.fields.publicKey);
  expectThisSession(claims, session);
  const models = expectModels(untrustedModels, claims, expected.models);

  return Object.freeze({
    trust: accepted.trust,
    moduleId: accepted.fields.moduleId,
    timestamp: new Date(accepted.fields.timestampMs),
    pcrs: Object.freeze(
      Object.fromEntries([...accepted.fields.pcrs].map(([index, value]) => [index, hex(value)])),
    ),
    models,
    deploymentSha384: hex(claims.deployment),
    certificateSpkiSha256: hex(claims.spki),
    receiptKey,
    document: untrustedDocument,
  });
}

/** PCR16 is extended once, from zero, with the digest of the deployment (docs/deployment.md). */
function expectMeasuredDeployment(claims: EvidenceClaims, pcrs: ReadonlyMap<number, Uint8Array>): void {
  const measured = pcrs.get(DEPLOYMENT_PCR);
  if (measured !== undefined && same(extendPcr(zeroPcr(), claims.deployment), measured)) return;
  throw new ClientError(
    'CLIENT_DEPLOYMENT_MISMATCH',
    `Expected PCR16 to be the measurement of deployment ${hex(claims.deployment)}, found ${measured === undefined ? 'no PCR16' : hex(measured)}.`,
  );
}

function expectTlsPurpose({ purpose }: EvidenceClaims): void {
  if (purpose === TLS_PURPOSE) return;
  throw new ClientError(
    'CLIENT_PURPOSE',
    `Expected evidence for "${TLS_PURPOSE}", found it for ${JSON.stringify(purpose)}.`,
  );
}

/** The key vouched for here is the one that receipts of this connection are checked by. */
function expectReceiptKey(publicKey: Uint8Array | null): string {
  if (publicKey !== null && readReceiptKey(publicKey) !== undefined) return hex(publicKey);
  throw new EvidenceError(
    'EVIDENCE_RECEIPT_KEY',
    `Expected public_key to be a P-256 key, found ${publicKey === null ? 'none' : `${publicKey.length} bytes of another form`}.`,
  );
}

/** The exporter ties the evidence to this connection; the certificate, to whoever ended its handshake. */
function expectThisSession(claims: EvidenceClaims, session: SessionFacts): void {
  if (!same(claims.exporter, session.exporter)) {
    throw new ClientError(
      'CLIENT_OTHER_SESSION',
      `Expected evidence with the exporter value of this session, found that of another.`,
    );
  }
  if (!same(claims.spki, session.spkiSha256)) {
    throw new ClientError(
      'CLIENT_OTHER_CERTIFICATE',
      `Expected evidence for the certificate key ${hex(session.spkiSha256)}, found ${hex(claims.spki)}.`,
    );
  }
}

function expectModels(
  untrusted: readonly LoadedModel[],
  claims: EvidenceClaims,
  expected: readonly ExpectedModel[],
): readonly LoadedModel[] {
  if (!same(modelsDigest(untrusted), claims.models)) {
    throw new ClientError(
      'CLIENT_MODELS_MISMATCH',
      'Expected the models that the evidence covers, found another list.',
    );
  }
  for (const model of expected) {
    const loaded = untrusted.find(({ name }) => name === model.name);
    const satisfied =
      loaded !== undefined &&
      loaded.version >= (model.minimumVersion ?? 1) &&
      (model.contentId === undefined || loaded.contentId === model.contentId);
    if (!satisfied) {
      throw new ClientError(
        'CLIENT_MODEL_NOT_LOADED',
        `Expected the model ${JSON.stringify(model)}, found ${JSON.stringify(untrusted)}.`,
      );
    }
  }
  return untrusted;
}

/** These values are public; comparing them needs no constant time. */
function same(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}
