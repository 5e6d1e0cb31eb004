/** Which tone a severity, a verdict and an answer have on a page. */
import type { Tone } from '../../html/parts.ts';
import { type PolicyReviewReport, SEVERITIES, type Severity } from '../report.ts';

const OF_SEVERITY: Readonly<Record<Severity, Tone>> = {
  critical: 'bad',
  high: 'bad',
  medium: 'caution',
  low: 'plain',
  info: 'plain',
};

export function toneOfSeverity(severity: Severity): Tone {
  return OF_SEVERITY[severity];
}

/**
 * Low and info are hygiene: the sentence above them is a "yes". Where the verdict is one, the findings say how good a yes:
 * that somebody administers the key is true of the best of policies, too.
 */
export function toneOfVerdict({ verdict, severity, findings }: PolicyReviewReport): Tone {
  if (verdict === 'AMBIGUOUS') return 'unknown';
  if (verdict === 'MALFORMED') return 'bad';
  const isYes = verdict === 'ONLY_IMAGE' || verdict === 'ONLY_IMAGE_IF_ADMINS_TRUSTED';
  const worst = SEVERITIES.find((one) => findings.some((finding) => finding.severity === one)) ?? 'info';
  const tone = toneOfSeverity(isYes ? worst : severity);
  return tone === 'plain' ? 'good' : tone;
}

/** What a review calls the image that it is of; further ones have their file's name behind it. */
const REVIEWED = /^the reviewed image( |,|$)/;
const OTHERWISE = /, another deployment$/;

/** The reviewed image, as it was reviewed. */
export function isReviewed(attestation: string): boolean {
  return /^the reviewed image( |$)/.test(attestation) && !OTHERWISE.test(attestation);
}

/** Reference: docs/policy-review.md section 5, groups B, E and H: what holding the action gives. */
const PLAINTEXT = ['Decrypt', 'DeriveSharedSecret', 'GenerateDataKey', 'GenerateDataKeyPair'];
const ESCAPES = ['ReEncryptFrom', 'CreateGrant', 'ReplicateKey', 'UpdatePrimaryRegion', 'ImportKeyMaterial'];

/** How much it matters that somebody may do this: as it should be, trust that is needed, or a way around. */
export function toneOfAllowed(action: string, attestation: string): Tone {
  const name = action.replace(/^kms:/, '');
  if (PLAINTEXT.includes(name)) {
    if (!REVIEWED.test(attestation)) return 'bad';
    return OTHERWISE.test(attestation) ? 'caution' : 'good';
  }
  if (ESCAPES.includes(name)) return 'bad';
  return name === 'PutKeyPolicy' ? 'caution' : 'plain';
}

const WORST: readonly Tone[] = ['bad', 'unknown', 'caution', 'good', 'plain'];

export function worstTone(tones: readonly Tone[]): Tone {
  return WORST.find((tone) => tones.includes(tone)) ?? 'plain';
}
