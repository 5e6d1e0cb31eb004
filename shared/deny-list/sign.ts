/** The signer's side of deny-list.ts. */
import type { KeyObject } from 'node:crypto';
import { signatureAlgorithmOf, signEnvelope } from '../dsse.ts';
import { canonicalJson } from '../sealed-model/canonical-json.ts';
import {
  DENY_LIST_FORMAT,
  DENY_LIST_PAYLOAD_TYPE,
  type DenyListFields,
  openDenyList,
  parseDenyList,
  timeText,
} from './deny-list.ts';
import { DenyListError } from './errors.ts';

/** A signed list. Throws DenyListError DENY_LIST_SIGNER_UNSUPPORTED, or DENY_LIST_MALFORMED for what no reader takes. */
export function signDenyList(fields: DenyListFields, signer: KeyObject): Uint8Array {
  if (signatureAlgorithmOf(signer) === undefined) {
    throw new DenyListError(
      'DENY_LIST_SIGNER_UNSUPPORTED',
      `The signer must be an ECDSA P-256 or Ed25519 key, not ${signer.asymmetricKeyType ?? 'a secret key'}.`,
    );
  }
  const { sequence, issuedAt, expiresAt, denied } = fields;
  const payload = new TextEncoder().encode(
    canonicalJson({
      format: DENY_LIST_FORMAT,
      sequence,
      issuedAt: timeText(issuedAt),
      expiresAt: timeText(expiresAt),
      denied: denied.map(({ kind, value }) => ({ [kind]: value })),
    }),
  );
  parseDenyList(payload); // never sign what no reader would accept
  const signed = signEnvelope(payload, DENY_LIST_PAYLOAD_TYPE, signer);
  openDenyList(signed);
  return signed;
}
