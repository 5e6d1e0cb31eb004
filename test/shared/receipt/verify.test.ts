/** From the root to the answer: every link of a receipt broken, one at a time, and what a forger could try. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { awsNitroAnchor } from '../../../shared/attestation/anchors.ts';
import { encodeCbor } from '../../../shared/cbor.ts';
import { modelsAsCbor, modelsDigest } from '../../../shared/evidence/evidence.ts';
import { pcrOfMeasuredBytes } from '../../../shared/pcr.ts';
import { RECEIPT_CHECKS } from '../../../shared/receipt/checks.ts';
import { parseReceipt, type UnverifiedReceipt } from '../../../shared/receipt/decode.ts';
import { explainReceipt } from '../../../shared/receipt/explain.ts';
import { DOCUMENT_LIFE_MS } from '../../../shared/receipt/receipt.ts';
import {
  expectAnswer,
  expectReceipt,
  expectRequest,
  parseSalt,
  type ReceiptExpectations,
  VerifiedReceipt,
  verifyReceipt,
} from '../../../shared/receipt/verify.ts';
import { keyPair } from '../attestation/build.ts';
import { codeFor } from '../attestation/code.ts';
import {
  ANSWER,
  ANSWER_BODY,
  type BuiltReceipt,
  buildReceipt,
  IRIS,
  MODELS,
  NOW,
  RECEIPT_KEY,
  REQUEST,
  REQUEST_BODY,
  type ReceiptParts,
  SALT,
} from './build.ts';

const verified = ({ bytes, anchor }: BuiltReceipt, at: Date | 'document' = 'document') =>
  verifyReceipt(parseReceipt(bytes), { anchors: [anchor], at });
const verdict = (change: (parts: ReceiptParts) => void, at?: Date) =>
  codeFor(() => verified(buildReceipt(change), at));
const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
const at = (offsetMs: number) => new Date(NOW.getTime() + offsetMs);

describe('a genuine receipt', () => {
  const receipt = verified(buildReceipt());

  it('says who answered what, and under which deployment', () => {
    expect(receipt.trust).toBe('simulation');
    expect(receipt.model).toEqual(IRIS);
    expect(receipt.fields.models).toEqual(MODELS);
    expect(receipt.fields.sequence).toBe(7);
    expect(receipt.key).toEqual(RECEIPT_KEY);
    expect(VerifiedReceipt.isGenuine(receipt)).toBe(true);
  });

  it('is of its request and its answer', () => {
    expectRequest(receipt, SALT, REQUEST, [REQUEST_BODY]);
    expectAnswer(receipt, SALT, ANSWER, [ANSWER_BODY.subarray(0, 3), ANSWER_BODY.subarray(3)]);
  });

  it('is genuine at its own time and at every time at which its certificates were valid', () => {
    expect(verdict(() => {}, at(0))).toBeUndefined();
    expect(verdict(() => {}, at(2 * 3_600_000))).toBeUndefined();
    expect(verdict(() => {}, at(4 * 3_600_000))).toBe('ATTESTATION_EXPIRED');
    expect(verdict(() => {}, at(-3_600_000))).toBe('ATTESTATION_NOT_YET_VALID');
  });
});

describe('a receipt is refused', () => {
  it.each<[string, (parts: ReceiptParts) => void, string]>([
    [
      'by another key',
      (parts) => {
        parts.signedBy = keyPair('P-256').privateKey;
      },
      'RECEIPT_SIGNATURE',
    ],
    [
      'with the document of an enclave that has another key',
      (parts) => {
        const other = keyPair('P-256').publicKey.export({ type: 'spki', format: 'der' });
        parts.document = ({ payload }) => void payload.set('public_key', new Uint8Array(other));
      },
      'RECEIPT_SIGNATURE',
    ],
    [
      'with a document without a key',
      (parts) => {
        parts.document = ({ payload }) => void payload.set('public_key', null);
      },
      'RECEIPT_KEY',
    ],
    [
      'with a document that carries an RSA key, such as one made for KMS',
      (parts) => {
        parts.document = ({ payload }) => void payload.set('public_key', new Uint8Array(294));
      },
      'RECEIPT_KEY',
    ],
    [
      'with a document made for a TLS connection',
      (parts) => {
        parts.claims = new Map([...parts.claims, ['purpose', 'tls']]);
      },
      'RECEIPT_CLAIMS',
    ],
    [
      'with a document without claims',
      (parts) => {
        parts.document = ({ payload }) => void payload.set('user_data', null);
      },
      'RECEIPT_CLAIMS',
    ],
    [
      'with a deployment that was not measured',
      (parts) => void parts.claims.set('deployment', new Uint8Array(48)),
      'RECEIPT_DEPLOYMENT',
    ],
    [
      'with a document that lacks PCR16',
      (parts) => {
        parts.document = ({ payload }) => void (payload.get('pcrs') as Map<number, Uint8Array>).delete(16);
      },
      'RECEIPT_DEPLOYMENT',
    ],
    [
      'with models that its document does not cover',
      (parts) => void parts.payload.set('models', modelsAsCbor([{ ...IRIS, version: 4 }])),
      'RECEIPT_MODELS',
    ],
    [
      'with fewer models than its document covers',
      (parts) => void parts.payload.set('models', modelsAsCbor([IRIS])),
      'RECEIPT_MODELS',
    ],
    [
      'with a document that covers other models',
      (parts) => void parts.claims.set('models', modelsDigest([IRIS])),
      'RECEIPT_MODELS',
    ],
    [
      'dated before its document',
      (parts) => void parts.payload.set('time', NOW.getTime() - 60_001),
      'RECEIPT_TIME',
    ],
    [
      'dated long after its document',
      (parts) => void parts.payload.set('time', NOW.getTime() + DOCUMENT_LIFE_MS + 1),
      'RECEIPT_TIME',
    ],
    [
      'dated beyond all dates',
      (parts) => void parts.payload.set('time', Number.MAX_SAFE_INTEGER),
      'RECEIPT_TIME',
    ],
    [
      'of an enclave in debug mode',
      (parts) => {
        parts.document = ({ payload }) => {
          for (const index of [0, 1, 2])
            (payload.get('pcrs') as Map<number, Uint8Array>).set(index, new Uint8Array(48));
        };
      },
      'ATTESTATION_DEBUG_IMAGE',
    ],
    [
      'with a document whose signature is not its own',
      (parts) => {
        parts.document = (of) => {
          of.signedBy = keyPair().privateKey;
        };
      },
      'ATTESTATION_SIGNATURE',
    ],
    [
      'with something else for a document',
      (parts) => void parts.payload.set('document', encodeCbor(['not', 'a', 'document'])),
      'ATTESTATION_STRUCTURE',
    ],
  ])('%s', (_what, change, code) => {
    expect(verdict(change)).toBe(code);
  });

  it('at the ends of the time that its document covers, and not within', () => {
    for (const offsetMs of [-60_000, 0, DOCUMENT_LIFE_MS]) {
      expect(verdict(({ payload }) => void payload.set('time', NOW.getTime() + offsetMs))).toBeUndefined();
    }
  });

  it('dated after the time at which it is judged', () => {
    const late = ({ payload }: ReceiptParts) => void payload.set('time', NOW.getTime() + 100_000);
    expect(verdict(late, at(40_000))).toBeUndefined();
    expect(verdict(late, at(39_999))).toBe('RECEIPT_TIME');
  });

  it('under another root, and under none', () => {
    const { bytes } = buildReceipt();
    const judge = (anchors: Parameters<typeof verifyReceipt>[1]['anchors']) =>
      codeFor(() => verifyReceipt(parseReceipt(bytes), { anchors, at: 'document' }));
    expect(judge([awsNitroAnchor()])).toBe('ATTESTATION_UNTRUSTED_ROOT');
    expect(judge([])).toBe('ATTESTATION_NO_ANCHOR');
  });

  it('with a changed bit anywhere', () => {
    const { bytes, anchor } = buildReceipt();
    // All of the head, and of the rest a sample in which every field has its share; the document's own tests do the rest.
    const isTried = (place: number) => place < 60 || place % (place < 600 ? 5 : 97) === 0;
    const end = bytes.length - 80;
    const places = Array.from({ length: bytes.length }, (_, place) => place).filter(
      (place) => isTried(place) || (place > end && place % 2 === 0),
    );
    for (const place of places) {
      const changed = bytes.slice();
      changed[place] = (changed[place] as number) ^ (1 << (place % 8));
      expect(
        codeFor(() => verified({ bytes: changed, anchor })),
        `bit at ${place}`,
      ).toMatch(/^(RECEIPT|ATTESTATION|CBOR)_/);
    }
  });

  it('cut anywhere', () => {
    const { bytes, anchor } = buildReceipt();
    for (let length = 0; length < bytes.length; length += 13) {
      expect(codeFor(() => verified({ bytes: bytes.subarray(0, length), anchor }))).toBe('CBOR_MALFORMED');
    }
  });

  it('that nobody parsed or verified, whatever it looks like', () => {
    const { bytes, anchor } = buildReceipt();
    const parsed = parseReceipt(bytes);
    const copied = { ...parsed } as unknown as UnverifiedReceipt;
    const options = { anchors: [anchor], at: 'document' as const };
    expect(codeFor(() => verifyReceipt(copied, options))).toBe('RECEIPT_NOT_VERIFIED');
    const receipt = Object.create(VerifiedReceipt.prototype, {
      fields: { value: parsed.untrusted },
    }) as VerifiedReceipt;
    expect(codeFor(() => expectRequest(receipt, SALT, REQUEST, [REQUEST_BODY]))).toBe('RECEIPT_NOT_VERIFIED');
    expect(codeFor(() => expectAnswer(receipt, SALT, ANSWER, [ANSWER_BODY]))).toBe('RECEIPT_NOT_VERIFIED');
    expect(codeFor(() => expectReceipt(receipt, { pcrs: { 0: 'any', 16: 'any' }, models: [] }))).toBe(
      'RECEIPT_NOT_VERIFIED',
    );
    expect(() => new VerifiedReceipt(Symbol() as never, {} as never, {} as never, SALT, SALT)).toThrow(
      TypeError,
    );
  });
});

describe('what is expected of a receipt', () => {
  const receipt = verified(buildReceipt());
  const image = hex(pcrOfMeasuredBytes(Uint8Array.of(0)));
  const deployment = hex(pcrOfMeasuredBytes(Uint8Array.of(16)));
  const pcrs = { 0: image, 16: deployment };
  const outcome = (expected: ReceiptExpectations) => codeFor(() => expectReceipt(receipt, expected));

  it('is met by the enclave and the model that are wanted', () => {
    expect(outcome({ pcrs, models: [] })).toBeUndefined();
    expect(outcome({ pcrs: { ...pcrs, 0: ['ab'.repeat(48), image] }, models: [{ name: 'iris' }] })).toBe(
      undefined,
    );
    const wanted = { name: 'iris', minimumVersion: 3, contentId: IRIS.contentId };
    expect(outcome({ pcrs, models: [{ name: 'echo' }, wanted] })).toBeUndefined();
  });

  it.each<[string, ReceiptExpectations, string]>([
    ['another image', { pcrs: { ...pcrs, 0: 'ab'.repeat(48) }, models: [] }, 'ATTESTATION_PCR_MISMATCH'],
    [
      'another deployment',
      { pcrs: { ...pcrs, 16: 'ab'.repeat(48) }, models: [] },
      'ATTESTATION_PCR_MISMATCH',
    ],
    [
      'a register of zeros',
      { pcrs: { ...pcrs, 0: '0'.repeat(96) }, models: [] },
      'ATTESTATION_EXPECTATION_UNUSABLE',
    ],
    [
      'another model, though this one was loaded',
      { pcrs, models: [{ name: 'echo' }] },
      'RECEIPT_MODEL_UNEXPECTED',
    ],
    ['a newer version', { pcrs, models: [{ name: 'iris', minimumVersion: 4 }] }, 'RECEIPT_MODEL_UNEXPECTED'],
    [
      'other weights',
      { pcrs, models: [{ name: 'iris', contentId: 'ff'.repeat(32) }] },
      'RECEIPT_MODEL_UNEXPECTED',
    ],
  ])('is not met by one of %s', (_what, expected, code) => {
    expect(outcome(expected)).toBe(code);
  });
});

describe('a receipt is of one exchange', () => {
  const receipt = verified(buildReceipt());
  const otherSalt = SALT.with(0, 99);

  it.each<[string, () => void, string]>([
    [
      'another body',
      () => expectRequest(receipt, SALT, REQUEST, [Buffer.from('{}')]),
      'RECEIPT_OTHER_REQUEST',
    ],
    ['no body', () => expectRequest(receipt, SALT, REQUEST, []), 'RECEIPT_OTHER_REQUEST'],
    [
      'another path',
      () => expectRequest(receipt, SALT, { ...REQUEST, target: '/v2/models/echo/infer' }, [REQUEST_BODY]),
      'RECEIPT_OTHER_REQUEST',
    ],
    [
      'another method',
      () => expectRequest(receipt, SALT, { ...REQUEST, method: 'PUT' }, [REQUEST_BODY]),
      'RECEIPT_OTHER_REQUEST',
    ],
    [
      'another content type',
      () => expectRequest(receipt, SALT, { ...REQUEST, contentType: 'text/plain' }, [REQUEST_BODY]),
      'RECEIPT_OTHER_REQUEST',
    ],
    [
      'the same bytes cut elsewhere into JSON and tensors',
      () => expectRequest(receipt, SALT, { ...REQUEST, framing: '5' }, [REQUEST_BODY]),
      'RECEIPT_OTHER_REQUEST',
    ],
    [
      'the salt of another',
      () => expectRequest(receipt, otherSalt, REQUEST, [REQUEST_BODY]),
      'RECEIPT_OTHER_REQUEST',
    ],
    [
      'the answer in its place',
      () => expectRequest(receipt, SALT, REQUEST, [ANSWER_BODY]),
      'RECEIPT_OTHER_REQUEST',
    ],
  ])('and of no request with %s', (_what, check, code) => {
    expect(codeFor(check)).toBe(code);
  });

  it.each<[string, () => void, string]>([
    ['another body', () => expectAnswer(receipt, SALT, ANSWER, [Buffer.from('{}')]), 'RECEIPT_OTHER_ANSWER'],
    [
      'a byte cut off',
      () => expectAnswer(receipt, SALT, ANSWER, [ANSWER_BODY.subarray(0, -1)]),
      'RECEIPT_OTHER_ANSWER',
    ],
    [
      'another status',
      () => expectAnswer(receipt, SALT, { ...ANSWER, status: 500 }, [ANSWER_BODY]),
      'RECEIPT_OTHER_ANSWER',
    ],
    [
      'another framing',
      () => expectAnswer(receipt, SALT, { ...ANSWER, framing: '5' }, [ANSWER_BODY]),
      'RECEIPT_OTHER_ANSWER',
    ],
    [
      'the salt of another',
      () => expectAnswer(receipt, otherSalt, ANSWER, [ANSWER_BODY]),
      'RECEIPT_OTHER_ANSWER',
    ],
    [
      'the request in its place',
      () => expectAnswer(receipt, SALT, ANSWER, [REQUEST_BODY]),
      'RECEIPT_OTHER_ANSWER',
    ],
    [
      'a salt of 31 bytes',
      () => expectAnswer(receipt, SALT.subarray(1), ANSWER, [ANSWER_BODY]),
      'RECEIPT_SALT',
    ],
  ])('and of no answer with %s', (_what, check, code) => {
    expect(codeFor(check)).toBe(code);
  });

  it.each([null, undefined, '', 'A'.repeat(42), `${'A'.repeat(43)}=`, `${'A'.repeat(42)}B`])(
    'and %j is no salt',
    (text) => {
      expect(codeFor(() => parseSalt(text))).toBe('RECEIPT_SALT');
    },
  );

  it('and its salt is read from its header', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), (salt) => {
        expect(hex(parseSalt(Buffer.from(salt).toString('base64url')))).toBe(hex(salt));
      }),
    );
  });
});

describe('the explanation', () => {
  const { bytes, anchor } = buildReceipt();
  const verification = { anchors: [anchor], at: 'document' as const };
  const everything = {
    verification,
    expected: { pcrs: { 0: 'any', 16: 'any' }, models: [] },
    request: { salt: SALT, head: REQUEST, body: REQUEST_BODY },
    answer: { salt: SALT, head: ANSWER, body: ANSWER_BODY },
  };

  it('ticks off every check where everything is asked', () => {
    const { checks, error } = explainReceipt(bytes, everything);
    expect(error).toBeUndefined();
    expect(checks.map(({ check }) => check)).toEqual(RECEIPT_CHECKS.map(({ id }) => id));
    for (const { check, outcome, detail } of checks)
      expect([check, outcome, detail !== '']).toEqual([check, 'passed', true]);
  });

  it('says what was not asked', () => {
    const { checks } = explainReceipt(bytes, { verification });
    expect(checks.filter(({ outcome }) => outcome === 'not-asked').map(({ check }) => check)).toEqual([
      'pcrs',
      'model',
      'request',
      'answer',
    ]);
    expect(checks.some(({ outcome }) => outcome === 'not-reached')).toBe(false);
  });

  it.each<[string, (parts: ReceiptParts) => void, string]>([
    ['payload', (parts) => void parts.payload.set('seq', 0), 'payload'],
    ['document', (parts) => void parts.payload.set('document', Uint8Array.of(1)), 'document'],
    [
      'key',
      (parts) => {
        parts.signedBy = keyPair('P-256').privateKey;
      },
      'signature',
    ],
    ['time', (parts) => void parts.payload.set('time', 1), 'time'],
  ])('names the check that failed: %s', (_what, change, check) => {
    const built = buildReceipt(change);
    const { checks, error } = explainReceipt(built.bytes, {
      ...everything,
      verification: { anchors: [built.anchor], at: 'document' },
    });
    const failed = checks.filter(({ outcome }) => outcome === 'failed');
    expect(failed.map((result) => [result.check, result.detail])).toEqual([[check, error?.message]]);
    const after = checks.slice(checks.indexOf(failed[0] as (typeof failed)[number]) + 1);
    expect(after.every(({ outcome }) => outcome === 'not-reached')).toBe(true);
  });
});
