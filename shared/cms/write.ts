/**
 * Writes what KMS writes in `CiphertextForRecipient`: the opposite of read.ts, kept apart because only the
 * simulator seals and the enclave's image holds no code that it does not need.
 *
 * The octets follow real answers: indefinite lengths outside, definite ones inside RecipientInfos.
 */
import {
  constants,
  createCipheriv,
  createHash,
  createPublicKey,
  publicEncrypt,
  randomBytes,
} from 'node:crypto';
import { type Asn1Input, oidToBytes, TAG, writeDer } from '../asn1.ts';
import { OID } from './oids.ts';

export interface SealOptions {
  /** How the encrypted content is written; KMS has been seen to use both. */
  readonly shape?: 'constructed' | 'primitive';
  /** Ciphertext bytes in each OCTET STRING of the constructed shape. */
  readonly pieceBytes?: number;
  /** Source of the content key and the IV. OAEP's own seed is always node:crypto's. */
  readonly randomBytes?: (sizeBytes: number) => Uint8Array;
}

/** Longest answers of KMS have been seen in several pieces; below this size it is one. */
const DEFAULT_PIECE_BYTES = 1000;

/** Seals `plaintext` to the RSA key in `recipientSpki` (DER). Throws if that is not an RSA public key. */
export function sealEnvelopedData(
  plaintext: Uint8Array,
  recipientSpki: Uint8Array,
  options: SealOptions = {},
): Uint8Array {
  const random = options.randomBytes ?? randomBytes;
  const key = createPublicKey({ key: Buffer.from(recipientSpki), format: 'der', type: 'spki' });
  if (key.asymmetricKeyType !== 'rsa') throw new TypeError('expected an RSA public key');
  const contentKey = random(32);
  const iv = random(16);
  try {
    const cipher = createCipheriv('aes-256-cbc', contentKey, iv);
    const ciphertext = Buffer.concat([cipher.update(plaintext), cipher.final()]);
    const encryptedKey = publicEncrypt(
      { key, padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: 'sha256' },
      contentKey,
    );
    const content =
      options.shape === 'primitive'
        ? writeDer({ tagClass: 'context', tag: 0, content: ciphertext })
        : indefinite(0xa0, octetStrings(ciphertext, options.pieceBytes ?? DEFAULT_PIECE_BYTES));
    return indefinite(0x30, [
      writeDer(oid(OID.ENVELOPED_DATA)),
      indefinite(0xa0, [
        indefinite(0x30, [
          writeDer(VERSION_2),
          writeDer(recipientInfos(recipientSpki, encryptedKey)),
          indefinite(0x30, [
            writeDer(oid(OID.DATA)),
            writeDer(sequence(oid(OID.AES256_CBC), { tag: TAG.OCTET_STRING, content: iv })),
            content,
          ]),
        ]),
      ]),
    ]);
  } finally {
    contentKey.fill(0);
  }
}

const VERSION_2: Asn1Input = { tag: TAG.INTEGER, content: Uint8Array.of(2) };
const NULL: Asn1Input = { tag: TAG.NULL, content: new Uint8Array(0) };

function recipientInfos(spki: Uint8Array, encryptedKey: Uint8Array): Asn1Input {
  const sha256 = sequence(oid(OID.SHA256), NULL);
  const oaep = sequence(
    oid(OID.RSAES_OAEP),
    sequence(
      { tagClass: 'context', tag: 0, children: [sha256] },
      { tagClass: 'context', tag: 1, children: [sequence(oid(OID.MGF1), sha256)] },
    ),
  );
  const keyId = createHash('sha256').update(spki).digest();
  const recipient = sequence(VERSION_2, { tagClass: 'context', tag: 0, content: keyId }, oaep, {
    tag: TAG.OCTET_STRING,
    content: encryptedKey,
  });
  return { tag: TAG.SET, children: [recipient] };
}

function octetStrings(ciphertext: Uint8Array, pieceBytes: number): Uint8Array[] {
  const pieces: Uint8Array[] = [];
  for (let offset = 0; offset < ciphertext.length; offset += pieceBytes) {
    const content = ciphertext.subarray(offset, offset + pieceBytes);
    pieces.push(writeDer({ tag: TAG.OCTET_STRING, content }));
  }
  return pieces;
}

function indefinite(identifier: number, children: readonly Uint8Array[]): Uint8Array {
  return Buffer.concat([Uint8Array.of(identifier, 0x80), ...children, Uint8Array.of(0, 0)]);
}

function sequence(...children: Asn1Input[]): Asn1Input {
  return { tag: TAG.SEQUENCE, children };
}

function oid(dotted: string): Asn1Input {
  return { tag: TAG.OID, content: oidToBytes(dotted) };
}
