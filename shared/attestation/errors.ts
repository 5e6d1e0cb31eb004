import { type ErrorTable, StrongroomError } from '../errors.ts';

/** Exit 2: not a document at all. Exit 1: a document that is refused. */
export const attestationErrors = {
  ATTESTATION_TOO_LARGE: {
    exit: 2,
    means: 'The bytes are more than an attestation document can have.',
    action: 'Check that this is the document alone, as the security module gave it.',
  },
  ATTESTATION_TAG: {
    exit: 2,
    means: 'The document carries a CBOR tag other than 18 (COSE_Sign1).',
    action: 'Check that this is an attestation document; COSE_Sign, COSE_Mac and others are not.',
  },
  ATTESTATION_STRUCTURE: {
    exit: 2,
    means: 'The document is not a COSE_Sign1: a definite array of two headers, payload and signature.',
    action: 'Use the bytes as the security module gave them; do not decode and encode them again.',
  },
  ATTESTATION_ALGORITHM: {
    exit: 1,
    means: 'The signed header names another algorithm than ES384, or none.',
    action: 'Refuse the document: AWS signs with ES384 only.',
  },
  ATTESTATION_UNPROTECTED_HEADER: {
    exit: 1,
    means: 'The unprotected header is not empty. Nobody signed what it says.',
    action: 'Refuse the document: somebody changed it on its way.',
  },
  ATTESTATION_SIGNATURE_LENGTH: {
    exit: 1,
    means: 'The signature is not r and s in 48 bytes each.',
    action: 'Use the signature as the security module gave it, not in DER and not shortened or padded.',
  },
  ATTESTATION_PAYLOAD: {
    exit: 2,
    means: 'The payload is not a map of named fields.',
    action: 'Check that this is an attestation document and not another signed message.',
  },
  ATTESTATION_NITRO_TPM: {
    exit: 1,
    means: 'This is a NitroTPM document: it speaks of an EC2 instance, not of an enclave.',
    action: 'Ask the enclave for its document; a NitroTPM document proves nothing about it.',
  },
  ATTESTATION_FIELD_MISSING: {
    exit: 1,
    means: 'A mandatory field is absent.',
    action: 'Refuse the document: the security module always sends the field.',
  },
  ATTESTATION_FIELD_UNKNOWN: {
    exit: 1,
    means: 'The document has a field that this version does not know.',
    action: 'If AWS documents the field, update Strongroom; otherwise refuse the document.',
  },
  ATTESTATION_MODULE_ID: {
    exit: 1,
    means: 'The module id is not that of an enclave.',
    action: 'Refuse the document: an enclave is called i-...-enc....',
  },
  ATTESTATION_DIGEST: {
    exit: 1,
    means: 'The registers are of another digest than SHA384.',
    action: 'Refuse the document: enclaves use SHA384 only.',
  },
  ATTESTATION_TIMESTAMP: {
    exit: 1,
    means: 'The timestamp is not a positive number of milliseconds.',
    action: 'Refuse the document: the security module always dates it.',
  },
  ATTESTATION_PCRS: {
    exit: 1,
    means: 'The registers are not 1 to 32 values of 48 bytes with an index from 0 to 31.',
    action: 'Refuse the document: registers of an enclave always have that form.',
  },
  ATTESTATION_CERTIFICATE_FIELDS: {
    exit: 1,
    means: 'The certificate or the bundle of its issuers is absent, empty or larger than AWS allows.',
    action: 'Refuse the document: without its chain nothing can be verified.',
  },
  ATTESTATION_OPTIONAL_FIELDS: {
    exit: 1,
    means: 'public_key, user_data or nonce is neither bytes nor null, or is larger than allowed.',
    action: 'Check what the enclave asked its security module to sign.',
  },
  ATTESTATION_NO_ANCHOR: {
    exit: 2,
    means: 'No trust anchor was given to verify with.',
    action: 'Name whom to trust: the AWS root, or a simulation root explicitly.',
  },
  ATTESTATION_ANCHOR_UNUSABLE: {
    exit: 2,
    means: 'A trust anchor is not a self-signed P-384 certificate authority of the expected form.',
    action: 'Use the root certificate that the simulator wrote, or the AWS root.',
  },
  ATTESTATION_TIME_UNUSABLE: {
    exit: 2,
    means: 'The time to verify at is not a time.',
    action: 'Give a valid date; certificates can only be judged at a time.',
  },
  ATTESTATION_UNTRUSTED_ROOT: {
    exit: 1,
    means: 'The chain begins with a root that is not trusted here.',
    action: 'If this is a simulation, name its root explicitly; in production refuse the document.',
  },
  ATTESTATION_CERTIFICATE_MALFORMED: {
    exit: 1,
    means: 'A certificate of the chain is not an X.509 v3 certificate in DER.',
    action: 'Refuse the document.',
  },
  ATTESTATION_CERTIFICATE_ALGORITHM: {
    exit: 1,
    means:
      'A certificate has another kind of key than P-384, or is signed with other than ECDSA and SHA-384.',
    action: 'Refuse the document: the whole chain of AWS uses P-384 and SHA-384.',
  },
  ATTESTATION_CERTIFICATE_EXTENSION: {
    exit: 1,
    means: 'A certificate has a critical extension that is not understood, or an extension twice.',
    action: 'Refuse the document: a critical extension may forbid exactly this use.',
  },
  ATTESTATION_ISSUER: {
    exit: 1,
    means: 'A certificate names another issuer than the certificate before it in the chain.',
    action: 'Refuse the document: the bundle is not the path to its certificate.',
  },
  ATTESTATION_NOT_YET_VALID: {
    exit: 1,
    means: 'A certificate of the chain was not yet valid at the time of verification.',
    action: 'Check the clock of the verifier; to judge an old document, give the time of then.',
  },
  ATTESTATION_EXPIRED: {
    exit: 1,
    means: 'A certificate of the chain was no longer valid at the time of verification.',
    action:
      'Ask for a fresh document; certificates live for hours. To judge an old one, give the time of then.',
  },
  ATTESTATION_CERTIFICATE_AUTHORITY: {
    exit: 1,
    means:
      'A certificate signs others without being an authority, or is an authority and signs the document.',
    action: 'Refuse the document.',
  },
  ATTESTATION_PATH_LENGTH: {
    exit: 1,
    means: 'An authority is used further from the document than its certificate allows.',
    action: 'Refuse the document.',
  },
  ATTESTATION_KEY_USAGE: {
    exit: 1,
    means: 'A key is used for something that its certificate does not allow.',
    action: 'Refuse the document.',
  },
  ATTESTATION_CERTIFICATE_SIGNATURE: {
    exit: 1,
    means: 'A certificate was not signed by the key of its issuer.',
    action: 'Refuse the document: the chain was forged or damaged.',
  },
  ATTESTATION_TIMESTAMP_OUTSIDE: {
    exit: 1,
    means: 'The document is dated outside the life of the certificates that vouch for it.',
    action: 'Refuse the document.',
  },
  ATTESTATION_SIGNATURE_RANGE: {
    exit: 1,
    means: 'The signature holds a number that no ECDSA signature can hold.',
    action: 'Refuse the document: somebody tries a verifier that skips this check.',
  },
  ATTESTATION_SIGNATURE: {
    exit: 1,
    means: 'The signature does not belong to this document.',
    action: 'Refuse the document: it was changed, or decoded and encoded again, since it was signed.',
  },
  ATTESTATION_NOT_VERIFIED: {
    exit: 3,
    means: 'Something was used as a checked document that this code never checked.',
    action: 'Report it as a bug; nothing was accepted.',
  },
  ATTESTATION_EXPECTATION_UNUSABLE: {
    exit: 2,
    means: 'What is expected of a document is missing, empty, all zero or not readable.',
    action:
      'Give PCR0 and PCR16 as 96 hexadecimal digits, as a list of such, or say "any"; likewise nonce and age.',
  },
  ATTESTATION_DEBUG_IMAGE: {
    exit: 1,
    means: 'The enclave runs in debug mode (PCR0, PCR1 or PCR2 all zero): its parent can read everything.',
    action: 'Start the enclave without --debug-mode; never talk to this one.',
  },
  ATTESTATION_TOO_OLD: {
    exit: 1,
    means: 'The document is older than accepted.',
    action: 'Ask for a fresh document.',
  },
  ATTESTATION_FROM_FUTURE: {
    exit: 1,
    means: 'The document is dated after the time of verification.',
    action: 'Check the clock of the verifier.',
  },
  ATTESTATION_NONCE_MISMATCH: {
    exit: 1,
    means: 'The document does not carry the nonce that was asked for: it may be a replay.',
    action: 'Ask again with a new nonce; if it repeats, refuse the enclave.',
  },
  ATTESTATION_PUBLIC_KEY_MISMATCH: {
    exit: 1,
    means: 'The document does not carry the expected public key.',
    action: 'Refuse the enclave: it speaks for another key.',
  },
  ATTESTATION_PCR_MISSING: {
    exit: 1,
    means: 'The document lacks a register that is expected: it was not locked.',
    action: 'Refuse the enclave, or correct the expectation.',
  },
  ATTESTATION_PCR_MISMATCH: {
    exit: 1,
    means: 'A register has another value than expected: another image, deployment, role or instance.',
    action: 'Compare with the reviewed release; accept the new value only after a review.',
  },
} as const satisfies ErrorTable;

export type AttestationErrorCode = keyof typeof attestationErrors;

export class AttestationError extends StrongroomError<AttestationErrorCode> {
  constructor(code: AttestationErrorCode, message: string, cause?: unknown) {
    super(attestationErrors, code, message, cause);
  }
}
