/** Every number of an attestation document, with its source (docs/attestation.md, section 10). */

/** AWS attestation_process.md 3.1: payload `bstr .size (1..16384)`. */
export const PAYLOAD_MAX_BYTES = 16_384;

/** Payload plus tag, array head, headers, string heads and signature, which take 110 bytes at most. */
export const DOCUMENT_MAX_BYTES = PAYLOAD_MAX_BYTES + 128;

/** ES384, RFC 9053 2.1: r and s in 48 bytes each. AWS's "32/48/64" are half lengths. */
export const SIGNATURE_BYTES = 96;

/** AWS attestation_process.md 2.2: `cert = bytes .size (1..1024)`. Seen: 533 to 797. */
export const CERTIFICATE_MAX_BYTES = 1024;

/** Ours, so that a document cannot ask for unbounded work: AWS sends 4 (root, region, zone, instance). */
export const CABUNDLE_MAX_CERTIFICATES = 8;

/**
 * AWS attestation_process.md 2.2: `user_data = bytes .size (0..1024)` for public_key, user_data and nonce. Its
 * section 3.2.2.2 says 512 for the latter two, but hardware signs 1024.
 */
export const OPTIONAL_FIELD_MAX_BYTES = 1024;

/** Ours: how far the clock of a verifier may be behind that of the hypervisor. */
export const FUTURE_TOLERANCE_MS = 60_000;
