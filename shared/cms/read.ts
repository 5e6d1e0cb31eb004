/**
 * Opens the CMS message in which KMS answers an attested request (`CiphertextForRecipient`). A primer:
 *
 *     ContentInfo { envelopedData, [0] EnvelopedData {
 *       version 2,
 *       RecipientInfos { exactly one KeyTransRecipientInfo {
 *         version 2, rid [0] SHA-256(SPKI), RSAES-OAEP(SHA-256, MGF1 SHA-256), encryptedKey } },
 *       EncryptedContentInfo { data, AES-256-CBC(IV), [0] encryptedContent } } }
 *
 * (RFC 5652 section 6, RFC 4055 section 4, RFC 3565.) KMS writes BER with indefinite lengths. The encrypted
 * content comes in two shapes: a constructed [0] with one or more OCTET STRINGs, which are joined before
 * decryption, or one primitive [0]. `openssl cms` opens messages with a foreign recipient id, two recipients,
 * another inner type or trailing bytes; nothing here does.
 *
 * CBC carries no authentication. That the content is what KMS sent follows from the TLS session to KMS, and
 * that it is the right data key from the sealed model's key commitment. So a failure to decrypt has one
 * error, and says nothing of the step that failed.
 */
import { constants, createDecipheriv, createHash, type KeyObject, privateDecrypt } from 'node:crypto';
import { type Asn1, readBer, TAG } from '../asn1.ts';
import { CmsError } from './errors.ts';
import { OID } from './oids.ts';
import {
  expectOid,
  expectTag,
  expectVersion,
  fields,
  malformed,
  members,
  primitive,
  refuse,
} from './shape.ts';

/** KMS API reference, Decrypt: CiphertextForRecipient is 1 to 6144 bytes. */
export const CIPHERTEXT_FOR_RECIPIENT_MAX_BYTES = 6144;

const AES_BLOCK_BYTES = 16;
const AES_256_KEY_BYTES = 32;
/** KMS nests 5 levels deep around the OCTET STRINGs; the rest is room for nested constructed strings. */
const MAX_DEPTH = 12;
const MAX_VALUES = 512;

/** What the message says of itself. Nothing in it is authenticated. */
export interface EnvelopedData {
  /** SHA-256 of the recipient's SubjectPublicKeyInfo. */
  readonly recipientKeyId: Uint8Array;
  readonly encryptedKey: Uint8Array;
  readonly iv: Uint8Array;
  /** All pieces joined; whole blocks, at least one. */
  readonly ciphertext: Uint8Array;
}

/** Checks everything that can be checked without the private key. Throws CmsError. */
export function parseEnvelopedData(ber: Uint8Array): EnvelopedData {
  if (ber.length > CIPHERTEXT_FOR_RECIPIENT_MAX_BYTES) {
    refuse(
      'CMS_TOO_LARGE',
      `expected at most ${CIPHERTEXT_FOR_RECIPIENT_MAX_BYTES} bytes, found ${ber.length}`,
    );
  }
  const [type, wrapped] = fields(readRoot(ber), 'ContentInfo', 2);
  expectOid(type, OID.ENVELOPED_DATA, 'CMS_TYPE_REFUSED', 'the message type');
  const [enveloped] = members(wrapped, 'context', 0, 'the content of ContentInfo', 1);
  const [version, recipients, content] = fields(enveloped, 'EnvelopedData', 3);
  expectVersion(version, 'EnvelopedData');
  return { ...parseRecipient(recipients), ...parseContent(content) };
}

/**
 * Opens a message that KMS sealed to `recipient`. The result is in its own ArrayBuffer, and the caller wipes
 * it. Throws CmsError: a precise code for what the message shows to everybody, CMS_DECRYPTION_FAILED for all
 * that depends on the private key.
 */
export function openEnvelopedData(
  ber: Uint8Array,
  recipient: { readonly privateKey: KeyObject; readonly spki: Uint8Array },
): Uint8Array<ArrayBuffer> {
  const message = parseEnvelopedData(ber);
  const ownKeyId = createHash('sha256').update(recipient.spki).digest();
  if (!ownKeyId.equals(message.recipientKeyId)) {
    refuse('CMS_RECIPIENT_REFUSED', 'the recipient id is not the SHA-256 of this public key');
  }
  const modulusBytes = (recipient.privateKey.asymmetricKeyDetails?.modulusLength ?? 0) / 8;
  if (message.encryptedKey.length !== modulusBytes) {
    refuse(
      'CMS_KEY_ENCRYPTION_REFUSED',
      `expected an encrypted key of ${modulusBytes} bytes, found ${message.encryptedKey.length}`,
    );
  }
  return decrypt(message, recipient.privateKey);
}

function decrypt(message: EnvelopedData, privateKey: KeyObject): Uint8Array<ArrayBuffer> {
  const secrets: Uint8Array[] = [];
  try {
    const contentKey = privateDecrypt(
      { key: privateKey, padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: 'sha256' },
      message.encryptedKey,
    );
    secrets.push(contentKey);
    if (contentKey.length !== AES_256_KEY_BYTES) throw new Error();
    const decipher = createDecipheriv('aes-256-cbc', contentKey, message.iv);
    const start = decipher.update(message.ciphertext);
    secrets.push(start);
    const end = decipher.final();
    secrets.push(end);
    const plaintext = new Uint8Array(new ArrayBuffer(start.length + end.length));
    plaintext.set(start);
    plaintext.set(end, start.length);
    return plaintext;
  } catch {
    throw new CmsError('CMS_DECRYPTION_FAILED', 'the message could not be decrypted');
  } finally {
    for (const secret of secrets) secret.fill(0);
  }
}

function parseRecipient(recipients: Asn1): Pick<EnvelopedData, 'recipientKeyId' | 'encryptedKey'> {
  expectTag(recipients, 'universal', TAG.SET, 'RecipientInfos');
  const [recipient, ...others] = recipients.children;
  if (recipient === undefined || others.length > 0) {
    refuse('CMS_RECIPIENT_REFUSED', `expected exactly one recipient, found ${recipients.children.length}`);
  }
  const [version, keyId, algorithm, encryptedKey] = fields(recipient, 'KeyTransRecipientInfo', 4);
  // Version 2 goes with a key id, version 0 with issuer and serial number (RFC 5652 6.2.1).
  expectVersion(version, 'KeyTransRecipientInfo');
  const id = primitive(keyId, 'context', 0, 'the recipient id');
  if (id.length !== 32) refuse('CMS_RECIPIENT_REFUSED', `expected an id of 32 bytes, found ${id.length}`);
  expectOaepSha256(algorithm);
  return {
    recipientKeyId: id,
    encryptedKey: primitive(encryptedKey, 'universal', TAG.OCTET_STRING, 'the encrypted key'),
  };
}

/**
 * Absent parameters mean SHA-1 (RFC 4055 4.1), which KMS once honoured: so both must be there. The label is
 * empty: left out, as KMS does, or written out.
 */
function expectOaepSha256(algorithm: Asn1): void {
  const code = 'CMS_KEY_ENCRYPTION_REFUSED';
  const [oid, parameters] = fields(algorithm, 'the key encryption algorithm', 2, code);
  expectOid(oid, OID.RSAES_OAEP, code, 'the key encryption algorithm');
  expectTag(parameters, 'universal', TAG.SEQUENCE, 'the RSAES-OAEP parameters', code);
  const [hash, mask, label, ...others] = parameters.children;
  if (hash === undefined || mask === undefined || others.length > 0) {
    refuse(code, 'the RSAES-OAEP parameters are not hash and mask');
  }
  if (label !== undefined) expectEmptyLabel(label);
  const [hashAlgorithm] = members(hash, 'context', 0, 'the OAEP hash', 1, code);
  expectSha256(hashAlgorithm, 'the OAEP hash');
  const [maskAlgorithm] = members(mask, 'context', 1, 'the OAEP mask', 1, code);
  const [maskOid, maskHash] = fields(maskAlgorithm, 'the OAEP mask', 2, code);
  expectOid(maskOid, OID.MGF1, code, 'the OAEP mask');
  expectSha256(maskHash, 'the hash of the OAEP mask');
}

/** pSpecifiedEmpty, the default (RFC 4055 4.1). */
function expectEmptyLabel(label: Asn1): void {
  const code = 'CMS_KEY_ENCRYPTION_REFUSED';
  const [algorithm] = members(label, 'context', 2, 'the OAEP label', 1, code);
  const [oid, value] = fields(algorithm, 'the OAEP label', 2, code);
  expectOid(oid, OID.P_SPECIFIED, code, 'the OAEP label');
  if (primitive(value, 'universal', TAG.OCTET_STRING, 'the OAEP label', code).length > 0) {
    refuse(code, 'the OAEP label is not empty');
  }
}

/** NULL parameters and absent ones mean the same (RFC 4055 2.1: readers must accept both). */
function expectSha256(algorithm: Asn1, what: string): void {
  const code = 'CMS_KEY_ENCRYPTION_REFUSED';
  expectTag(algorithm, 'universal', TAG.SEQUENCE, what, code);
  const [oid, parameters, ...others] = algorithm.children;
  if (oid === undefined || others.length > 0) refuse(code, `${what} is not an algorithm identifier`);
  expectOid(oid, OID.SHA256, code, what);
  if (parameters !== undefined && primitive(parameters, 'universal', TAG.NULL, what, code).length > 0) {
    refuse(code, `${what} has parameters`);
  }
}

function parseContent(info: Asn1): Pick<EnvelopedData, 'iv' | 'ciphertext'> {
  const code = 'CMS_CONTENT_ENCRYPTION_REFUSED';
  const [type, algorithm, content] = fields(info, 'EncryptedContentInfo', 3);
  expectOid(type, OID.DATA, 'CMS_TYPE_REFUSED', 'the content type');
  const [oid, parameters] = fields(algorithm, 'the content encryption algorithm', 2, code);
  expectOid(oid, OID.AES256_CBC, code, 'the content encryption algorithm');
  const iv = primitive(parameters, 'universal', TAG.OCTET_STRING, 'the IV', code);
  if (iv.length !== AES_BLOCK_BYTES) refuse(code, `expected an IV of 16 bytes, found ${iv.length}`);

  if (content.tagClass !== 'context' || content.tag !== 0) malformed('the encrypted content is not a [0]');
  const pieces = content.constructed ? content.children.flatMap(octetStrings) : [content.content];
  const ciphertext = join(pieces);
  if (ciphertext.length === 0 || ciphertext.length % AES_BLOCK_BYTES !== 0) {
    refuse(code, `expected whole blocks of 16 bytes, at least one; found ${ciphertext.length} bytes`);
  }
  return { iv, ciphertext };
}

/** An OCTET STRING may itself be constructed of OCTET STRINGs (X.690 8.7.3). The depth is bounded already. */
function octetStrings(node: Asn1): Uint8Array[] {
  if (node.tagClass !== 'universal' || node.tag !== TAG.OCTET_STRING) {
    malformed('the encrypted content holds something other than OCTET STRINGs');
  }
  return node.constructed ? node.children.flatMap(octetStrings) : [node.content];
}

function join(pieces: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let offset = 0;
  for (const piece of pieces) {
    whole.set(piece, offset);
    offset += piece.length;
  }
  return whole;
}

function readRoot(ber: Uint8Array): Asn1 {
  try {
    return readBer(ber, {
      maxBytes: CIPHERTEXT_FOR_RECIPIENT_MAX_BYTES,
      maxDepth: MAX_DEPTH,
      maxValues: MAX_VALUES,
    });
  } catch (cause) {
    throw new CmsError('CMS_MALFORMED', 'expected exactly one BER value', cause);
  }
}
