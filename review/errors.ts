import { type ErrorTable, StrongroomError } from '../shared/errors.ts';

/** What reviewers bring: files of registers, release manifests. */
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
} as const satisfies ErrorTable;

export class ReviewError extends StrongroomError<keyof typeof reviewErrors> {
  constructor(code: keyof typeof reviewErrors, message: string, cause?: unknown) {
    super(reviewErrors, code, message, cause);
  }
}
