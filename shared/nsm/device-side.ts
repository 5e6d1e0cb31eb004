/** The security module's side of request.ts and response.ts. Only the simulator needs it; it is not in the image. */
import { type CborValue, encodeCbor } from '../cbor.ts';
import { NsmMessageError } from './errors.ts';
import { NsmFields, readNsmMessage } from './fields.ts';
import { NSM_REQUEST_MAX_BYTES, type NsmRequest } from './request.ts';
import type { NsmResponse } from './response.ts';

/** Throws NsmMessageError NSM_REQUEST_MALFORMED. Byte strings are views of the input. */
export function decodeNsmRequest(bytes: Uint8Array): NsmRequest {
  const fields = readNsmMessage(bytes, 'NSM_REQUEST_MALFORMED', { maxBytes: NSM_REQUEST_MAX_BYTES });
  if (!(fields instanceof NsmFields)) {
    throw new NsmMessageError('NSM_REQUEST_MALFORMED', `unknown request ${fields.kind}: ${fields.text}`);
  }
  const { kind } = fields;
  switch (kind) {
    case 'DescribeNSM':
    case 'GetRandom':
      fields.expectOnly([]);
      return { kind };
    case 'DescribePCR':
    case 'LockPCR':
      fields.expectOnly(['index']);
      return { kind, index: fields.u16('index') };
    case 'ExtendPCR':
      fields.expectOnly(['index', 'data']);
      return { kind, index: fields.u16('index'), data: fields.bytes('data') };
    case 'LockPCRs':
      fields.expectOnly(['range']);
      return { kind, range: fields.u16('range') };
    case 'Attestation':
      fields.expectOnly(['user_data', 'nonce', 'public_key']);
      return {
        kind,
        userData: fields.bytesOrNull('user_data'),
        nonce: fields.bytesOrNull('nonce'),
        publicKey: fields.bytesOrNull('public_key'),
      };
    default:
      throw new NsmMessageError('NSM_REQUEST_MALFORMED', `unknown request ${kind}`);
  }
}

export function encodeNsmResponse(response: NsmResponse): Uint8Array {
  return encodeCbor(toCbor(response));
}

function toCbor(response: NsmResponse): CborValue {
  switch (response.kind) {
    case 'Error':
      return new Map([['Error', response.error]]);
    case 'LockPCR':
    case 'LockPCRs':
      return response.kind;
    case 'DescribeNSM':
      return named(response.kind, [
        ['version_major', response.versionMajor],
        ['version_minor', response.versionMinor],
        ['version_patch', response.versionPatch],
        ['module_id', response.moduleId],
        ['max_pcrs', response.maxPcrs],
        ['locked_pcrs', [...response.lockedPcrs]],
        ['digest', response.digest],
      ]);
    case 'GetRandom':
      return named(response.kind, [['random', response.random]]);
    case 'DescribePCR':
      return named(response.kind, [
        ['lock', response.lock],
        ['data', response.data],
      ]);
    case 'ExtendPCR':
      return named(response.kind, [['data', response.data]]);
    case 'Attestation':
      return named(response.kind, [['document', response.document]]);
  }
}

function named(kind: string, fields: [string, CborValue][]): CborValue {
  return new Map([[kind, new Map<CborValue, CborValue>(fields)]]);
}
