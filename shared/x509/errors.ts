import { type ErrorTable, StrongroomError } from '../errors.ts';

export const x509Errors = {
  X509_CLIENT_UNUSABLE: {
    exit: 1,
    means: 'A certificate is not of the form that a client of an enclave may have.',
    action:
      'Use a certificate for TLS clients with one SPIFFE id, or with a plain subject; docs/deployment.md section 4 has the form.',
  },
} as const satisfies ErrorTable;

export class X509Error extends StrongroomError<keyof typeof x509Errors> {
  constructor(code: keyof typeof x509Errors, message: string, cause?: unknown) {
    super(x509Errors, code, message, cause);
  }
}
