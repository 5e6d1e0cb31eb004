/**
 * The enclave's TLS identity: a P-256 key that is made here and never leaves, and a certificate that it signs
 * itself (RFC 5280). Nobody is asked to trust the certificate: callers compare the SHA-256 of its public key
 * with the one in the evidence (docs/evidence.md section 2). It therefore names nothing and never expires.
 */
import { createHash, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { type Asn1Input, oidToBytes, TAG, writeDer } from '../shared/asn1.ts';

export interface TlsIdentity {
  readonly certificatePem: string;
  /** The private key, PKCS #8 in PEM, in a buffer of its own. Whoever made the secure context wipes it. */
  readonly key: Uint8Array<ArrayBuffer>;
  /** SHA-256 of the certificate's SubjectPublicKeyInfo in DER. */
  readonly spkiSha256: Uint8Array;
}

/** RFC 5280 4.1.2.2 allows 20 octets; 16 random ones are unique without a record of earlier ones. */
export const SERIAL_BYTES = 16;

/** `at` is the first moment of validity; `serial` is 16 random bytes. */
export function createTlsIdentity(at: Date, serial: Uint8Array): TlsIdentity {
  if (serial.length !== SERIAL_BYTES) {
    throw new RangeError(`serial: expected ${SERIAL_BYTES} bytes, found ${serial.length}`);
  }
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'prime256v1' });
  const spki = publicKey.export({ type: 'spki', format: 'der' });
  const certificate = signCertificate(tbsCertificate(at, serial, spki), privateKey);
  return {
    certificatePem: `-----BEGIN CERTIFICATE-----\n${certificate.toString('base64').replace(/.{64}(?=.)/g, '$&\n')}\n-----END CERTIFICATE-----\n`,
    key: privateKeyPem(privateKey),
    spkiSha256: createHash('sha256').update(spki).digest(),
  };
}

function signCertificate(tbs: Uint8Array, privateKey: KeyObject): Buffer {
  const signature = sign('sha256', tbs, { key: privateKey, dsaEncoding: 'der' });
  return Buffer.from(writeDer(sequence({ der: tbs }, ECDSA_WITH_SHA256, bitString(signature, 0))));
}

/** RFC 5280 4.1: TBSCertificate. */
function tbsCertificate(at: Date, serial: Uint8Array, spki: Uint8Array): Uint8Array {
  const name = sequence({ tag: TAG.SET, children: [sequence(oid('2.5.4.3'), utf8('Strongroom enclave'))] });
  return writeDer(
    sequence(
      { tagClass: 'context', tag: 0, children: [{ tag: TAG.INTEGER, content: Uint8Array.of(2) }] },
      { tag: TAG.INTEGER, content: positive(serial) },
      ECDSA_WITH_SHA256,
      name,
      sequence(time(at), NO_EXPIRY),
      name,
      { der: spki },
      { tagClass: 'context', tag: 3, children: [sequence(...EXTENSIONS)] },
    ),
  );
}

function sequence(...children: Asn1Input[]): Asn1Input {
  return { tag: TAG.SEQUENCE, children };
}

function oid(dotted: string): Asn1Input {
  return { tag: TAG.OID, content: oidToBytes(dotted) };
}

function utf8(text: string): Asn1Input {
  return { tag: TAG.UTF8_STRING, content: Buffer.from(text, 'utf8') };
}

function bitString(bits: Uint8Array, unusedBits: number): Asn1Input {
  const content = new Uint8Array(bits.length + 1);
  content[0] = unusedBits;
  content.set(bits, 1);
  return { tag: TAG.BIT_STRING, content };
}

function extension(id: string, value: Asn1Input): Asn1Input {
  const critical: Asn1Input = { tag: TAG.BOOLEAN, content: Uint8Array.of(0xff) };
  return sequence(oid(id), critical, { tag: TAG.OCTET_STRING, content: writeDer(value) });
}

/** RFC 5758 3.2: no parameters. */
const ECDSA_WITH_SHA256 = sequence(oid('1.2.840.10045.4.3.2'));

/** RFC 5280 4.1.2.5: this very moment says that a certificate has no expiry. */
const NO_EXPIRY: Asn1Input = { tag: TAG.GENERALIZED_TIME, content: Buffer.from('99991231235959Z', 'latin1') };

/** RFC 5280 4.2.1.9, 4.2.1.3 and 4.2.1.12: not a CA; it signs handshakes; of TLS servers only. */
const EXTENSIONS = [
  extension('2.5.29.19', sequence()),
  extension('2.5.29.15', bitString(Uint8Array.of(0x80), 7)),
  extension('2.5.29.37', sequence(oid('1.3.6.1.5.5.7.3.1'))),
];

/** An INTEGER of fixed length: positive and minimal because the first octet is 0x40 to 0x7f (X.690 8.3). */
function positive(serial: Uint8Array): Uint8Array {
  const content = Uint8Array.from(serial);
  content[0] = ((content[0] as number) & 0x3f) | 0x40;
  return content;
}

/** RFC 5280 4.1.2.5: UTCTime until 2049, GeneralizedTime from 2050. */
function time(at: Date): Asn1Input {
  const digits = at
    .toISOString()
    .replace(/\.\d{3}Z$/, 'Z')
    .replace(/[-:T]/g, '');
  return at.getUTCFullYear() < 2050
    ? { tag: TAG.UTC_TIME, content: Buffer.from(digits.slice(2), 'latin1') }
    : { tag: TAG.GENERALIZED_TIME, content: Buffer.from(digits, 'latin1') };
}

const PEM_BEGIN = Buffer.from('-----BEGIN PRIVATE KEY-----\n', 'latin1');
const PEM_END = Buffer.from('\n-----END PRIVATE KEY-----\n', 'latin1');
const BASE64 = Buffer.from('ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/', 'latin1');

/** Node takes a TLS key as PEM only, and its own PEM export is a string, which could not be wiped. */
function privateKeyPem(privateKey: KeyObject): Uint8Array<ArrayBuffer> {
  const der = privateKey.export({ type: 'pkcs8', format: 'der' });
  try {
    const encodedBytes = Math.ceil(der.length / 3) * 4;
    const lineBreaks = Math.ceil(encodedBytes / 64) - 1;
    const pem = new Uint8Array(
      new ArrayBuffer(PEM_BEGIN.length + encodedBytes + lineBreaks + PEM_END.length),
    );
    pem.set(PEM_BEGIN);
    pem.set(PEM_END, pem.length - PEM_END.length);
    writeBase64Lines(der, pem.subarray(PEM_BEGIN.length, pem.length - PEM_END.length));
    return pem;
  } finally {
    der.fill(0);
  }
}

function writeBase64Lines(bytes: Uint8Array, target: Uint8Array): void {
  let at = 0;
  const put = (sextet: number | undefined): void => {
    if (at % 65 === 64) target[at++] = 0x0a;
    target[at++] = sextet === undefined ? 0x3d : (BASE64[sextet] as number);
  };
  for (let i = 0; i < bytes.length; i += 3) {
    const [a = 0, b, c] = bytes.subarray(i, i + 3);
    put(a >> 2);
    put(((a & 3) << 4) | ((b ?? 0) >> 4));
    put(b === undefined ? undefined : ((b & 15) << 2) | ((c ?? 0) >> 6));
    put(c === undefined ? undefined : c & 63);
  }
}
