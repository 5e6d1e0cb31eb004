/** Which tone a severity, a verdict and an answer have on a page. */
import type { Tone } from '../../html/parts.ts';
import type { MatrixCell, PolicyReviewReport, Severity } from '../report.ts';

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

/** Low and info are hygiene: the sentence above them is a "yes". */
export function toneOfVerdict({ verdict, severity }: PolicyReviewReport): Tone {
  if (verdict === 'AMBIGUOUS') return 'unknown';
  if (verdict === 'MALFORMED') return 'bad';
  const tone = toneOfSeverity(severity);
  return tone === 'plain' ? 'good' : tone;
}

/** Reference: docs/policy-review.md section 5, groups B, E and H: what holding the action gives. */
const PLAINTEXT = ['Decrypt', 'DeriveSharedSecret', 'GenerateDataKey', 'GenerateDataKeyPair'];
const ESCAPES = ['ReEncryptFrom', 'CreateGrant', 'ReplicateKey', 'UpdatePrimaryRegion', 'ImportKeyMaterial'];

/** How much it matters that somebody may do this: as it should be, trust that is needed, or a way around. */
export function toneOfAllowed({ action, attestation }: MatrixCell, reviewed: string): Tone {
  const name = action.replace(/^kms:/, '');
  if (PLAINTEXT.includes(name)) return attestation === reviewed ? 'good' : 'bad';
  if (ESCAPES.includes(name)) return 'bad';
  return name === 'PutKeyPolicy' ? 'caution' : 'plain';
}
