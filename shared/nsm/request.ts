/**
 * Requests to the Nitro Security Module. A request without fields is the text of its name; any other is a map
 * of one entry, its name and a map of its fields (aws-nitro-enclaves-nsm-api src/api/mod.rs: serde's external
 * enum form). docs/attestation.md, section 7 lists them.
 */
import { type CborValue, encodeCbor } from '../cbor.ts';
import { NsmMessageError } from './errors.ts';

export type NsmRequest =
  | { readonly kind: 'DescribeNSM' }
  | { readonly kind: 'GetRandom' }
  | { readonly kind: 'DescribePCR'; readonly index: number }
  | { readonly kind: 'ExtendPCR'; readonly index: number; readonly data: Uint8Array }
  | { readonly kind: 'LockPCR'; readonly index: number }
  /** Locks registers 0 to range - 1. */
  | { readonly kind: 'LockPCRs'; readonly range: number }
  | {
      readonly kind: 'Attestation';
      readonly userData: Uint8Array | null;
      readonly nonce: Uint8Array | null;
      readonly publicKey: Uint8Array | null;
    };

/** drivers/misc/nsm.c: NSM_REQUEST_MAX_SIZE. A longer request fails with EMSGSIZE. */
export const NSM_REQUEST_MAX_BYTES = 4096;
/** drivers/misc/nsm.c: NSM_RESPONSE_MAX_SIZE. */
export const NSM_RESPONSE_MAX_BYTES = 12_288;

/** AWS attestation_process.md 3.2.2.2: what verifiers that follow AWS's text accept. Hardware takes 1024. */
export const USER_DATA_MAX_BYTES = 512;
export const NONCE_MAX_BYTES = 512;
export const PUBLIC_KEY_MAX_BYTES = 1024;

/** Throws NsmMessageError NSM_REQUEST_INVALID for a field that AWS's text does not allow. */
export function encodeNsmRequest(request: NsmRequest): Uint8Array {
  const bytes = encodeCbor(toCbor(request));
  if (bytes.length > NSM_REQUEST_MAX_BYTES) {
    throw new NsmMessageError(
      'NSM_REQUEST_INVALID',
      `expected a request of at most ${NSM_REQUEST_MAX_BYTES} bytes, found ${bytes.length}`,
    );
  }
  return bytes;
}

function toCbor(request: NsmRequest): CborValue {
  switch (request.kind) {
    case 'DescribeNSM':
    case 'GetRandom':
      return request.kind;
    case 'DescribePCR':
    case 'LockPCR':
      return named(request.kind, [['index', u16(request.index, 'index')]]);
    case 'ExtendPCR':
      return named(request.kind, [
        ['index', u16(request.index, 'index')],
        ['data', request.data],
      ]);
    case 'LockPCRs':
      return named(request.kind, [['range', u16(request.range, 'range')]]);
    case 'Attestation':
      return named(request.kind, [
        ['user_data', atMost(request.userData, USER_DATA_MAX_BYTES, 'user_data')],
        ['nonce', atMost(request.nonce, NONCE_MAX_BYTES, 'nonce')],
        ['public_key', atMost(request.publicKey, PUBLIC_KEY_MAX_BYTES, 'public_key')],
      ]);
  }
}

function named(kind: string, fields: [string, CborValue][]): CborValue {
  return new Map([[kind, new Map<CborValue, CborValue>(fields)]]);
}

function u16(value: number, field: string): number {
  if (!Number.isInteger(value) || value < 0 || value > 0xffff) {
    throw new NsmMessageError('NSM_REQUEST_INVALID', `expected ${field} from 0 to 65535, found ${value}`);
  }
  return value;
}

function atMost(value: Uint8Array | null, maxBytes: number, field: string): Uint8Array | null {
  if (value !== null && value.length > maxBytes) {
    throw new NsmMessageError(
      'NSM_REQUEST_INVALID',
      `expected ${field} of at most ${maxBytes} bytes, found ${value.length}`,
    );
  }
  return value;
}
