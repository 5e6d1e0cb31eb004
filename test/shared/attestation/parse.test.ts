import { Buffer } from 'node:buffer';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  CABUNDLE_MAX_CERTIFICATES,
  CERTIFICATE_MAX_BYTES,
  DOCUMENT_MAX_BYTES,
  OPTIONAL_FIELD_MAX_BYTES,
  PAYLOAD_MAX_BYTES,
} from '../../../shared/attestation/limits.ts';
import { parseAttestationDocument, UnverifiedDocument } from '../../../shared/attestation/parse.ts';
import { type CborValue, encodeCbor } from '../../../shared/cbor.ts';
import { buildDocument, type DocumentParts, encodeIndefinite, NOW } from './build.ts';
import { codeFor } from './code.ts';

const parse = (change?: (parts: DocumentParts) => void) =>
  parseAttestationDocument(buildDocument(change).bytes);
const parseCode = (change: (parts: DocumentParts) => void) => {
  const { bytes } = buildDocument(change);
  return codeFor(() => parseAttestationDocument(bytes));
};
const set = (field: string, value: CborValue) => (parts: DocumentParts) =>
  void parts.payload.set(field, value);
const setPcr = (index: CborValue, value: CborValue) => (parts: DocumentParts) =>
  void (parts.payload.get('pcrs') as Map<CborValue, CborValue>).set(index, value);
const changeHead = (from: string, to: string) => (parts: DocumentParts) => {
  parts.finished = (bytes) => {
    const hex = Buffer.from(bytes).toString('hex');
    expect(hex.startsWith(from)).toBe(true);
    return new Uint8Array(Buffer.from(to + hex.slice(from.length), 'hex'));
  };
};

describe('a document as the security module writes it', () => {
  it('is read into its fields', () => {
    const { untrusted } = parse();
    expect(untrusted.moduleId).toBe('i-0123456789abcdef0-enc0123456789abcdef');
    expect(untrusted.timestampMs).toBe(NOW.getTime());
    expect([...untrusted.pcrs.keys()]).toEqual([...Array(17).keys()]);
    expect(untrusted.publicKey).toBeNull();
    expect(untrusted.userData).toEqual(Uint8Array.of(1, 2, 3));
    expect(untrusted.nonce).toEqual(Uint8Array.of(4, 5, 6));
    expect(untrusted.cabundle).toHaveLength(4);
  });

  it('may be an indefinite map, with its payload kept as received', () => {
    const { payload, untrusted } = parse((parts) => {
      parts.encodePayload = encodeIndefinite;
    });
    expect(payload[0]).toBe(0xbf);
    expect(payload.at(-1)).toBe(0xff);
    expect(untrusted.cabundle).toHaveLength(4);
  });

  it('may list its fields in any order', () => {
    const { untrusted } = parse((parts) => {
      parts.encodePayload = (payload) => encodeCbor(new Map([...payload].reverse()));
    });
    expect(untrusted.pcrs.size).toBe(17);
  });

  it('may carry tag 18', () => {
    expect(parseCode(changeHead('84', 'd284'))).toBeUndefined();
  });

  it.each(['public_key', 'user_data', 'nonce'])('may leave %s out, null or empty', (field) => {
    expect(parseCode((parts) => void parts.payload.delete(field))).toBeUndefined();
    expect(parseCode(set(field, null))).toBeUndefined();
    const { untrusted } = parse(set(field, new Uint8Array(0)));
    expect([untrusted.publicKey, untrusted.userData, untrusted.nonce]).toContainEqual(new Uint8Array(0));
  });

  it('may hold 1024 bytes in each optional field, as real ones do', () => {
    const full = new Uint8Array(OPTIONAL_FIELD_MAX_BYTES);
    const { untrusted } = parse((parts) => {
      for (const field of ['public_key', 'user_data', 'nonce']) parts.payload.set(field, full);
    });
    expect(untrusted.nonce).toHaveLength(1024);
  });

  it('may have long heads inside the payload, which is signed as it stands', () => {
    expect(
      parseCode((parts) => {
        parts.encodePayload = (payload) => {
          const hex = Buffer.from(encodeCbor(payload)).toString('hex');
          return new Uint8Array(Buffer.from(`b80${hex.slice(1)}`, 'hex'));
        };
      }),
    ).toBeUndefined();
  });

  it('is copied: what happens to the input later changes nothing', () => {
    const { bytes } = buildDocument();
    const document = parseAttestationDocument(bytes);
    const before = Buffer.from(document.payload).toString('hex');
    bytes.fill(0);
    expect(Buffer.from(document.payload).toString('hex')).toBe(before);
  });
});

describe('refused as not well formed: the envelope', () => {
  it.each<[string, (parts: DocumentParts) => void, string]>([
    ['tag 98 (COSE_Sign)', changeHead('84', 'd86284'), 'ATTESTATION_TAG'],
    ['tag 17 (COSE_Mac0)', changeHead('84', 'd184'), 'ATTESTATION_TAG'],
    ['tag 18 twice', changeHead('84', 'd2d284'), 'CBOR_REFUSED'],
    ['tag 18 in a longer form', changeHead('84', 'd81284'), 'ATTESTATION_TAG'],
    [
      'an indefinite outer array',
      (parts) => {
        parts.finished = (bytes) => Uint8Array.of(0x9f, ...bytes.subarray(1), 0xff);
      },
      'ATTESTATION_STRUCTURE',
    ],
    [
      'an array of five',
      (parts) => {
        parts.finished = (bytes) => Uint8Array.of(0x85, ...bytes.subarray(1), 0xf6);
      },
      'ATTESTATION_STRUCTURE',
    ],
    [
      'an array of three',
      (parts) => {
        parts.finished = (bytes) => Uint8Array.of(0x83, ...bytes.subarray(1, -98));
      },
      'ATTESTATION_STRUCTURE',
    ],
    [
      'a map',
      (parts) => {
        parts.finished = () => Uint8Array.of(0xa0);
      },
      'ATTESTATION_STRUCTURE',
    ],
    [
      'a detached payload',
      (parts) => {
        parts.finished = () =>
          new Uint8Array(Buffer.concat([Buffer.from('8444a1013822a0f65860', 'hex'), new Uint8Array(96)]));
      },
      'ATTESTATION_STRUCTURE',
    ],
    [
      'an empty payload',
      (parts) => {
        parts.encodePayload = () => new Uint8Array(0);
      },
      'ATTESTATION_STRUCTURE',
    ],
    [
      'a payload of 16385 bytes',
      (parts) => {
        parts.encodePayload = () => new Uint8Array(PAYLOAD_MAX_BYTES + 1);
      },
      'ATTESTATION_STRUCTURE',
    ],
    [
      'a payload length longer than needed',
      changeHead('8444a1013822a059', '8444a1013822a05a0000'),
      'CBOR_NOT_MINIMAL',
    ],
    [
      'ES256 in the signed header',
      (parts) => {
        parts.protectedHeader = Uint8Array.of(0xa1, 0x01, 0x26);
      },
      'ATTESTATION_ALGORITHM',
    ],
    [
      'an empty signed header',
      (parts) => {
        parts.protectedHeader = new Uint8Array(0);
      },
      'ATTESTATION_ALGORITHM',
    ],
    [
      'a further entry in the signed header',
      (parts) => {
        parts.protectedHeader = Uint8Array.of(0xa2, 0x01, 0x38, 0x22, 0x04, 0x40);
      },
      'ATTESTATION_ALGORITHM',
    ],
    [
      'an entry in the unprotected header',
      (parts) => {
        parts.unprotectedHeader = Uint8Array.of(0xa1, 0x04, 0x41, 0x00);
      },
      'ATTESTATION_UNPROTECTED_HEADER',
    ],
    [
      'an unprotected header that is null',
      (parts) => {
        parts.unprotectedHeader = Uint8Array.of(0xf6);
      },
      'ATTESTATION_UNPROTECTED_HEADER',
    ],
    [
      'an indefinite unprotected header',
      (parts) => {
        parts.unprotectedHeader = Uint8Array.of(0xbf, 0xff);
      },
      'ATTESTATION_UNPROTECTED_HEADER',
    ],
    [
      'a signature of 97 bytes',
      (parts) => {
        parts.signature = (signature) => Uint8Array.of(0, ...signature);
      },
      'ATTESTATION_SIGNATURE_LENGTH',
    ],
    [
      'a signature without its leading byte',
      (parts) => {
        parts.signature = (signature) => signature.subarray(1);
      },
      'ATTESTATION_SIGNATURE_LENGTH',
    ],
    [
      'an empty signature',
      (parts) => {
        parts.signature = () => new Uint8Array(0);
      },
      'ATTESTATION_SIGNATURE_LENGTH',
    ],
    [
      'a trailing byte',
      (parts) => {
        parts.finished = (bytes) => Uint8Array.of(...bytes, 0);
      },
      'CBOR_TRAILING_BYTES',
    ],
    [
      'a missing byte',
      (parts) => {
        parts.finished = (bytes) => bytes.subarray(0, -1);
      },
      'CBOR_MALFORMED',
    ],
    [
      'no bytes',
      (parts) => {
        parts.finished = () => new Uint8Array(0);
      },
      'CBOR_MALFORMED',
    ],
    [
      'too many bytes',
      (parts) => {
        parts.finished = () => new Uint8Array(DOCUMENT_MAX_BYTES + 1);
      },
      'ATTESTATION_TOO_LARGE',
    ],
  ])('%s', (_what, change, code) => {
    expect(parseCode(change)).toBe(code);
  });
});

describe('refused as not well formed: the payload', () => {
  const encodedAs = (hex: (payload: string) => string) => (parts: DocumentParts) => {
    parts.encodePayload = (payload) =>
      new Uint8Array(Buffer.from(hex(Buffer.from(encodeCbor(payload)).toString('hex')), 'hex'));
  };

  it.each<[string, (parts: DocumentParts) => void, string]>([
    [
      'a list',
      (parts) => {
        parts.encodePayload = () => encodeCbor([1]);
      },
      'ATTESTATION_PAYLOAD',
    ],
    ['a second item', encodedAs((hex) => `${hex}00`), 'CBOR_TRAILING_BYTES'],
    ['a break that ends a definite map', encodedAs((hex) => `aa${hex.slice(2)}ff`), 'CBOR_MALFORMED'],
    ['an indefinite map without its break', encodedAs((hex) => `bf${hex.slice(2)}`), 'CBOR_MALFORMED'],
    [
      'a tag inside',
      encodedAs((hex) => hex.replace('74696d657374616d701b', '74696d657374616d70c11b')),
      'CBOR_REFUSED',
    ],
    [
      'text in chunks',
      encodedAs((hex) => hex.replace('66534841333834', '7f66534841333834ff')),
      'CBOR_REFUSED',
    ],
    ['a duplicate field', encodedAs((hex) => `aa${hex.slice(2)}656e6f6e6365f6`), 'CBOR_DUPLICATE_KEY'],
    [
      'a duplicate field in an indefinite map',
      encodedAs((hex) => `bf${hex.slice(2)}656e6f6e6365f6ff`),
      'CBOR_DUPLICATE_KEY',
    ],
    [
      'a duplicate register',
      encodedAs((hex) => hex.replace('b1005830', `b200583000${'00'.repeat(47)}005830`)),
      'CBOR_DUPLICATE_KEY',
    ],
    ['an unknown field', set('extra', null), 'ATTESTATION_FIELD_UNKNOWN'],
    ['a field named by a number', (parts) => void parts.payload.set(1, null), 'ATTESTATION_FIELD_UNKNOWN'],
    [
      'the registers of a NitroTPM',
      (parts) => {
        parts.payload.set('nitrotpm_pcrs', parts.payload.get('pcrs') ?? null);
        parts.payload.delete('pcrs');
      },
      'ATTESTATION_NITRO_TPM',
    ],
    [
      "the registers of a NitroTPM beside an enclave's",
      set('nitrotpm_pcrs', new Map()),
      'ATTESTATION_NITRO_TPM',
    ],
    [
      'the module id of a NitroTPM',
      set('module_id', 'i-0123456789abcdef0-tpm0123456789abcdef'),
      'ATTESTATION_NITRO_TPM',
    ],
    ['an empty module id', set('module_id', ''), 'ATTESTATION_MODULE_ID'],
    ['a module id of no enclave', set('module_id', 'i-0123456789abcdef0'), 'ATTESTATION_MODULE_ID'],
    ['a module id with more behind it', set('module_id', 'i-01-enc01\n'), 'ATTESTATION_MODULE_ID'],
    ['a module id that is bytes', set('module_id', Uint8Array.of(1)), 'ATTESTATION_MODULE_ID'],
    ['digest SHA256', set('digest', 'SHA256'), 'ATTESTATION_DIGEST'],
    ['digest in lower case', set('digest', 'sha384'), 'ATTESTATION_DIGEST'],
    ['timestamp 0', set('timestamp', 0), 'ATTESTATION_TIMESTAMP'],
    ['a negative timestamp', set('timestamp', -1), 'ATTESTATION_TIMESTAMP'],
    ['a timestamp beyond every calendar', set('timestamp', 2n ** 63n), 'ATTESTATION_TIMESTAMP'],
    ['a timestamp that no Date holds', set('timestamp', 8.64e15 + 1), 'ATTESTATION_TIMESTAMP'],
    ['a timestamp in words', set('timestamp', '2026-03-04'), 'ATTESTATION_TIMESTAMP'],
    ['no registers', set('pcrs', new Map()), 'ATTESTATION_PCRS'],
    ['registers in a list', set('pcrs', [new Uint8Array(48)]), 'ATTESTATION_PCRS'],
    ['PCR32', setPcr(32, new Uint8Array(48)), 'ATTESTATION_PCRS'],
    ['PCR-1', setPcr(-1, new Uint8Array(48)), 'ATTESTATION_PCRS'],
    ['a register named in text', setPcr('17', new Uint8Array(48)), 'ATTESTATION_PCRS'],
    ['a register of 32 bytes', setPcr(0, new Uint8Array(32)), 'ATTESTATION_PCRS'],
    ['a register of 64 bytes', setPcr(0, new Uint8Array(64)), 'ATTESTATION_PCRS'],
    ['a register in text', setPcr(0, '0'.repeat(48)), 'ATTESTATION_PCRS'],
    [
      'an empty certificate',
      (parts) => {
        parts.encodePayload = (payload) => encodeCbor(new Map(payload).set('certificate', new Uint8Array(0)));
      },
      'ATTESTATION_CERTIFICATE_FIELDS',
    ],
    [
      'a certificate of 1025 bytes',
      set('certificate', new Uint8Array(CERTIFICATE_MAX_BYTES + 1)),
      'ATTESTATION_CERTIFICATE_FIELDS',
    ],
    ['a certificate that is null', set('certificate', null), 'ATTESTATION_CERTIFICATE_FIELDS'],
    ['a bundle that is null', set('cabundle', null), 'ATTESTATION_CERTIFICATE_FIELDS'],
    [
      'an empty bundle',
      (parts) => {
        parts.encodePayload = (payload) => encodeCbor(new Map(payload).set('cabundle', []));
      },
      'ATTESTATION_CERTIFICATE_FIELDS',
    ],
    [
      'a bundle of nine',
      set(
        'cabundle',
        Array.from({ length: CABUNDLE_MAX_CERTIFICATES + 1 }, () => Uint8Array.of(1)),
      ),
      'ATTESTATION_CERTIFICATE_FIELDS',
    ],
    [
      'a bundle with an empty certificate',
      set('cabundle', [new Uint8Array(0)]),
      'ATTESTATION_CERTIFICATE_FIELDS',
    ],
    [
      'a bundle with one of 1025 bytes',
      set('cabundle', [new Uint8Array(1025)]),
      'ATTESTATION_CERTIFICATE_FIELDS',
    ],
    ['a bundle of text', set('cabundle', ['certificate']), 'ATTESTATION_CERTIFICATE_FIELDS'],
    ['a public key of 1025 bytes', set('public_key', new Uint8Array(1025)), 'ATTESTATION_OPTIONAL_FIELDS'],
    ['user data of 1025 bytes', set('user_data', new Uint8Array(1025)), 'ATTESTATION_OPTIONAL_FIELDS'],
    ['a nonce of 1025 bytes', set('nonce', new Uint8Array(1025)), 'ATTESTATION_OPTIONAL_FIELDS'],
    ['a nonce in text', set('nonce', 'nonce'), 'ATTESTATION_OPTIONAL_FIELDS'],
    ['a nonce that is false', set('nonce', false), 'ATTESTATION_OPTIONAL_FIELDS'],
  ])('%s', (_what, change, code) => {
    expect(parseCode(change)).toBe(code);
  });

  it.each(['module_id', 'digest', 'timestamp', 'pcrs', 'certificate', 'cabundle'])('%s missing', (field) => {
    expect(parseCode((parts) => void parts.payload.delete(field))).toBe('ATTESTATION_FIELD_MISSING');
  });

  it('more in the optional fields than the caller allows', () => {
    const { bytes } = buildDocument(set('nonce', new Uint8Array(513)));
    expect(codeFor(() => parseAttestationDocument(bytes, { nonceMaxBytes: 512 }))).toBe(
      'ATTESTATION_OPTIONAL_FIELDS',
    );
    expect(codeFor(() => parseAttestationDocument(bytes, { userDataMaxBytes: 512 }))).toBeUndefined();
  });
});

describe('whatever the bytes are', () => {
  it('only errors with a code come out, and never a document that is trusted', () => {
    const { bytes } = buildDocument();
    fc.assert(
      fc.property(fc.nat(bytes.length - 1), fc.nat(255), fc.boolean(), (at, value, cut) => {
        const damaged = cut ? bytes.slice(0, at) : bytes.slice();
        if (!cut) damaged[at] = value;
        expect(codeFor(() => parseAttestationDocument(damaged)) ?? 'ATTESTATION_').toMatch(
          /^(ATTESTATION|CBOR)_/,
        );
      }),
      { numRuns: 300 },
    );
  });

  it('an UnverifiedDocument comes from the parser only', () => {
    const Forged = UnverifiedDocument as unknown as new (...args: unknown[]) => UnverifiedDocument;
    expect(() => new Forged(Symbol('made in this module'))).toThrow(TypeError);
    expect(UnverifiedDocument.isGenuine(Object.create(UnverifiedDocument.prototype))).toBe(false);
    const document = parse();
    expect(UnverifiedDocument.isGenuine(document)).toBe(true);
    expect(UnverifiedDocument.isGenuine({ ...document })).toBe(false);
    expect(() => Object.assign(document, { untrusted: {} })).toThrow(TypeError);
  });
});
