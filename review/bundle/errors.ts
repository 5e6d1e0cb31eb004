import { type ErrorTable, StrongroomError } from '../../shared/errors.ts';

export const evidenceBundleErrors = {
  BUNDLE_MALFORMED: {
    exit: 2,
    means: 'The file is not an evidence bundle, or not in the one form that a bundle can have.',
    action: 'Ask whoever made it for the file again; a truncated or repacked archive cannot be used.',
  },
  BUNDLE_INCOMPLETE: {
    exit: 2,
    means: 'The bundle lacks a part that every bundle has.',
    action: 'Make it again with strongroom evidence bundle.',
  },
  BUNDLE_DIGEST: {
    exit: 1,
    means: 'A part of the bundle is not what its index says.',
    action: 'Do not rely on it: somebody changed it after it was made.',
  },
  BUNDLE_UNSIGNED: {
    exit: 1,
    means: 'The index of the bundle is not signed by the given key.',
    action: 'Check which key should have signed; if it is the right one, do not rely on the bundle.',
  },
  BUNDLE_SIGNER_UNSUPPORTED: {
    exit: 2,
    means: 'The key that signs a bundle, or should have signed it, is of a kind that bundles do not take.',
    action: 'Use an ECDSA P-256 or Ed25519 key, for example one by strongroom keygen.',
  },
  BUNDLE_MISMATCH: {
    exit: 1,
    means: 'Two parts of the bundle do not belong together.',
    action: 'Make the bundle of the image, deployment, policy and attestation of one release.',
  },
  BUNDLE_WITHDRAWN: {
    exit: 1,
    means: 'The release was withdrawn.',
    action: 'Review the release that replaces it.',
  },
  BUNDLE_REVIEW_CHANGED: {
    exit: 1,
    means: 'Reviewed again, the key policy gets another verdict than the one in the bundle.',
    action: 'Look at the findings of strongroom policy review; an old verdict may have been too kind.',
  },
  BUNDLE_VERDICT: {
    exit: 1,
    means: 'The key policy lets somebody else have the key than the reviewed image.',
    action: 'Correct the policy as strongroom policy review says, then make the bundle again.',
  },
  BUNDLE_UNDECIDED: {
    exit: 3,
    means: 'Whether only the reviewed image has the key cannot be decided with what is in the bundle.',
    action: 'Make it again with what strongroom policy review names as not supplied.',
  },
} as const satisfies ErrorTable;

export type EvidenceBundleErrorCode = keyof typeof evidenceBundleErrors;

export class EvidenceBundleError extends StrongroomError<EvidenceBundleErrorCode> {
  constructor(code: EvidenceBundleErrorCode, message: string, cause?: unknown) {
    super(evidenceBundleErrors, code, message, cause);
  }
}
