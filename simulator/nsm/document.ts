/**
 * Writes attestation documents as Nitro hardware does (AWS attestation_process.md 3.1): an untagged
 * COSE_Sign1 (RFC 9052 4.2) with ES384 in the protected header, and a payload map whose nine keys are always
 * there, in one order, null when the caller gave nothing. Hardware wrote a definite map until 2025 and writes
 * an indefinite one since.
 */
import { type KeyObject, sign } from 'node:crypto';
import { promisify } from 'node:util';
import { type CborValue, encodeCbor } from '../../shared/cbor.ts';

export type PayloadMap = 'definite' | 'indefinite';

export interface DocumentContent {
  readonly moduleId: string;
  readonly timestampMs: number;
  readonly pcrs: ReadonlyMap<number, Uint8Array>;
  readonly certificate: Uint8Array;
  readonly cabundle: readonly Uint8Array[];
  readonly publicKey: Uint8Array | null;
  readonly userData: Uint8Array | null;
  readonly nonce: Uint8Array | null;
}

/** {1: -35}: the algorithm is ES384. */
const PROTECTED_HEADER = Uint8Array.of(0xa1, 0x01, 0x38, 0x22);
const MAP_OF_ANY_LENGTH = 0xbf;
const BREAK = 0xff;

const signAsync = promisify(sign);

export async function writeAttestationDocument(
  content: DocumentContent,
  payloadMap: PayloadMap,
  privateKey: KeyObject,
): Promise<Uint8Array> {
  const payload = encodePayload(content, payloadMap);
  const toBeSigned = encodeCbor(['Signature1', PROTECTED_HEADER, new Uint8Array(0), payload]);
  const signature = await signAsync('sha384', toBeSigned, { key: privateKey, dsaEncoding: 'ieee-p1363' });
  return encodeCbor([PROTECTED_HEADER, new Map(), payload, signature]);
}

function encodePayload(content: DocumentContent, payloadMap: PayloadMap): Uint8Array {
  const entries: readonly (readonly [string, CborValue])[] = [
    ['module_id', content.moduleId],
    ['digest', 'SHA384'],
    ['timestamp', content.timestampMs],
    ['pcrs', new Map(content.pcrs)],
    ['certificate', content.certificate],
    ['cabundle', [...content.cabundle]],
    ['public_key', content.publicKey],
    ['user_data', content.userData],
    ['nonce', content.nonce],
  ];
  if (payloadMap === 'definite') return encodeCbor(new Map(entries));
  const parts = entries.flatMap(([key, value]) => [encodeCbor(key), encodeCbor(value)]);
  return Buffer.concat([Uint8Array.of(MAP_OF_ANY_LENGTH), ...parts, Uint8Array.of(BREAK)]);
}
