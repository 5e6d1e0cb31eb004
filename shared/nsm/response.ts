/** Responses of the Nitro Security Module, in the form that request.ts describes. Only error names travel. */
import { PCR_BYTES } from '../pcr.ts';
import { NsmMessageError } from './errors.ts';
import { NsmFields, readNsmMessage } from './fields.ts';
import { NSM_RESPONSE_MAX_BYTES } from './request.ts';

/** aws-nitro-enclaves-nsm-api src/api/mod.rs `ErrorCode`, less Success, which is never sent as an error. */
export const NSM_ERROR_NAMES = [
  'InvalidArgument',
  'InvalidIndex',
  'InvalidResponse',
  'ReadOnlyIndex',
  'InvalidOperation',
  'BufferTooSmall',
  'InputTooLarge',
  'InternalError',
] as const;

export type NsmErrorName = (typeof NSM_ERROR_NAMES)[number];

export type NsmResponse =
  | {
      readonly kind: 'DescribeNSM';
      readonly versionMajor: number;
      readonly versionMinor: number;
      readonly versionPatch: number;
      readonly moduleId: string;
      readonly maxPcrs: number;
      readonly lockedPcrs: readonly number[];
      readonly digest: string;
    }
  /** 256 bytes in QEMU; the count on hardware is not documented. */
  | { readonly kind: 'GetRandom'; readonly random: Uint8Array }
  | { readonly kind: 'DescribePCR'; readonly lock: boolean; readonly data: Uint8Array }
  /** `data` is the register's new value. */
  | { readonly kind: 'ExtendPCR'; readonly data: Uint8Array }
  | { readonly kind: 'LockPCR' }
  | { readonly kind: 'LockPCRs' }
  | { readonly kind: 'Attestation'; readonly document: Uint8Array }
  | { readonly kind: 'Error'; readonly error: NsmErrorName };

/** Throws NsmMessageError NSM_RESPONSE_MALFORMED. Byte strings are views of the input. */
export function decodeNsmResponse(bytes: Uint8Array): NsmResponse {
  const message = readNsmMessage(bytes, 'NSM_RESPONSE_MALFORMED', {
    maxBytes: NSM_RESPONSE_MAX_BYTES,
    // How the hypervisor writes its integers is documented nowhere; the values are what matters.
    nonMinimal: 'accept',
  });
  if (message instanceof NsmFields) return fromFields(message);
  const error = NSM_ERROR_NAMES.find((name) => name === message.text);
  if (message.kind !== 'Error' || error === undefined) {
    throw new NsmMessageError('NSM_RESPONSE_MALFORMED', `unknown answer ${message.kind}: ${message.text}`);
  }
  return { kind: 'Error', error };
}

function fromFields(fields: NsmFields): NsmResponse {
  const { kind } = fields;
  switch (kind) {
    case 'DescribeNSM':
      fields.expectOnly(DESCRIPTION_FIELDS);
      return {
        kind,
        versionMajor: fields.u16('version_major'),
        versionMinor: fields.u16('version_minor'),
        versionPatch: fields.u16('version_patch'),
        moduleId: fields.text('module_id'),
        maxPcrs: fields.u16('max_pcrs'),
        lockedPcrs: fields.u16List('locked_pcrs'),
        digest: fields.text('digest'),
      };
    case 'GetRandom':
      fields.expectOnly(['random']);
      return { kind, random: notEmpty(fields.bytes('random'), 'random') };
    case 'DescribePCR':
      fields.expectOnly(['lock', 'data']);
      return { kind, lock: fields.flag('lock'), data: fields.bytes('data', PCR_BYTES) };
    case 'ExtendPCR':
      fields.expectOnly(['data']);
      return { kind, data: fields.bytes('data', PCR_BYTES) };
    case 'LockPCR':
    case 'LockPCRs':
      fields.expectOnly([]);
      return { kind };
    case 'Attestation':
      fields.expectOnly(['document']);
      return { kind, document: notEmpty(fields.bytes('document'), 'document') };
    default:
      throw new NsmMessageError('NSM_RESPONSE_MALFORMED', `unknown answer ${kind}`);
  }
}

const DESCRIPTION_FIELDS = [
  'version_major',
  'version_minor',
  'version_patch',
  'module_id',
  'max_pcrs',
  'locked_pcrs',
  'digest',
];

/** No randomness must never look like randomness. */
function notEmpty(value: Uint8Array, field: string): Uint8Array {
  if (value.length === 0) throw new NsmMessageError('NSM_RESPONSE_MALFORMED', `${field} is empty`);
  return value;
}
