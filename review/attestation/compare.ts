/**
 * Is it what a reviewer wanted? Asked expectation by expectation, so that all of them are ticked off even if one is not
 * met (docs/attestation.md section 12). The answers are those of `expectAttestation`; nothing is decided otherwise here.
 */
import { createHash } from 'node:crypto';
import { AttestationError } from '../../shared/attestation/errors.ts';
import {
  type AttestationExpectations,
  expectAttestation,
  type PcrExpectations,
} from '../../shared/attestation/expect.ts';
import type { CheckResult } from '../../shared/attestation/explain.ts';
import type { VerifiedDocument } from '../../shared/attestation/verify.ts';
import { StrongroomError } from '../../shared/errors.ts';
import { decodeEvidenceClaims } from '../../shared/evidence/decode.ts';
import { DEPLOYMENT_PCR, extendPcr, zeroPcr } from '../../shared/pcr.ts';
import { DocumentError } from './errors.ts';

export interface DocumentExpectations {
  readonly pcrs: PcrExpectations;
  readonly maxAgeMs: number | 'any';
  readonly nonce?: Uint8Array;
  /** SHA-256 in lower-case hex digits, of the bytes of the field. */
  readonly publicKeySha256?: string;
  readonly userDataSha256?: string;
}

/** As the checks of `explainAttestation`, one for each expectation. */
export interface ExpectationResult {
  readonly check: string;
  readonly section: string;
  readonly step: 'expected';
  readonly what: string;
  readonly outcome: CheckResult['outcome'];
  readonly detail: string;
  /** Of a failed one. */
  readonly error: StrongroomError | undefined;
}

/** What everything is when only one thing is asked. */
const ANY = { pcrs: { 0: 'any', 16: 'any' }, nonce: 'any', maxAgeMs: 'any' } as const;

/** Throws AttestationError ATTESTATION_EXPECTATION_UNUSABLE; every other fault is in the results. */
export function compareDocument(
  document: VerifiedDocument,
  at: Date,
  expected: DocumentExpectations,
): readonly ExpectationResult[] {
  const { fields } = document;
  const ask = (expectations: Partial<AttestationExpectations>) => () =>
    void expectAttestation(document, { ...ANY, at, ...expectations });
  const { nonce, maxAgeMs, publicKeySha256, userDataSha256 } = expected;
  const notDebug = tick('not-debug', '4.2', 'not a debug image', '', () => {
    // Nothing else can be wrong here but a date from the future, which is the age's to say.
    swallow('ATTESTATION_FROM_FUTURE', ask({}));
  });
  if (notDebug.outcome === 'failed') {
    // Then nothing else of it is worth a look, and nothing can be asked by itself.
    return [
      notDebug,
      ...rest(expected).map(([check, section, what]) => result('not-reached', check, section, what)),
    ];
  }
  const dated = `dated ${new Date(fields.timestampMs).toISOString()}`;
  return [
    notDebug,
    tick('age', '4.3', ageWords(maxAgeMs), dated, ask({ maxAgeMs })),
    nonce === undefined
      ? result('not-asked', 'nonce', '4.4', 'carries the expected nonce')
      : tick('nonce', '4.4', 'carries the expected nonce', 'as expected', ask({ nonce })),
    publicKeySha256 === undefined
      ? result('not-asked', 'public-key', '4.5', 'carries the expected public key')
      : tick('public-key', '4.5', 'carries the expected public key', publicKeySha256, () => {
          if (sha256(fields.publicKey) !== publicKeySha256) {
            throw new AttestationError(
              'ATTESTATION_PUBLIC_KEY_MISMATCH',
              `expected a public key with SHA-256 ${publicKeySha256}, found ${sha256(fields.publicKey)}`,
            );
          }
        }),
    ...Object.entries(expected.pcrs).map(([index, allowed]) =>
      allowed === 'any'
        ? result('not-asked', `pcr${index}`, '4.6', `PCR${index} has an expected value`)
        : tick(
            `pcr${index}`,
            '4.6',
            `PCR${index} has an expected value`,
            Buffer.from(fields.pcrs.get(Number(index)) ?? []).toString('hex'),
            ask({ pcrs: { ...ANY.pcrs, [index]: allowed } }),
          ),
    ),
    userDataSha256 === undefined
      ? result('not-asked', 'user-data', '12.3', 'carries the expected user data')
      : tick('user-data', '12.3', 'carries the expected user data', userDataSha256, () => {
          if (sha256(fields.userData) !== userDataSha256) {
            throw new DocumentError(
              'ATTESTATION_USER_DATA_MISMATCH',
              `expected user data with SHA-256 ${userDataSha256}, found ${sha256(fields.userData)}`,
            );
          }
        }),
    ...deploymentResult(document),
  ];
}

/** Only evidence of Strongroom names its deployment. */
function deploymentResult({ fields }: VerifiedDocument): readonly ExpectationResult[] {
  let deployment: Uint8Array;
  try {
    deployment = decodeEvidenceClaims(fields.userData).deployment;
  } catch (error) {
    if (!(error instanceof StrongroomError)) throw error;
    return [];
  }
  const measured = Buffer.from(fields.pcrs.get(DEPLOYMENT_PCR) ?? []).toString('hex');
  const claimed = Buffer.from(extendPcr(zeroPcr(), deployment)).toString('hex');
  return [
    tick('deployment', '12.4', 'the deployment that it names is in PCR16', measured, () => {
      if (measured === claimed) return;
      throw new DocumentError(
        'ATTESTATION_DEPLOYMENT_CONTRADICTED',
        `the user data names a deployment of PCR16 ${claimed}, found ${measured === '' ? 'no PCR16' : measured}`,
      );
    }),
  ];
}

function rest({ pcrs }: DocumentExpectations): (readonly [check: string, section: string, what: string])[] {
  return [
    ['age', '4.3', 'not too old and not from the future'],
    ['nonce', '4.4', 'carries the expected nonce'],
    ['public-key', '4.5', 'carries the expected public key'],
    ...Object.keys(pcrs).map((index) => [`pcr${index}`, '4.6', `PCR${index} has an expected value`] as const),
    ['user-data', '12.3', 'carries the expected user data'],
  ];
}

function tick(
  check: string,
  section: string,
  what: string,
  detail: string,
  ask: () => void,
): ExpectationResult {
  try {
    ask();
    return result('passed', check, section, what, detail);
  } catch (error) {
    if (!(error instanceof StrongroomError) || error.code === 'ATTESTATION_EXPECTATION_UNUSABLE') throw error;
    return result('failed', check, section, what, error.message, error);
  }
}

function result(
  outcome: CheckResult['outcome'],
  check: string,
  section: string,
  what: string,
  detail = '',
  error?: StrongroomError,
): ExpectationResult {
  return { check, section, step: 'expected', what, outcome, detail, error };
}

function swallow(code: string, ask: () => void): void {
  try {
    ask();
  } catch (error) {
    if (!(error instanceof StrongroomError) || error.code !== code) throw error;
  }
}

function ageWords(maxAgeMs: number | 'any'): string {
  return maxAgeMs === 'any'
    ? 'of any age, and not from the future'
    : `not older than ${maxAgeMs / 1000} s and not from the future`;
}

function sha256(bytes: Uint8Array | null): string {
  return bytes === null ? 'none' : createHash('sha256').update(bytes).digest('hex');
}
