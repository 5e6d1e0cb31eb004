import { type ErrorTable, StrongroomError } from '../../shared/errors.ts';

export const keyPolicyErrors = {
  KEY_POLICY_INPUT: {
    exit: 2,
    means: 'A key policy cannot be generated from these values without opening the key to somebody else.',
    action:
      'Correct the value that the message names: whole ARNs in the key account, measured non-zero registers.',
  },
  KEY_POLICY_SHAPE: {
    exit: 3,
    means:
      'The key policy is not one that `strongroom policy generate` writes, so one sentence cannot describe it.',
    action: 'Generate the policy again, or have this one reviewed statement by statement.',
  },
} as const satisfies ErrorTable;

export class KeyPolicyError extends StrongroomError<keyof typeof keyPolicyErrors> {
  constructor(code: keyof typeof keyPolicyErrors, message: string, cause?: unknown) {
    super(keyPolicyErrors, code, message, cause);
  }
}

export const reviewErrors = {
  REVIEW_CONTEXT: {
    exit: 2,
    means: 'The file with IAM policies, grants and key metadata cannot be used.',
    action: 'Write it as docs/policy-review.md section 6 says; grants must be the whole list of ListGrants.',
  },
  REVIEW_REGISTERS: {
    exit: 2,
    means: 'The registers of the reviewed image are not measurements that an enclave can have.',
    action: 'Measure the image with `strongroom image measure --json`, or pass the image itself.',
  },
  REVIEW_SUPPRESSIONS: {
    exit: 2,
    means: 'The file of suppressions cannot be used.',
    action: 'Give every suppression a code, a reason, an owner and a date on which it expires.',
  },
} as const satisfies ErrorTable;

export class ReviewError extends StrongroomError<keyof typeof reviewErrors> {
  constructor(code: keyof typeof reviewErrors, message: string, cause?: unknown) {
    super(reviewErrors, code, message, cause);
  }
}
