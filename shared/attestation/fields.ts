/** The fields of a payload: names, types and sizes (docs/attestation.md, sections 2.7 to 2.9). */
import { type CborValue, decodeCbor } from '../cbor.ts';
import { PCR_BYTES, PCR_COUNT } from '../pcr.ts';
import type { NotePassed } from './checks.ts';
import { AttestationError } from './errors.ts';
import {
  CABUNDLE_MAX_CERTIFICATES,
  CERTIFICATE_MAX_BYTES,
  OPTIONAL_FIELD_MAX_BYTES,
  PAYLOAD_MAX_BYTES,
} from './limits.ts';

/** Absent and null are the same; an empty byte string is not null. */
export interface DocumentFields {
  readonly moduleId: string;
  /** Milliseconds since 1970-01-01T00:00:00Z, by the hypervisor's clock. */
  readonly timestampMs: number;
  /** All locked registers by index, 48 bytes each. */
  readonly pcrs: ReadonlyMap<number, Uint8Array>;
  readonly publicKey: Uint8Array | null;
  readonly userData: Uint8Array | null;
  readonly nonce: Uint8Array | null;
  /** The certificate that signed the document, in DER. */
  readonly certificate: Uint8Array;
  /** Its issuers in DER, root first. */
  readonly cabundle: readonly Uint8Array[];
}

export interface OptionalFieldLimits {
  readonly publicKeyMaxBytes: number;
  readonly userDataMaxBytes: number;
  readonly nonceMaxBytes: number;
}

const MANDATORY = ['module_id', 'digest', 'timestamp', 'pcrs', 'certificate', 'cabundle'];
const OPTIONAL = ['public_key', 'user_data', 'nonce'];

/** Reads the payload as one map, definite or indefinite. Long heads are harmless here: the bytes are signed. */
export function readPayload(payload: Uint8Array): ReadonlyMap<CborValue, CborValue> {
  const map = decodeCbor(payload, { maxBytes: PAYLOAD_MAX_BYTES, nonMinimal: 'accept' });
  if (!(map instanceof Map)) {
    throw new AttestationError('ATTESTATION_PAYLOAD', 'expected the payload to be a map');
  }
  if (map.has('nitrotpm_pcrs')) {
    throw new AttestationError('ATTESTATION_NITRO_TPM', 'found nitrotpm_pcrs, expected pcrs');
  }
  for (const name of map.keys()) {
    if (typeof name !== 'string' || !(MANDATORY.includes(name) || OPTIONAL.includes(name))) {
      const shown = JSON.stringify(String(name).slice(0, 40));
      throw new AttestationError('ATTESTATION_FIELD_UNKNOWN', `the field ${shown} is not known`);
    }
  }
  const missing = MANDATORY.find((name) => !map.has(name));
  if (missing !== undefined) {
    throw new AttestationError('ATTESTATION_FIELD_MISSING', `the field ${missing} is missing`);
  }
  return map;
}

export function readFields(
  map: ReadonlyMap<CborValue, CborValue>,
  limits: Partial<OptionalFieldLimits>,
  note: NotePassed | undefined,
): DocumentFields {
  const moduleId = readModuleId(map.get('module_id'));
  note?.('enclave', moduleId);
  if (map.get('digest') !== 'SHA384') {
    throw new AttestationError('ATTESTATION_DIGEST', 'expected the digest SHA384');
  }
  const fields: DocumentFields = {
    moduleId,
    timestampMs: readTimestamp(map.get('timestamp')),
    pcrs: readPcrs(map.get('pcrs')),
    publicKey: optional(map, 'public_key', limits.publicKeyMaxBytes),
    userData: optional(map, 'user_data', limits.userDataMaxBytes),
    nonce: optional(map, 'nonce', limits.nonceMaxBytes),
    certificate: readCertificateField(map.get('certificate'), 'certificate'),
    cabundle: readCabundle(map.get('cabundle')),
  };
  note?.('fields', `${fields.pcrs.size} registers, ${fields.cabundle.length + 1} certificates`);
  return Object.freeze(fields);
}

/** An enclave is called <instance>-enc<id>; AWS KMS's CloudTrail page shows -tpm for NitroTPM. */
function readModuleId(value: CborValue | undefined): string {
  if (typeof value === 'string' && /^i-[0-9a-f]{1,32}-enc[0-9a-f]{1,32}$/.test(value)) return value;
  const shown = JSON.stringify(String(value).slice(0, 80));
  if (typeof value === 'string' && value.includes('-tpm')) {
    throw new AttestationError('ATTESTATION_NITRO_TPM', `${shown} is the module id of a NitroTPM`);
  }
  throw new AttestationError('ATTESTATION_MODULE_ID', `expected a module id i-...-enc..., found ${shown}`);
}

/** Up to the year 275760, which is what a Date can hold. */
const LATEST_MS = 8.64e15;

function readTimestamp(value: CborValue | undefined): number {
  if (typeof value !== 'number' || value <= 0 || value > LATEST_MS) {
    throw new AttestationError('ATTESTATION_TIMESTAMP', 'expected a positive number of milliseconds');
  }
  return value;
}

function readPcrs(value: CborValue | undefined): ReadonlyMap<number, Uint8Array> {
  if (!(value instanceof Map) || value.size < 1) {
    throw new AttestationError('ATTESTATION_PCRS', 'expected a map of registers');
  }
  const pcrs = new Map<number, Uint8Array>();
  for (const [index, register] of value) {
    if (typeof index !== 'number' || index < 0 || index >= PCR_COUNT) {
      throw new AttestationError('ATTESTATION_PCRS', `expected indices from 0 to ${PCR_COUNT - 1}`);
    }
    // AWS's text allows 32 and 64 bytes too, but no digest that is that long.
    if (!(register instanceof Uint8Array) || register.length !== PCR_BYTES) {
      throw new AttestationError('ATTESTATION_PCRS', `expected PCR${index} to be ${PCR_BYTES} bytes`);
    }
    pcrs.set(index, register);
  }
  return pcrs;
}

function readCertificateField(value: CborValue | undefined, field: string): Uint8Array {
  if (!(value instanceof Uint8Array) || value.length < 1 || value.length > CERTIFICATE_MAX_BYTES) {
    throw new AttestationError(
      'ATTESTATION_CERTIFICATE_FIELDS',
      `expected ${field} to be 1 to ${CERTIFICATE_MAX_BYTES} bytes`,
    );
  }
  return value;
}

function readCabundle(value: CborValue | undefined): readonly Uint8Array[] {
  if (!Array.isArray(value) || value.length < 1 || value.length > CABUNDLE_MAX_CERTIFICATES) {
    throw new AttestationError(
      'ATTESTATION_CERTIFICATE_FIELDS',
      `expected cabundle to hold 1 to ${CABUNDLE_MAX_CERTIFICATES} certificates`,
    );
  }
  return value.map((certificate, i) => readCertificateField(certificate, `cabundle[${i}]`));
}

function optional(
  map: ReadonlyMap<CborValue, CborValue>,
  field: string,
  maxBytes = OPTIONAL_FIELD_MAX_BYTES,
): Uint8Array | null {
  const value = map.get(field) ?? null;
  if (value !== null && !(value instanceof Uint8Array && value.length <= maxBytes)) {
    throw new AttestationError(
      'ATTESTATION_OPTIONAL_FIELDS',
      `expected ${field} to be null or at most ${maxBytes} bytes`,
    );
  }
  return value;
}
