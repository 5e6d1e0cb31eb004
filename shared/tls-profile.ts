/**
 * The one TLS profile (docs/certificates.md section 1), for both ends of every connection of ours: TLS 1.3 (RFC
 * 8446) and nothing older. Options of `tls.createSecureContext`, and so of every function that makes one.
 */
import { constants } from 'node:crypto';

export const TLS_PROFILE = {
  minVersion: 'TLSv1.3',
  maxVersion: 'TLSv1.3',
  ciphers: 'TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256',
  honorCipherOrder: true,
  // The hybrid group first: what is recorded today shall not be readable by a quantum computer.
  ecdhCurve: 'X25519MLKEM768:X25519:P-256',
  // RFC 8446 4.2.3. The last three cannot sign a handshake of TLS 1.3; public CAs sign certificates with them.
  sigalgs:
    'ecdsa_secp256r1_sha256:ecdsa_secp384r1_sha384:ed25519:rsa_pss_rsae_sha256:rsa_pss_rsae_sha384:rsa_pss_rsae_sha512:rsa_pkcs1_sha256:rsa_pkcs1_sha384:rsa_pkcs1_sha512',
  // No session is resumed: it would carry the identity of an older handshake past a changed certificate, and past
  // evidence. Servers issue tickets without content and keep no store; clients keep no sessions.
  secureOptions: constants.SSL_OP_NO_TICKET,
} as const;
