import { type ErrorTable, StrongroomError } from '../shared/errors.ts';

export const releaseErrors = {
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

export const registerErrors = {
  REGISTERS_UNREADABLE: {
    exit: 2,
    means: 'A file of registers is not a JSON object of PCR values.',
    action:
      'Give the output of strongroom image measure --json or of nitro-cli, or an object such as {"PCR0": "…"}.',
  },
} as const satisfies ErrorTable;

export class RegistersError extends StrongroomError<keyof typeof registerErrors> {
  constructor(code: keyof typeof registerErrors, message: string, cause?: unknown) {
    super(registerErrors, code, message, cause);
  }
}

export class ReleaseError extends StrongroomError<keyof typeof releaseErrors> {
  constructor(code: keyof typeof releaseErrors, message: string, cause?: unknown) {
    super(releaseErrors, code, message, cause);
  }
}
