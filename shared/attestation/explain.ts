/** Every check with its outcome, for a person to follow (docs/attestation.md). Decides nothing itself. */
import { outcomesOf } from '../check-outcomes.ts';
import { StrongroomError } from '../errors.ts';
import { CHECKS, type Check, type CheckId } from './checks.ts';
import { type AttestationExpectations, expectAttestation } from './expect.ts';
import { parseAttestationDocument, type UnverifiedDocument } from './parse.ts';
import { type VerificationOptions, type VerifiedDocument, verifyAttestationDocument } from './verify.ts';

export interface CheckResult extends Pick<Check, 'section' | 'step' | 'what'> {
  readonly check: CheckId;
  /** `not-asked`: nothing was expected of the document. */
  readonly outcome: 'passed' | 'failed' | 'not-reached' | 'not-asked';
  /** What was found, or why the check failed; empty if not reached. */
  readonly detail: string;
}

export interface Explanation {
  readonly checks: readonly CheckResult[];
  /** The fault, if any check failed. */
  readonly error: StrongroomError | undefined;
  /** As far as it came: what was read, and what was verified. */
  readonly parsed: UnverifiedDocument | undefined;
  readonly verified: VerifiedDocument | undefined;
}

/**
 * Faults of the document are returned; errors that are not about it (a bug) are thrown. `verification` is asked
 * once the document was read, because the time to judge at may be its own.
 */
export function explainAttestation(
  bytes: Uint8Array,
  verification: (parsed: UnverifiedDocument) => VerificationOptions,
  expectations?: AttestationExpectations,
): Explanation {
  const passed = new Map<CheckId, string>();
  const note = (check: CheckId, found: string) => void passed.set(check, found);
  let error: StrongroomError | undefined;
  let parsed: UnverifiedDocument | undefined;
  let verified: VerifiedDocument | undefined;
  try {
    parsed = parseAttestationDocument(bytes, {}, note);
    verified = verifyAttestationDocument(parsed, verification(parsed), note);
    if (expectations !== undefined) expectAttestation(verified, expectations, note);
  } catch (fault) {
    if (!(fault instanceof StrongroomError)) throw fault;
    error = fault;
  }
  const isAsked = ({ step }: Check): boolean => step !== 'expected' || expectations !== undefined;
  return { checks: outcomesOf<Check>(CHECKS, passed, error, isAsked), error, parsed, verified };
}
