/** The signer's side of manifest.ts: writes the statement, signs it, puts both into an envelope. */
import type { KeyObject } from 'node:crypto';
import { encodeEnvelope, signEnvelope } from '../dsse.ts';
import { canonicalJson } from './canonical-json.ts';
import {
  type ManifestFields,
  PAYLOAD_TYPE,
  PREDICATE_TYPE,
  parseStatement,
  STATEMENT_TYPE,
  SUBJECT_NAME,
  signatureAlgorithmOf,
} from './manifest.ts';

/** The in-toto Statement about a sealed model, canonical JSON. */
export function encodeStatement(fields: ManifestFields): Uint8Array {
  const statement = new TextEncoder().encode(
    canonicalJson({
      _type: STATEMENT_TYPE,
      predicateType: PREDICATE_TYPE,
      subject: [{ name: SUBJECT_NAME, digest: { sha256: fields.contentId } }],
      predicate: {
        name: fields.name,
        version: fields.version,
        versionLabel: fields.versionLabel,
        format: fields.format,
        files: fields.files.map(({ path, sizeBytes, sha256 }) => ({ path, sizeBytes, sha256 })),
      },
    }),
  );
  parseStatement(statement); // never sign what no reader would accept
  return statement;
}

/** manifest.json without a signature: what a seal leaves behind when the signer is someone else. */
export function encodeUnsignedManifest(fields: ManifestFields): Uint8Array {
  return encodeEnvelope({ payload: encodeStatement(fields), signatures: [] }, PAYLOAD_TYPE, []);
}

/** manifest.json with one signature. */
export function signManifest(fields: ManifestFields, signer: KeyObject): Uint8Array {
  signatureAlgorithmOf(signer);
  return signEnvelope(encodeStatement(fields), PAYLOAD_TYPE, signer);
}
