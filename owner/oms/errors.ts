import { type ErrorTable, StrongroomError } from '../../shared/errors.ts';

/** Causes of refusing an OpenSSF Model Signing bundle (docs/sealed-model.md section 12). */
export const omsErrors = {
  OMS_MALFORMED: {
    exit: 2,
    means: 'The file is not an OpenSSF Model Signing bundle, or its statement does not follow version 1.0.',
    action: 'Give the bundle that "strongroom sign --oms" or another tool for the standard wrote.',
  },
  OMS_UNSUPPORTED: {
    exit: 3,
    means: 'The bundle is signed in a way, or states digests of a kind, that is not checked here.',
    action:
      'Check it with a tool that knows certificates, Sigstore and other hashes, or ask for a signature by a key with SHA-256.',
  },
  OMS_KEY_UNUSABLE: {
    exit: 2,
    means: 'Model Signing knows ECDSA keys on P-256, P-384 and P-521 alone.',
    action: 'Give such a key: "strongroom keygen" makes one on P-256.',
  },
  OMS_SIGNATURE_REFUSED: {
    exit: 1,
    means: 'The bundle does not bear the signature of the expected key.',
    action: 'Check that bundle and --signer belong together; if they should, do not trust the bundle.',
  },
  OMS_FILES_DIFFER: {
    exit: 1,
    means: 'The files are not those that the bundle states.',
    action: 'Get model and bundle again from their source; if they still differ, do not trust them.',
  },
} as const satisfies ErrorTable;

export class OmsError extends StrongroomError<keyof typeof omsErrors> {
  constructor(code: keyof typeof omsErrors, message: string, cause?: unknown) {
    super(omsErrors, code, message, cause);
  }
}
