/**
 * Writes attestation documents as a security module would, under a chain shaped like AWS's (root, region, zone,
 * instance, leaf), and lets a test break any part of it before it is signed.
 */
import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { type Asn1Input, oidToBytes, TAG, writeDer } from '../../../shared/asn1.ts';
import { simulationAnchor, type TrustAnchor } from '../../../shared/attestation/anchors.ts';
import { type CborValue, encodeCbor } from '../../../shared/cbor.ts';
import { pcrOfMeasuredBytes, pcrOfText } from '../../../shared/pcr.ts';

export interface CertificateParts {
  version: Asn1Input[];
  serial: Asn1Input;
  tbsAlgorithm: Asn1Input;
  issuer: Asn1Input;
  notBefore: Asn1Input;
  notAfter: Asn1Input;
  subject: Asn1Input;
  spki: Asn1Input;
  /** Between the key and the extensions, where unique identifiers would be. */
  afterKey: Asn1Input[];
  extensions: Asn1Input[];
  algorithm: Asn1Input;
  signedBy: KeyObject;
  /** What happens to the signature's BIT STRING content before it is written. */
  signature: (content: Uint8Array) => Uint8Array;
  /** What happens to the finished certificate. */
  finished: (der: Uint8Array) => Uint8Array;
}

export interface DocumentParts {
  /** root, region, zone, instance, leaf. */
  chain: [CertificateParts, CertificateParts, CertificateParts, CertificateParts, CertificateParts];
  payload: Map<CborValue, CborValue>;
  encodePayload: (payload: Map<CborValue, CborValue>) => Uint8Array;
  protectedHeader: Uint8Array;
  unprotectedHeader: Uint8Array;
  signedBy: KeyObject;
  signature: (signature: Uint8Array) => Uint8Array;
  /** What happens to the finished document. */
  finished: (document: Uint8Array) => Uint8Array;
}

export interface BuiltDocument {
  readonly bytes: Uint8Array;
  readonly anchor: TrustAnchor;
}

/** When the documents are written. Certificates begin a minute earlier. */
export const NOW = new Date('2026-03-04T05:06:07.890Z');

const HOUR_MS = 3_600_000;
const BEGIN = new Date(Math.floor(NOW.getTime() / 1000) * 1000 - 60_000);

export const keyPair = (curve = 'P-384') => generateKeyPairSync('ec', { namedCurve: curve });
const keys = Array.from({ length: 5 }, () => keyPair());

export const universal = (tag: number, content: Uint8Array): Asn1Input => ({ tag, content });
export const sequence = (...children: Asn1Input[]): Asn1Input => ({ tag: TAG.SEQUENCE, children });
export const oid = (dotted: string) => universal(TAG.OID, oidToBytes(dotted));
export const octets = (content: Uint8Array) => universal(TAG.OCTET_STRING, content);
const ascii = (text: string) => new TextEncoder().encode(text);
const TRUE = universal(TAG.BOOLEAN, Uint8Array.of(0xff));

export const ECDSA_SHA384 = sequence(oid('1.2.840.10045.4.3.3'));

export const utcTime = (time: Date | string) =>
  universal(
    TAG.UTC_TIME,
    ascii(typeof time === 'string' ? time : `${time.toISOString().replaceAll(/[-:T]/g, '').slice(2, 14)}Z`),
  );

export const generalizedTime = (text: string) => universal(TAG.GENERALIZED_TIME, ascii(text));

/** Attributes in the order given, each in a set of its own, common name last. */
export const name = (commonName: string, attributes: [string, string][] = []): Asn1Input =>
  sequence(
    ...[['2.5.4.6', 'US'], ['2.5.4.10', 'Simulation'], ...attributes, ['2.5.4.3', commonName]].map(
      ([type, value]): Asn1Input => ({
        tag: TAG.SET,
        children: [
          sequence(oid(type as string), {
            tag: type === '2.5.4.6' ? TAG.PRINTABLE_STRING : TAG.UTF8_STRING,
            content: ascii(value as string),
          }),
        ],
      }),
    ),
  );

export const extension = (dotted: string, critical: boolean, content: Asn1Input): Asn1Input =>
  sequence(oid(dotted), ...(critical ? [TRUE] : []), octets(writeDer(content)));

export const basicConstraints = (ca: boolean, pathLength?: number, critical = true): Asn1Input =>
  extension(
    '2.5.29.19',
    critical,
    sequence(
      ...(ca ? [TRUE] : []),
      ...(pathLength === undefined ? [] : [universal(TAG.INTEGER, Uint8Array.of(pathLength))]),
    ),
  );

/** 0x80 digitalSignature, 0x40 nonRepudiation, 0x04 keyCertSign, 0x02 cRLSign. */
export const keyUsage = (bits: number, critical = true): Asn1Input => {
  const unused = bits === 0 ? 0 : 31 - Math.clz32(bits & -bits);
  return extension('2.5.29.15', critical, universal(TAG.BIT_STRING, Uint8Array.of(unused, bits)));
};

function certificateParts(
  level: number,
  commonName: string,
  lifeHours: number,
  extensions: Asn1Input[],
  attributes: [string, string][],
): CertificateParts {
  return {
    version: [universal(TAG.INTEGER, Uint8Array.of(2))],
    serial: universal(TAG.INTEGER, Uint8Array.of(0x40 + level)),
    tbsAlgorithm: ECDSA_SHA384,
    issuer: sequence(),
    notBefore: utcTime(BEGIN),
    notAfter: utcTime(new Date(BEGIN.getTime() + lifeHours * HOUR_MS)),
    subject: name(commonName, attributes),
    spki: { der: new Uint8Array(keys[level]?.publicKey.export({ type: 'spki', format: 'der' }) ?? []) },
    afterKey: [],
    extensions,
    algorithm: ECDSA_SHA384,
    signedBy: keys[Math.max(level - 1, 0)]?.privateKey as KeyObject,
    signature: (content) => content,
    finished: (der) => der,
  };
}

export function encodeCertificate(parts: CertificateParts): Uint8Array {
  const tbs = writeDer(
    sequence(
      { tagClass: 'context', tag: 0, children: parts.version },
      parts.serial,
      parts.tbsAlgorithm,
      parts.issuer,
      sequence(parts.notBefore, parts.notAfter),
      parts.subject,
      parts.spki,
      ...parts.afterKey,
      { tagClass: 'context', tag: 3, children: [sequence(...parts.extensions)] },
    ),
  );
  const signature = Buffer.concat([Uint8Array.of(0), sign('sha384', tbs, parts.signedBy)]);
  return parts.finished(
    writeDer(
      sequence(
        { der: tbs },
        parts.algorithm,
        universal(TAG.BIT_STRING, parts.signature(new Uint8Array(signature))),
      ),
    ),
  );
}

const INSTANCE = 'i-0123456789abcdef0';
const ENCLAVE = `${INSTANCE}-enc0123456789abcdef`;
const REGION = 'eu-west-1';

/** What the simulated machine would answer, before anything is broken. */
export function goodParts(): DocumentParts {
  const ca = (pathLength?: number, bits = 0x86) => [basicConstraints(true, pathLength), keyUsage(bits)];
  const skip = extension('2.5.29.14', false, octets(new Uint8Array(20)));
  const seattle: [string, string][] = [
    ['2.5.4.8', 'Washington'],
    ['2.5.4.7', 'Seattle'],
  ];
  const chain: DocumentParts['chain'] = [
    certificateParts(0, 'simulation.nitro-enclaves', 24 * 3650, [...ca(), skip], []),
    certificateParts(1, `0011223344556677.${REGION}.nitro-enclaves`, 481, [...ca(2), skip], []),
    certificateParts(2, `8899aabbccddeeff.zonal.${REGION}.nitro-enclaves`, 144, [...ca(1), skip], seattle),
    certificateParts(
      3,
      `${INSTANCE}.${REGION}.nitro-enclaves`,
      24,
      ca(0, 0x04),
      [...seattle].reverse() as typeof seattle,
    ),
    certificateParts(
      4,
      `${ENCLAVE}.${REGION}.aws`,
      3,
      [basicConstraints(false), keyUsage(0xc0, false)],
      seattle,
    ),
  ];
  const pcrs = new Map<CborValue, CborValue>();
  for (let index = 0; index < 16; index++) pcrs.set(index, new Uint8Array(48));
  for (const index of [0, 1, 2]) pcrs.set(index, pcrOfMeasuredBytes(Uint8Array.of(index)));
  pcrs.set(4, pcrOfText(INSTANCE));
  pcrs.set(16, pcrOfMeasuredBytes(Uint8Array.of(16)));
  return {
    chain,
    payload: new Map<CborValue, CborValue>([
      ['module_id', ENCLAVE],
      ['digest', 'SHA384'],
      ['timestamp', NOW.getTime()],
      ['pcrs', pcrs],
      ['certificate', new Uint8Array(0)],
      ['cabundle', []],
      ['public_key', null],
      ['user_data', Uint8Array.of(1, 2, 3)],
      ['nonce', Uint8Array.of(4, 5, 6)],
    ]),
    encodePayload: encodeCbor,
    protectedHeader: Uint8Array.of(0xa1, 0x01, 0x38, 0x22),
    unprotectedHeader: Uint8Array.of(0xa0),
    signedBy: keys[4]?.privateKey as KeyObject,
    signature: (signature) => signature,
    finished: (document) => document,
  };
}

/**
 * Builds a document. `change` may break any part; certificate and cabundle are filled in from the chain unless
 * it set them. The anchor is the root as it was finally written.
 */
export function buildDocument(change: (parts: DocumentParts) => void = () => {}): BuiltDocument {
  const parts = goodParts();
  change(parts);
  for (const [i, certificate] of parts.chain.entries()) {
    const issuer = parts.chain[Math.max(i - 1, 0)] as CertificateParts;
    if (writeDer(certificate.issuer).length === 2) certificate.issuer = issuer.subject;
  }
  const encoded = parts.chain.map(encodeCertificate);
  const { payload } = parts;
  if ((payload.get('certificate') as Uint8Array | undefined)?.length === 0) {
    payload.set('certificate', encoded.at(-1) as Uint8Array);
  }
  if ((payload.get('cabundle') as CborValue[] | null | undefined)?.length === 0) {
    payload.set('cabundle', encoded.slice(0, -1));
  }
  return {
    bytes: signDocument(parts, parts.encodePayload(payload)),
    anchor: simulationAnchor(encoded[0] as Uint8Array),
  };
}

function signDocument(parts: DocumentParts, payload: Uint8Array): Uint8Array {
  const signed = encodeCbor(['Signature1', parts.protectedHeader, new Uint8Array(0), payload]);
  const signature = sign('sha384', signed, { key: parts.signedBy, dsaEncoding: 'ieee-p1363' });
  const document = Buffer.concat([
    Uint8Array.of(0x84),
    encodeCbor(parts.protectedHeader),
    parts.unprotectedHeader,
    encodeCbor(payload),
    encodeCbor(parts.signature(new Uint8Array(signature))),
  ]);
  return parts.finished(new Uint8Array(document));
}

/** The same map with an open end, as newer hypervisors write it. */
export function encodeIndefinite(payload: Map<CborValue, CborValue>): Uint8Array {
  const entries = [...payload].flatMap(([key, value]) => [encodeCbor(key), encodeCbor(value)]);
  return new Uint8Array(Buffer.concat([Uint8Array.of(0xbf), ...entries, Uint8Array.of(0xff)]));
}
