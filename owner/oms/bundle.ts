/**
 * An OpenSSF Model Signing bundle: a Sigstore bundle v0.3 in JSON around a DSSE envelope with one signature by a key
 * (OMS specification 1.0, section 4). The key is named by a hint, SHA-256 of its SubjectPublicKeyInfo in PEM, as the
 * reference implementation computes it; who signed is decided by trying the expected key.
 */
import { createHash, createPublicKey, type KeyObject, sign, verify } from 'node:crypto';
import { preAuthenticationEncoding } from '../../shared/dsse.ts';
import { decodeBase64 } from '../../shared/sealed-model/json-shapes.ts';
import { PAYLOAD_TYPE } from '../../shared/sealed-model/manifest.ts';
import { OmsError } from './errors.ts';
import { malformed, parseJson, record, STATEMENT_MAX_BYTES, unsupported } from './statement.ts';

export const MEDIA_TYPE = 'application/vnd.dev.sigstore.bundle.v0.3+json';
/** Base64 of the largest statement, and the little around it. */
export const BUNDLE_MAX_BYTES = Math.ceil(STATEMENT_MAX_BYTES / 3) * 4 + 65_536;

/** Each curve has its hash (Sigstore's PKIX_ECDSA_P256_SHA_256 and its kin). */
const HASHES: Readonly<Record<string, string>> = {
  prime256v1: 'sha256',
  secp384r1: 'sha384',
  secp521r1: 'sha512',
};

/** Throws OMS_KEY_UNUSABLE. */
export function omsHashOf(key: KeyObject): string {
  const curve = key.asymmetricKeyType === 'ec' ? key.asymmetricKeyDetails?.namedCurve : undefined;
  const hash = curve === undefined ? undefined : HASHES[curve];
  if (hash !== undefined) return hash;
  throw new OmsError(
    'OMS_KEY_UNUSABLE',
    `Model Signing needs an ECDSA key on P-256, P-384 or P-521, not ${curve ?? key.asymmetricKeyType ?? 'a secret key'}.`,
  );
}

/** The bundle's bytes. Throws OMS_KEY_UNUSABLE. */
export function signOmsStatement(statement: Uint8Array, signer: KeyObject): Uint8Array {
  const signature = sign(omsHashOf(signer), preAuthenticationEncoding(PAYLOAD_TYPE, statement), signer);
  return new TextEncoder().encode(
    `${JSON.stringify({
      mediaType: MEDIA_TYPE,
      verificationMaterial: { publicKey: { hint: hintOf(signer) }, tlogEntries: [] },
      dsseEnvelope: {
        payload: Buffer.from(statement).toString('base64'),
        payloadType: PAYLOAD_TYPE,
        signatures: [{ sig: signature.toString('base64'), keyid: '' }],
      },
    })}\n`,
  );
}

/** The statement that this key signed. Throws OMS_MALFORMED, OMS_UNSUPPORTED, OMS_SIGNATURE_REFUSED, OMS_KEY_UNUSABLE. */
export function verifiedOmsStatement(bundle: Uint8Array, signer: KeyObject): Uint8Array {
  const hash = omsHashOf(signer);
  const { statement, signature, hint } = parseBundle(bundle);
  if (hint !== undefined && hint !== hintOf(signer)) {
    throw new OmsError(
      'OMS_SIGNATURE_REFUSED',
      `The bundle says that it is signed by key ${JSON.stringify(hint.slice(0, 80))}, not ${hintOf(signer)}.`,
    );
  }
  if (verify(hash, preAuthenticationEncoding(PAYLOAD_TYPE, statement), signer, signature)) return statement;
  throw new OmsError('OMS_SIGNATURE_REFUSED', 'The signature of the bundle is not by the expected key.');
}

interface Parts {
  readonly statement: Uint8Array;
  readonly signature: Uint8Array;
  readonly hint: string | undefined;
}

function parseBundle(bytes: Uint8Array): Parts {
  if (bytes.length > BUNDLE_MAX_BYTES) throw malformed(`it has more than ${BUNDLE_MAX_BYTES} bytes`);
  const bundle = record(parseJson(bytes, 'bundle'), 'the bundle');
  if (bundle.mediaType !== MEDIA_TYPE) {
    throw malformed(`its media type must be ${MEDIA_TYPE}, not ${JSON.stringify(bundle.mediaType)}`);
  }
  const material = record(bundle.verificationMaterial, 'verificationMaterial');
  if (!Object.hasOwn(material, 'publicKey')) throw unsupported('it is signed with a certificate, not a key');
  // Before 1.1 the reference implementation wrote the key itself (rawBytes) in place of a hint.
  const { hint } = record(material.publicKey, 'publicKey');
  const envelope = record(bundle.dsseEnvelope, 'dsseEnvelope');
  if (envelope.payloadType !== PAYLOAD_TYPE) throw malformed(`its payload type must be ${PAYLOAD_TYPE}`);
  const { signatures } = envelope;
  if (!Array.isArray(signatures) || signatures.length !== 1) throw malformed('it must have one signature');
  return {
    statement: base64(envelope.payload, 'its payload'),
    signature: base64(record(signatures[0], 'the signature').sig, 'its signature'),
    hint: typeof hint === 'string' && hint !== '' ? hint : undefined,
  };
}

function hintOf(key: KeyObject): string {
  const pem = (key.type === 'private' ? createPublicKey(key) : key).export({ type: 'spki', format: 'pem' });
  return createHash('sha256').update(pem).digest('hex');
}

function base64(value: unknown, what: string): Uint8Array {
  const bytes = typeof value === 'string' ? decodeBase64(value) : undefined;
  if (bytes !== undefined) return bytes;
  throw malformed(`${what} is not base64`);
}
