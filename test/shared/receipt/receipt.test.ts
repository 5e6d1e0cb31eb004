/** The form of receipts: what is hashed and signed, byte for byte, and every form that is refused. */
import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type CborValue, encodeCbor } from '../../../shared/cbor.ts';
import { modelsAsCbor } from '../../../shared/evidence/evidence.ts';
import { decodeReceiptClaims, parseReceipt, readStreamEnding } from '../../../shared/receipt/decode.ts';
import {
  encodeReceiptClaims,
  encodeReceiptPayload,
  receiptToBeSigned,
  signReceipt,
} from '../../../shared/receipt/encode.ts';
import { isReceiptSignature, lowerS, readReceiptKey } from '../../../shared/receipt/key.ts';
import {
  answerDigest,
  RECEIPT_MAX_BYTES,
  RECEIPT_PROTECTED_HEADER,
  requestDigest,
  STREAM_ENDING_MAX_BYTES,
  streamEnding,
} from '../../../shared/receipt/receipt.ts';
import { keyPair } from '../attestation/build.ts';
import { codeFor } from '../attestation/code.ts';
import { ANSWER, buildReceipt, MODELS, type ReceiptParts, SALT } from './build.ts';

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
const u64 = (length: number) => length.toString(16).padStart(16, '0');
const text = (value: string) => u64(value.length) + hex(Buffer.from(value));
const FIELDS = {
  sequence: 1,
  timestampMs: 1_772_600_000_000,
  model: 'iris',
  models: MODELS,
  requestDigest: new Uint8Array(48).fill(1),
  answerDigest: new Uint8Array(48).fill(2),
  document: new Uint8Array(100).fill(3),
};

describe('what is hashed', () => {
  it('of a request: domain, salt, method, target, type and framing with their lengths, then the body', () => {
    const head = {
      method: 'POST',
      target: '/v2/models/iris/infer?x=1',
      contentType: 'Application/JSON; charset=utf-8',
      framing: '12',
    };
    const bytes = [
      text('strongroom-receipt-request-v1'),
      u64(32) + hex(SALT),
      text('POST'),
      text('/v2/models/iris/infer?x=1'),
      text('application/json'),
      text('12'),
      hex(Buffer.from('body')),
    ].join('');
    expect(requestDigest(SALT, head).update('bo').update('dy').digest('hex')).toBe(
      createHash('sha384').update(bytes, 'hex').digest('hex'),
    );
  });

  it('of an answer: domain, salt, status, type and framing with their lengths, then the body', () => {
    const bytes = [
      text('strongroom-receipt-answer-v1'),
      u64(32) + hex(SALT),
      text('200'),
      text('text/event-stream'),
      text(''),
      hex(Buffer.from('data: 1\n\n')),
    ].join('');
    const head = { status: 200, contentType: 'text/event-stream', framing: undefined };
    expect(answerDigest(SALT, head).update('data: 1\n\n').digest('hex')).toBe(
      createHash('sha384').update(bytes, 'hex').digest('hex'),
    );
  });

  it('differs wherever two exchanges differ, also where their bytes would run together the same', () => {
    const part = fc.string({ maxLength: 12 });
    const exchange = fc.record({ method: part, target: part, framing: part, body: part });
    const digest = ({ body, ...head }: { method: string; target: string; framing: string; body: string }) =>
      requestDigest(SALT, { ...head, contentType: 'a/b' })
        .update(body)
        .digest('hex');
    fc.assert(
      fc.property(exchange, exchange, (one, other) => {
        const same = hex(Buffer.from(JSON.stringify(one))) === hex(Buffer.from(JSON.stringify(other)));
        expect(digest(one) === digest(other)).toBe(same);
      }),
    );
    const head = { method: 'POST', contentType: '', framing: '' };
    expect(digest({ ...head, target: '/ab', body: 'c' })).not.toBe(
      digest({ ...head, target: '/a', body: 'bc' }),
    );
  });

  it('is the same for a body in any pieces', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 20 })), (pieces) => {
        const hash = answerDigest(SALT, ANSWER);
        for (const piece of pieces) hash.update(piece);
        expect(hash.digest('hex')).toBe(
          answerDigest(SALT, ANSWER).update(Buffer.concat(pieces)).digest('hex'),
        );
      }),
    );
  });
});

describe('what is signed', () => {
  it('has the one header of a receipt', () => {
    expect(hex(RECEIPT_PROTECTED_HEADER)).toBe(
      `a201261078${'application/vnd.strongroom.receipt+cose'.length.toString(16)}${hex(Buffer.from('application/vnd.strongroom.receipt+cose'))}`,
    );
    expect(hex(receiptToBeSigned(Uint8Array.of(0xff)))).toBe(
      `846a${hex(Buffer.from('Signature1'))}58${RECEIPT_PROTECTED_HEADER.length.toString(16)}${hex(RECEIPT_PROTECTED_HEADER)}4041ff`,
    );
  });

  it('is this payload, byte for byte', () => {
    const key = (name: string) => (0x60 + name.length).toString(16) + hex(Buffer.from(name));
    const expected = [
      'a8',
      `${key('v')}01`,
      `${key('seq')}01`,
      `${key('time')}1b0000019cb7317e00`,
      `${key('model')}${key('iris')}`,
      `${key('answer')}5830${'02'.repeat(48)}`,
      `${key('models')}82`,
      `84${key('echo')}01f65820${'c3'.repeat(32)}`,
      `84${key('iris')}035820${'a1'.repeat(32)}5820${'b2'.repeat(32)}`,
      `${key('request')}5830${'01'.repeat(48)}`,
      `${key('document')}5864${'03'.repeat(100)}`,
    ];
    expect(hex(encodeReceiptPayload(FIELDS))).toBe(expected.join(''));
  });

  it('comes back as it was', () => {
    const { privateKey } = keyPair('P-256');
    const model = fc.record({
      name: fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/),
      version: fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }),
      manifestSha256: fc.option(fc.stringMatching(/^[0-9a-f]{64}$/)),
      contentId: fc.stringMatching(/^[0-9a-f]{64}$/),
    });
    const models = fc
      .uniqueArray(model, { minLength: 1, maxLength: 16, selector: ({ name }) => name })
      .map((list) => list.toSorted((a, b) => (a.name < b.name ? -1 : 1)));
    const bytes = (min: number, max: number) => fc.uint8Array({ minLength: min, maxLength: max });
    const positive = fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER });
    fc.assert(
      fc.property(
        models,
        positive,
        positive,
        bytes(48, 48),
        bytes(48, 48),
        bytes(1, 16_512),
        (list, sequence, timestampMs, request, answer, document) => {
          const fields = {
            sequence,
            timestampMs,
            model: list[0]?.name as string,
            models: list,
            requestDigest: request,
            answerDigest: answer,
            document,
          };
          const receipt = signReceipt(fields, privateKey);
          expect(receipt.length).toBeLessThanOrEqual(RECEIPT_MAX_BYTES);
          expect(parseReceipt(receipt).untrusted).toEqual(fields);
        },
      ),
      { numRuns: 30 },
    );
  });

  it('fits the bound where everything is as large as it can be', () => {
    const { privateKey } = keyPair('P-256');
    const models = Array.from({ length: 16 }, (_, i) => ({
      name: `${String.fromCharCode(97 + i)}${'n'.repeat(63)}`,
      version: Number.MAX_SAFE_INTEGER,
      manifestSha256: 'a1'.repeat(32),
      contentId: 'b2'.repeat(32),
    }));
    const receipt = signReceipt(
      { ...FIELDS, models, model: models[0]?.name as string, document: new Uint8Array(16_512) },
      privateKey,
    );
    expect(receipt.length).toBeLessThanOrEqual(RECEIPT_MAX_BYTES);
    expect(streamEnding(new Uint8Array(RECEIPT_MAX_BYTES)).length).toBeLessThanOrEqual(
      STREAM_ENDING_MAX_BYTES,
    );
  });

  it('is the claims of a document for receipts', () => {
    const claims = decodeReceiptClaims(encodeReceiptClaims(MODELS, new Uint8Array(48).fill(9)));
    expect(claims.deployment).toEqual(new Uint8Array(48).fill(9));
    expect(hex(claims.models)).toBe(
      createHash('sha384')
        .update(encodeCbor(modelsAsCbor(MODELS)))
        .digest('hex'),
    );
  });
});

const verdict = (change: (parts: ReceiptParts) => void) =>
  codeFor(() => parseReceipt(buildReceipt(change).bytes));
const set =
  (name: CborValue, value: CborValue) =>
  ({ payload }: ReceiptParts) =>
    void payload.set(name, value);

describe('a receipt is well formed', () => {
  it('as an enclave writes it', () => {
    expect(verdict(() => {})).toBeUndefined();
  });

  it('and nothing in it can be changed afterwards by whoever gave the bytes', () => {
    const { bytes } = buildReceipt();
    const receipt = parseReceipt(bytes);
    bytes.fill(0);
    expect(receipt.untrusted.model).toBe('iris');
    expect(receipt.payload[0]).toBe(0xa8);
  });
});

describe('a receipt is refused', () => {
  it.each<[string, (parts: ReceiptParts) => void, string]>([
    [
      'of ES384',
      (parts) => {
        parts.protectedHeader = Uint8Array.of(0xa1, 0x01, 0x38, 0x22);
      },
      'RECEIPT_ALGORITHM',
    ],
    [
      'without its type in the header',
      (parts) => {
        parts.protectedHeader = Uint8Array.of(0xa1, 0x01, 0x26);
      },
      'RECEIPT_ALGORITHM',
    ],
    [
      'with an empty header',
      (parts) => {
        parts.protectedHeader = new Uint8Array(0);
      },
      'RECEIPT_ALGORITHM',
    ],
    [
      'with something in the unsigned header',
      (parts) => {
        parts.unprotectedHeader = Uint8Array.of(0xa1, 0x04, 0x41, 0x31);
      },
      'RECEIPT_UNPROTECTED_HEADER',
    ],
    [
      'with another spelling of the empty unsigned header',
      (parts) => {
        parts.unprotectedHeader = Uint8Array.of(0xbf, 0xff);
      },
      'RECEIPT_UNPROTECTED_HEADER',
    ],
    [
      'with a list for the unsigned header',
      (parts) => {
        parts.unprotectedHeader = Uint8Array.of(0x80);
      },
      'RECEIPT_STRUCTURE',
    ],
    [
      'with a signature of 63 bytes',
      (parts) => {
        parts.signature = (signature) => signature.subarray(1);
      },
      'RECEIPT_SIGNATURE_FORM',
    ],
    [
      'with a signature of zeros',
      (parts) => {
        parts.signature = () => new Uint8Array(64);
      },
      'RECEIPT_SIGNATURE_FORM',
    ],
    [
      'with a signature beyond the order of the curve',
      (parts) => {
        parts.signature = () => new Uint8Array(64).fill(0xff);
      },
      'RECEIPT_SIGNATURE_FORM',
    ],
    [
      'with the other s, which is a signature too',
      (parts) => {
        parts.signature = (signature) => higherS(lowerS(signature));
      },
      'RECEIPT_SIGNATURE_FORM',
    ],
    [
      'with a payload that is no map',
      (parts) => {
        parts.encodePayload = () => encodeCbor([1]);
      },
      'RECEIPT_PAYLOAD',
    ],
    [
      'with a payload that is no CBOR',
      (parts) => {
        parts.encodePayload = () => Uint8Array.of(0xff);
      },
      'RECEIPT_PAYLOAD',
    ],
    [
      'with fields in another order',
      (parts) => {
        parts.encodePayload = (payload) => encodeCbor(new Map([...payload].reverse()));
      },
      'RECEIPT_PAYLOAD',
    ],
    [
      'with a map of open length',
      (parts) => {
        parts.encodePayload = (payload) =>
          Buffer.concat([Uint8Array.of(0xbf), encodeCbor(payload).subarray(1), Uint8Array.of(0xff)]);
      },
      'RECEIPT_PAYLOAD',
    ],
    [
      'with a field twice',
      (parts) => {
        parts.encodePayload = (payload) =>
          Buffer.concat([
            Uint8Array.of(0xa9),
            encodeCbor(payload).subarray(1),
            encodeCbor('v'),
            encodeCbor(1),
          ]);
      },
      'RECEIPT_PAYLOAD',
    ],
    ['with an unknown field', set('extra', 1), 'RECEIPT_PAYLOAD'],
    ['with a field of another kind of name', set(1, 1), 'RECEIPT_PAYLOAD'],
    ['of another version', set('v', 2), 'RECEIPT_PAYLOAD'],
    ['with the sequence 0', set('seq', 0), 'RECEIPT_PAYLOAD'],
    ['with a sequence of text', set('seq', '1'), 'RECEIPT_PAYLOAD'],
    ['with a sequence that no number holds exactly', set('seq', 2n ** 60n), 'RECEIPT_PAYLOAD'],
    ['dated before 1970', set('time', -1), 'RECEIPT_PAYLOAD'],
    ['with a model that is not in its list', set('model', 'other'), 'RECEIPT_PAYLOAD'],
    ['with a model that is no text', set('model', null), 'RECEIPT_PAYLOAD'],
    ['without models', set('models', []), 'RECEIPT_PAYLOAD'],
    ['with models of another type', set('models', 'iris'), 'RECEIPT_PAYLOAD'],
    ['with models out of order', set('models', modelsAsCbor(MODELS).reverse()), 'RECEIPT_PAYLOAD'],
    [
      'with a model twice',
      set(
        'models',
        modelsAsCbor(MODELS).flatMap((m) => [m, m]),
      ),
      'RECEIPT_PAYLOAD',
    ],
    ['with a model of three members', set('models', [['iris', 3, null]]), 'RECEIPT_PAYLOAD'],
    ['with a short content id', set('models', [['iris', 3, null, new Uint8Array(31)]]), 'RECEIPT_PAYLOAD'],
    ['with a request digest of 32 bytes', set('request', new Uint8Array(32)), 'RECEIPT_PAYLOAD'],
    ['with an answer digest of text', set('answer', 'a'.repeat(48)), 'RECEIPT_PAYLOAD'],
    ['with a document of text', set('document', 'document'), 'RECEIPT_PAYLOAD'],
    ['with a document beyond any', set('document', new Uint8Array(16_513)), 'RECEIPT_PAYLOAD'],
  ])('%s', (_what, change, code) => {
    expect(verdict(change)).toBe(code);
  });

  it.each(['v', 'seq', 'time', 'model', 'answer', 'models', 'request', 'document'])(
    'without the field %s',
    (name) => {
      expect(verdict(({ payload }) => void payload.delete(name))).toBe('RECEIPT_PAYLOAD');
    },
  );

  it.each<[string, (bytes: Uint8Array) => Uint8Array, string]>([
    ['with a tag', (bytes) => Buffer.concat([Uint8Array.of(0xd2), bytes]), 'CBOR_REFUSED'],
    ['with a byte after it', (bytes) => Buffer.concat([bytes, Uint8Array.of(0)]), 'CBOR_TRAILING_BYTES'],
    [
      'as an array of open length',
      (bytes) => Buffer.concat([Uint8Array.of(0x9f), bytes.subarray(1), Uint8Array.of(0xff)]),
      'RECEIPT_STRUCTURE',
    ],
    [
      'as an array of three',
      () => encodeCbor([new Uint8Array(1), new Map(), new Uint8Array(1)]),
      'RECEIPT_STRUCTURE',
    ],
    ['as nothing', () => new Uint8Array(0), 'CBOR_MALFORMED'],
    ['larger than any', () => new Uint8Array(RECEIPT_MAX_BYTES + 1), 'RECEIPT_TOO_LARGE'],
    ['of a million empty lists', () => new Uint8Array(RECEIPT_MAX_BYTES).fill(0x81), 'CBOR_LIMIT'],
  ])('%s', (_what, change, code) => {
    expect(codeFor(() => parseReceipt(change(buildReceipt().bytes)))).toBe(code);
  });

  it('with a code of ours whatever the bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        expect(codeFor(() => parseReceipt(bytes))).toMatch(/^(CBOR|RECEIPT)_/);
      }),
    );
  });
});

function higherS(signature: Uint8Array): Uint8Array {
  const order = BigInt('0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551');
  const s = BigInt(`0x${hex(signature.subarray(32))}`);
  const other = Buffer.from((order - s).toString(16).padStart(64, '0'), 'hex');
  return new Uint8Array(Buffer.concat([signature.subarray(0, 32), other]));
}

describe('signatures', () => {
  it('have one form of the two, which is found from either', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 1n, max: 2n ** 255n }), (s) => {
        const signature = new Uint8Array(64).fill(1);
        signature.set(Buffer.from(s.toString(16).padStart(64, '0'), 'hex'), 32);
        const lower = lowerS(signature);
        expect(isReceiptSignature(lower)).toBe(true);
        expect(lowerS(higherS(lower))).toEqual(lower);
      }),
    );
  });
});

describe('the key', () => {
  const spki = (curve: string) =>
    new Uint8Array(keyPair(curve).publicKey.export({ type: 'spki', format: 'der' }));

  it('is one of P-256', () => {
    expect(readReceiptKey(spki('P-256'))?.asymmetricKeyDetails?.namedCurve).toBe('prime256v1');
  });

  it.each<[string, () => Uint8Array | null]>([
    ['absent', () => null],
    ['empty', () => new Uint8Array(0)],
    ['of P-384', () => spki('P-384')],
    ['of secp256k1', () => spki('secp256k1')],
    ['with a byte after it', () => Buffer.concat([spki('P-256'), Uint8Array.of(0)])],
    [
      'no point of the curve',
      () => Buffer.concat([spki('P-256').subarray(0, 27), new Uint8Array(64).fill(1)]),
    ],
  ])('is refused when %s', (_what, key) => {
    expect(readReceiptKey(key())).toBeUndefined();
  });
});

describe('the claims of the document', () => {
  const claims = (change: (map: Map<CborValue, CborValue>) => void) => {
    const map = new Map<CborValue, CborValue>([
      ['v', 1],
      ['purpose', 'receipt'],
      ['models', new Uint8Array(48)],
      ['deployment', new Uint8Array(48)],
    ]);
    change(map);
    return codeFor(() => decodeReceiptClaims(encodeCbor(map)));
  };

  it.each<[string, (map: Map<CborValue, CborValue>) => void]>([
    ['of another version', (map) => map.set('v', 2)],
    ['for a TLS connection', (map) => map.set('purpose', 'tls')],
    ['without a purpose', (map) => map.delete('purpose')],
    ['with a short digest of models', (map) => map.set('models', new Uint8Array(47))],
    ['without a deployment', (map) => map.delete('deployment')],
    ['with one more', (map) => map.set('exporter', new Uint8Array(32))],
  ])('are refused %s', (_what, change) => {
    expect(claims(() => {})).toBeUndefined();
    expect(claims((map) => void change(map))).toBe('RECEIPT_CLAIMS');
  });

  it.each([
    ['absent', null],
    ['no CBOR', Uint8Array.of(0xff)],
    ['no map', encodeCbor([])],
    ['larger than any', new Uint8Array(513)],
  ])('are refused when %s', (_what, bytes) => {
    expect(codeFor(() => decodeReceiptClaims(bytes))).toBe('RECEIPT_CLAIMS');
  });
});

describe('the ending of a stream', () => {
  const { bytes } = buildReceipt();
  const ending = streamEnding(bytes);
  const whole = Buffer.concat([Buffer.from('data: 1\n\ndata: [DONE]\n\n'), ending]);

  it('is a comment of one line that holds the receipt, and is found again', () => {
    expect(Buffer.from(ending).toString()).toMatch(/^: strongroom-receipt [A-Za-z0-9_-]+\n\n$/);
    expect(readStreamEnding(whole)).toEqual({ receipt: Buffer.from(bytes), endingBytes: ending.length });
    expect(readStreamEnding(ending)?.endingBytes).toBe(ending.length);
  });

  it('is not found where the stream was cut anywhere', () => {
    for (let length = 0; length < whole.length; length += length < 100 ? 1 : 37) {
      expect(readStreamEnding(whole.subarray(0, length)), `${length} bytes`).toBeUndefined();
    }
    expect(readStreamEnding(whole.subarray(0, -1))).toBeUndefined();
  });

  it.each([
    ['in the middle of an event', 'data: x: strongroom-receipt AAAA\n\n'],
    ['within a block of others', 'data: x\n: strongroom-receipt AAAA\n\n'],
    ['with other characters', ': strongroom-receipt AA+A\n\n'],
    ['with bits that belong to no byte', ': strongroom-receipt AB\n\n'],
    ['of nothing', ': strongroom-receipt \n\n'],
    ['followed by something', ': strongroom-receipt AAAA\n\ndata: x\n\n'],
  ])('is not what stands %s', (_what, stream) => {
    expect(readStreamEnding(Buffer.from(stream))).toBeUndefined();
  });
});
