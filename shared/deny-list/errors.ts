import { type ErrorTable, StrongroomError } from '../errors.ts';

export const denyListErrors = {
  DENY_LIST_MALFORMED: {
    exit: 2,
    means: 'This is not a deny list of the form that enclaves read.',
    action: 'Write it with "strongroom deny-list sign"; docs/deny-list.md section 1 has the form.',
  },
  DENY_LIST_UNSIGNED: {
    exit: 1,
    means: 'The deny list carries no signature by the expected signer.',
    action: 'Sign it with the key whose public half the deployment names.',
  },
  DENY_LIST_EXPIRED: {
    exit: 1,
    means: 'The deny list is over.',
    action: 'Sign a new one; until it has arrived, enclaves that need it serve nobody.',
  },
  DENY_LIST_FROM_FUTURE: {
    exit: 1,
    means: 'The deny list was issued after the time at which it is looked at.',
    action: 'Correct the clock of whoever signed it, and sign again.',
  },
  DENY_LIST_REPLAYED: {
    exit: 1,
    means: 'The deny list is older than one that was seen, or another one with the same sequence.',
    action: 'Give the newest list; if it was lost, sign a new one with a higher sequence.',
  },
  DENY_LIST_SIGNER_UNSUPPORTED: {
    exit: 2,
    means: 'Deny lists are signed with ECDSA P-256 or Ed25519, and this key is another.',
    action: 'Make a key with "strongroom keygen --only signing".',
  },
} as const satisfies ErrorTable;

export class DenyListError extends StrongroomError<keyof typeof denyListErrors> {
  constructor(code: keyof typeof denyListErrors, message: string, cause?: unknown) {
    super(denyListErrors, code, message, cause);
  }
}
