import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type CborValue, encodeCbor } from '../../../shared/cbor.ts';
import { codeOf } from '../../../shared/errors.ts';
import { decodeNsmRequest, encodeNsmResponse } from '../../../shared/nsm/device-side.ts';
import { encodeNsmRequest, type NsmRequest } from '../../../shared/nsm/request.ts';
import { decodeNsmResponse, NSM_ERROR_NAMES, type NsmResponse } from '../../../shared/nsm/response.ts';
import { describeWithVectors } from '../../vectors.ts';

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
const unhex = (text: string) => new Uint8Array(Buffer.from(text, 'hex'));
const code = (action: () => unknown): string | undefined => {
  try {
    action();
    return undefined;
  } catch (error) {
    return codeOf(error) ?? `not ours: ${String(error)}`;
  }
};
const map = (...entries: [CborValue, CborValue][]): CborValue => new Map(entries);
const counting = Uint8Array.from({ length: 48 }, (_, i) => i);

const requests: Record<string, NsmRequest> = {
  DescribeNSM: { kind: 'DescribeNSM' },
  GetRandom: { kind: 'GetRandom' },
  'DescribePCR index 0': { kind: 'DescribePCR', index: 0 },
  'DescribePCR index 31': { kind: 'DescribePCR', index: 31 },
  'ExtendPCR index 16 data 010203': { kind: 'ExtendPCR', index: 16, data: Uint8Array.of(1, 2, 3) },
  'LockPCR index 16': { kind: 'LockPCR', index: 16 },
  'LockPCRs range 32': { kind: 'LockPCRs', range: 32 },
  'Attestation all null': { kind: 'Attestation', userData: null, nonce: null, publicKey: null },
  'Attestation user_data=aa nonce=bb public_key=cc': {
    kind: 'Attestation',
    userData: Uint8Array.of(0xaa),
    nonce: Uint8Array.of(0xbb),
    publicKey: Uint8Array.of(0xcc),
  },
};

const responses: Record<string, NsmResponse> = {
  ...Object.fromEntries(
    NSM_ERROR_NAMES.map((error) => [`Error ${error}`, { kind: 'Error', error } as const]),
  ),
  LockPCR: { kind: 'LockPCR' },
  LockPCRs: { kind: 'LockPCRs' },
  ExtendPCR: { kind: 'ExtendPCR', data: counting },
  'DescribePCR (serde order)': { kind: 'DescribePCR', lock: true, data: counting },
  'DescribePCR (QEMU order)': { kind: 'DescribePCR', lock: false, data: counting },
  DescribeNSM: {
    kind: 'DescribeNSM',
    versionMajor: 1,
    versionMinor: 0,
    versionPatch: 0,
    moduleId: 'i-1234-enc5678',
    maxPcrs: 32,
    lockedPcrs: [...counting.subarray(0, 16)],
    digest: 'SHA384',
  },
  GetRandom: { kind: 'GetRandom', random: new Uint8Array(256) },
  Attestation: { kind: 'Attestation', document: unhex('8444a1013822a04040') },
};

describeWithVectors('the bytes of every message', (folder) => {
  const vectors = JSON.parse(readFileSync(join(folder, 'nsm', 'nsm-cbor.json'), 'utf8')) as Record<
    'requests' | 'responses',
    { name: string; cbor_hex: string }[]
  >;

  it.each(vectors.requests.map((vector) => [vector.name, vector.cbor_hex]))('request %s', (name, bytes) => {
    const request = requests[name];
    if (request === undefined) throw new Error(`no request for the vector ${name}`);
    expect(hex(encodeNsmRequest(request))).toBe(bytes);
    expect(decodeNsmRequest(unhex(bytes))).toEqual(request);
  });

  it.each(vectors.responses.map((vector) => [vector.name, vector.cbor_hex]))('response %s', (name, bytes) => {
    const decoded = decodeNsmResponse(unhex(bytes));
    if (name !== 'Attestation')
      expect(decoded).toEqual(responses[name] ?? `no response for the vector ${name}`);
    // The QEMU vector is read, not written: our module answers in the order of the Rust crate.
    if (!name.includes('QEMU')) expect(hex(encodeNsmResponse(decoded))).toBe(bytes);
  });
});

describe('requests', () => {
  it('survive encoding and decoding', () => {
    const small = fc.uint8Array({ maxLength: 512 });
    const optional = fc.option(small);
    const u16 = fc.nat(65_535);
    const any: fc.Arbitrary<NsmRequest> = fc.oneof(
      fc.record({ kind: fc.constant('ExtendPCR' as const), index: u16, data: small }),
      fc.record({ kind: fc.constantFrom('DescribePCR' as const, 'LockPCR' as const), index: u16 }),
      fc.record({ kind: fc.constant('LockPCRs' as const), range: u16 }),
      fc.record({
        kind: fc.constant('Attestation' as const),
        userData: optional,
        nonce: optional,
        publicKey: optional,
      }),
    );
    fc.assert(
      fc.property(any, (request) => {
        expect(decodeNsmRequest(encodeNsmRequest(request))).toEqual(request);
      }),
      { numRuns: 200 },
    );
  });

  it.each<[string, NsmRequest]>([
    ['a negative index', { kind: 'LockPCR', index: -1 }],
    ['an index of more than 16 bits', { kind: 'LockPCR', index: 65_536 }],
    ['a fractional range', { kind: 'LockPCRs', range: 0.5 }],
    ['data beyond the size of a request', { kind: 'ExtendPCR', index: 16, data: new Uint8Array(4096) }],
    [
      'user data of 513 bytes',
      { kind: 'Attestation', userData: new Uint8Array(513), nonce: null, publicKey: null },
    ],
    [
      'a nonce of 513 bytes',
      { kind: 'Attestation', userData: null, nonce: new Uint8Array(513), publicKey: null },
    ],
    [
      'a key of 1025 bytes',
      { kind: 'Attestation', userData: null, nonce: null, publicKey: new Uint8Array(1025) },
    ],
  ])('are not sent with %s', (_what, request) => {
    expect(code(() => encodeNsmRequest(request))).toBe('NSM_REQUEST_INVALID');
  });

  it.each<[string, CborValue]>([
    ['an unknown name', 'Reboot'],
    ['an unknown name with fields', map(['Reboot', map()])],
    ['a name that lacks its fields', 'LockPCR'],
    ['fields where there are none', map(['GetRandom', map(['index', 0])])],
    ['an empty map of fields', map(['GetRandom', map()])],
    ['null for fields', map(['DescribeNSM', null])],
    ['text in place of fields', map(['LockPCR', 'index'])],
    ['a missing field', map(['ExtendPCR', map(['index', 16])])],
    ['an unknown field', map(['LockPCR', map(['index', 16], ['force', true])])],
    ['another field instead', map(['LockPCR', map(['range', 16])])],
    ['text where bytes belong', map(['ExtendPCR', map(['index', 16], ['data', 'abc'])])],
    ['an index that is text', map(['LockPCR', map(['index', '16'])])],
    ['a negative index', map(['LockPCR', map(['index', -1])])],
    ['two requests in one', map(['GetRandom', map()], ['DescribeNSM', map()])],
    ['a list', []],
    ['a name that is a number', map([1, map()])],
  ])('are refused by the module with %s', (_what, value) => {
    expect(code(() => decodeNsmRequest(encodeCbor(value)))).toBe('NSM_REQUEST_MALFORMED');
  });

  it('are refused by the module beyond 4096 bytes, or if they are not CBOR', () => {
    expect(code(() => decodeNsmRequest(new Uint8Array(4097)))).toBe('NSM_REQUEST_MALFORMED');
    expect(code(() => decodeNsmRequest(Uint8Array.of(0xff)))).toBe('NSM_REQUEST_MALFORMED');
  });
});

describe('responses', () => {
  it('are read by name, in any order of their fields', () => {
    const fields: [CborValue, CborValue][] = [
      ['digest', 'SHA384'],
      ['locked_pcrs', [0, 16]],
      ['max_pcrs', 32],
      ['module_id', 'i-1-enc2'],
      ['version_patch', 3],
      ['version_minor', 2],
      ['version_major', 1],
    ];
    expect(decodeNsmResponse(encodeCbor(map(['DescribeNSM', map(...fields)])))).toEqual({
      kind: 'DescribeNSM',
      versionMajor: 1,
      versionMinor: 2,
      versionPatch: 3,
      moduleId: 'i-1-enc2',
      maxPcrs: 32,
      lockedPcrs: [0, 16],
      digest: 'SHA384',
    });
  });

  it('may write integers in more bytes than needed: hardware documents nothing about it', () => {
    const bytes = Buffer.from(encodeCbor(map(['DescribePCR', map(['lock', true], ['data', counting])])));
    const wide = Buffer.concat([bytes.subarray(0, -50), Buffer.from('590030', 'hex'), counting]);
    expect(decodeNsmResponse(wide)).toEqual({ kind: 'DescribePCR', lock: true, data: counting });
  });

  it.each<[string, CborValue]>([
    ['an unknown name', 'Reboot'],
    ['an empty map of fields', map(['LockPCR', map()])],
    ['an unknown error', map(['Error', 'OutToLunch'])],
    ['an error that claims success', map(['Error', 'Success'])],
    ['an error by number', map(['Error', 1])],
    ['an error with fields', map(['Error', map(['code', 1])])],
    ['a register of 47 bytes', map(['DescribePCR', map(['lock', true], ['data', new Uint8Array(47)])])],
    ['a register of 32 bytes', map(['ExtendPCR', map(['data', new Uint8Array(32)])])],
    ['a lock that is a number', map(['DescribePCR', map(['lock', 1], ['data', counting])])],
    ['a missing lock', map(['DescribePCR', map(['data', counting])])],
    ['an unknown field', map(['ExtendPCR', map(['data', counting], ['more', 1])])],
    ['no randomness', map(['GetRandom', map(['random', new Uint8Array(0)])])],
    ['randomness that is text', map(['GetRandom', map(['random', 'random'])])],
    ['an empty document', map(['Attestation', map(['document', new Uint8Array(0)])])],
    ['a name alone where fields belong', 'GetRandom'],
    ['fields where there are none', map(['LockPCR', map(['index', 1])])],
  ])('are refused with %s', (_what, value) => {
    expect(code(() => decodeNsmResponse(encodeCbor(value)))).toBe('NSM_RESPONSE_MALFORMED');
  });

  it('are refused beyond 12288 bytes, with trailing bytes, or with duplicate fields', () => {
    expect(code(() => decodeNsmResponse(new Uint8Array(12_289)))).toBe('NSM_RESPONSE_MALFORMED');
    expect(code(() => decodeNsmResponse(unhex('674c6f636b50435200')))).toBe('NSM_RESPONSE_MALFORMED');
    expect(code(() => decodeNsmResponse(unhex('a2654572726f726061656572726f7260')))).toBe(
      'NSM_RESPONSE_MALFORMED',
    );
  });

  it('throw nothing but their own error, on any bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
        expect(code(() => decodeNsmResponse(bytes)) ?? 'NSM_RESPONSE_MALFORMED').toBe(
          'NSM_RESPONSE_MALFORMED',
        );
      }),
      { numRuns: 300 },
    );
  });
});
