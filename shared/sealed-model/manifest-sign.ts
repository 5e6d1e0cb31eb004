/** The signer's side of manifest.ts: writes the statement, signs it, puts both into an envelope. */
import { createHash, createPublicKey, type KeyObject, sign } from 'node:crypto';
import { canonicalJson } from './canonical-json.ts';
import {
  type Envelope,
  type ManifestFields,
  PAYLOAD_TYPE,
  PREDICATE_TYPE,
  parseStatement,
  preAuthenticationEncoding,
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
  return encodeEnvelope({ payload: encodeStatement(fields), signatures: [] }, []);
}

/** manifest.json with one signature. */
export function signManifest(fields: ManifestFields, signer: KeyObject): Uint8Array {
  const payload = encodeStatement(fields);
  const signature = sign(
    signatureAlgorithmOf(signer),
    preAuthenticationEncoding(PAYLOAD_TYPE, payload),
    signer,
  );
  return encodeEnvelope({ payload, signatures: [signature] }, [keyIdOf(signer)]);
}

/** SHA-256 of the public key's SubjectPublicKeyInfo, hex: a hint for people and tools, never trusted. */
export function keyIdOf(key: KeyObject): string {
  const spki = (key.type === 'private' ? createPublicKey(key) : key).export({ type: 'spki', format: 'der' });
  return createHash('sha256').update(spki).digest('hex');
}

function encodeEnvelope({ payload, signatures }: Envelope, keyIds: readonly string[]): Uint8Array {
  return new TextEncoder().encode(
    `${canonicalJson({
      payload: Buffer.from(payload).toString('base64'),
      payloadType: PAYLOAD_TYPE,
      signatures: signatures.map((signature, index) => ({
        keyid: keyIds[index],
        sig: Buffer.from(signature).toString('base64'),
      })),
    })}\n`,
  );
}
