import { type ErrorTable, StrongroomError } from '../shared/errors.ts';

/** What reviewers bring: files of registers, release manifests, what is around a key policy. */
export const reviewErrors = {
  REGISTERS_UNREADABLE: {
    exit: 2,
    means: 'A file of registers is not a JSON object of PCR values.',
    action:
      'Give the output of strongroom image measure --json or of nitro-cli, or an object such as {"PCR0": "…"}.',
  },
  RELEASE_MANIFEST: {
    exit: 2,
    means: 'A release manifest is not the strict JSON that this version reads.',
    action: 'Write it again with strongroom image release; docs/releases.md lists every member.',
  },
  RELEASES_UNUSABLE: {
    exit: 2,
    means:
      'The release manifests cannot be used together: none, too many, or two that contradict each other.',
    action: 'Keep one manifest for each name and version in the folder, and nothing else that ends in .json.',
  },
  REVIEW_CONTEXT: {
    exit: 2,
    means: 'The file with IAM policies, grants and key metadata cannot be used.',
    action: 'Write it as docs/policy-review.md section 6 says; grants must be the whole list of ListGrants.',
  },
  REVIEW_SUPPRESSIONS: {
    exit: 2,
    means: 'The file of suppressions cannot be used.',
    action: 'Give every suppression a code, a reason, an owner and a day on which it expires.',
  },
} as const satisfies ErrorTable;

export class ReviewError extends StrongroomError<keyof typeof reviewErrors> {
  constructor(code: keyof typeof reviewErrors, message: string, cause?: unknown) {
    super(reviewErrors, code, message, cause);
  }
}
