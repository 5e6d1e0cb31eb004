import { type ErrorTable, StrongroomError } from '../../shared/errors.ts';

/** Causes of stopping `strongroom cert`. */
export const certificateErrors = {
  CERT_NAME_UNUSABLE: {
    exit: 2,
    means: 'A name is not of a form that a certificate of ours can have.',
    action:
      'Give a DNS name in lower case without wildcards, an IP address, or spiffe://TRUST-DOMAIN/PATH; for a CA also an address range such as 10.0.0.0/8, or spiffe://TRUST-DOMAIN.',
  },
  CERT_NOT_PERMITTED: {
    exit: 1,
    means: 'The name is outside of what the CA may vouch for.',
    action: 'Use a CA that permits the name; "strongroom cert show" lists what each permits.',
  },
  CERT_OUTLIVES_CA: {
    exit: 1,
    means: 'The certificate would be valid for longer than the CA that signs it.',
    action: 'Give fewer --days, or renew the CA first with "strongroom cert renew".',
  },
  CERT_FOREIGN: {
    exit: 1,
    means: 'The certificate to renew was not signed by this CA.',
    action: 'Give the CA that issued it, or issue a new one with "strongroom cert issue".',
  },
  CERT_UNUSABLE: {
    exit: 2,
    means: 'What should hold a certificate does not, or not one that can be used here.',
    action:
      'Give a PEM file with certificates to "cert show", and a folder that "strongroom cert ca" or "cert issue" wrote to the other commands.',
  },
} as const satisfies ErrorTable;

export class CertificateError extends StrongroomError<keyof typeof certificateErrors> {
  constructor(code: keyof typeof certificateErrors, message: string, cause?: unknown) {
    super(certificateErrors, code, message, cause);
  }
}
