/** What the enclave signs, when it asks its NSM for what vouches for it, and when it signs nothing. */
import { expect, it } from 'vitest';
import { type PendingReceipt, ReceiptIssuer, type ReceiptSource } from '../../enclave/receipts.ts';
import { simulationAnchor } from '../../shared/attestation/anchors.ts';
import type { LoadedModel } from '../../shared/evidence/evidence.ts';
import { decodeReceiptClaims, parseReceipt } from '../../shared/receipt/decode.ts';
import { readReceiptKey } from '../../shared/receipt/key.ts';
import { expectAnswer, expectRequest, verifyReceipt } from '../../shared/receipt/verify.ts';
import { IRIS, newReceiptIssuer, startPlatform } from '../client/test-enclave.ts';

const HEAD = {
  method: 'POST',
  target: '/v2/models/iris/infer',
  contentType: 'application/json',
  framing: undefined,
};
const ANSWER = { status: 200, contentType: 'application/json', framing: undefined };
const BODY = Buffer.from('{"inputs":[]}');
const START_MS = Date.UTC(2026, 2, 4);
const newer: LoadedModel = { ...IRIS, version: 4 };

function issuer(changes: Partial<ReceiptSource> = {}) {
  const asked: Parameters<ReceiptSource['nsm']['attest']>[0][] = [];
  const time = { ms: START_MS };
  const made = new ReceiptIssuer({
    nsm: {
      attest: async (fields) => {
        asked.push(fields);
        return Uint8Array.of(asked.length);
      },
    },
    deploymentSha384: new Uint8Array(48).fill(2),
    now: () => new Date(time.ms),
    ...changes,
  });
  return { issuer: made, asked, time };
}

async function begun(made: ReceiptIssuer, models: readonly LoadedModel[] = [IRIS]): Promise<PendingReceipt> {
  const pending = made.begin(models, HEAD);
  for (const byte of BODY) pending.readRequest(Uint8Array.of(byte));
  await pending.vouch('iris');
  return pending;
}

async function issue(made: ReceiptIssuer, models: readonly LoadedModel[] = [IRIS]) {
  const pending = await begun(made, models);
  pending.beginAnswer(ANSWER);
  pending.readAnswer(Buffer.from('answer'));
  return { salt: pending.salt, ...parseReceipt(pending.finish()).untrusted };
}

it('a receipt leads from the root to the exchange', async () => {
  const platform = await startPlatform();
  const made = newReceiptIssuer(platform);
  const pending = await begun(made);
  pending.beginAnswer(ANSWER);
  for (const byte of BODY) pending.readAnswer(Uint8Array.of(byte));
  const receipt = verifyReceipt(parseReceipt(pending.finish()), {
    anchors: [simulationAnchor(platform.ca.rootPem)],
    at: new Date(),
  });
  expect(receipt.key).toEqual(made.publicKey);
  expect(receipt.model).toEqual(IRIS);
  expectRequest(receipt, pending.salt, HEAD, [BODY]);
  expectAnswer(receipt, pending.salt, ANSWER, [BODY]);
});

it('its document carries the key, the models and the deployment, and nothing of any connection', async () => {
  const { issuer: made, asked } = issuer();
  await issue(made);
  const [{ userData, nonce, publicKey }] = asked as [(typeof asked)[number]];
  expect(nonce).toBeNull();
  expect(publicKey).toEqual(made.publicKey);
  expect(readReceiptKey(publicKey)).toBeDefined();
  expect(decodeReceiptClaims(userData).deployment).toEqual(new Uint8Array(48).fill(2));
});

it('receipts are numbered without gaps, and dated when their answer is complete', async () => {
  const { issuer: made, time } = issuer();
  const [first, second] = [await begun(made), await begun(made)];
  time.ms += 5000;
  second.beginAnswer(ANSWER);
  expect(parseReceipt(second.finish()).untrusted).toMatchObject({
    sequence: 1,
    timestampMs: START_MS + 5000,
  });
  first.beginAnswer(ANSWER);
  expect(parseReceipt(first.finish()).untrusted.sequence).toBe(2);
  expect((await issue(made)).sequence).toBe(3);
});

it('each has a salt of its own, so that equal exchanges have different digests', async () => {
  const { issuer: made } = issuer();
  const [one, other] = [await issue(made), await issue(made)];
  expect(Buffer.from(one.salt).equals(other.salt)).toBe(false);
  expect(Buffer.from(one.requestDigest).equals(other.requestDigest)).toBe(false);
  expect(Buffer.from(one.answerDigest).equals(other.answerDigest)).toBe(false);
});

it('the salt is not in the receipt', async () => {
  const { issuer: made } = issuer();
  const pending = await begun(made);
  pending.beginAnswer(ANSWER);
  expect(Buffer.from(pending.finish()).includes(Buffer.from(pending.salt))).toBe(false);
});

it('the NSM is asked once in ten minutes, however many ask at once', async () => {
  const { issuer: made, asked, time } = issuer();
  await Promise.all(Array.from({ length: 20 }, () => issue(made)));
  time.ms += 10 * 60_000 - 1;
  await issue(made);
  expect(asked).toHaveLength(1);
  time.ms += 1;
  expect((await issue(made)).document).toEqual(Uint8Array.of(2));
  expect(asked).toHaveLength(2);
});

it('a clock that was set back asks for a new document, too', async () => {
  const { issuer: made, asked, time } = issuer();
  await issue(made);
  time.ms -= 10 * 60_000;
  await issue(made);
  expect(asked).toHaveLength(2);
});

it('a connection whose models were replaced gets receipts of the models that its evidence named', async () => {
  const { issuer: made, asked } = issuer();
  expect((await issue(made, [IRIS])).models).toEqual([IRIS]);
  expect((await issue(made, [newer])).models).toEqual([newer]);
  expect(await issue(made, [IRIS])).toMatchObject({ models: [IRIS], document: Uint8Array.of(1) });
  expect(asked.map(({ userData }) => decodeReceiptClaims(userData).models)).toHaveLength(2);
});

it('only so many lists of models have a document at once', async () => {
  const { issuer: made, asked } = issuer();
  for (let version = 1; version <= 6; version++) await issue(made, [{ ...IRIS, version }]);
  await issue(made, [{ ...IRIS, version: 6 }]);
  expect(asked).toHaveLength(6);
  await issue(made, [{ ...IRIS, version: 1 }]);
  expect(asked).toHaveLength(7);
});

it('where the NSM fails there is no receipt, and the next request asks again', async () => {
  let failures = 1;
  const { issuer: made } = issuer({
    nsm: {
      attest: async () => {
        if (failures-- > 0) throw new Error('NSM');
        return Uint8Array.of(9);
      },
    },
  });
  await expect(issue(made)).rejects.toThrow('NSM');
  expect((await issue(made)).document).toEqual(Uint8Array.of(9));
});

it('an answer has one beginning and one end', async () => {
  const { issuer: made } = issuer();
  const pending = await begun(made);
  expect(() => pending.readAnswer(BODY)).toThrow(TypeError);
  expect(() => pending.finish()).toThrow(TypeError);
  pending.beginAnswer(ANSWER);
  expect(() => pending.beginAnswer(ANSWER)).toThrow(TypeError);
  pending.finish();
  expect(() => pending.finish()).toThrow();
  expect(() => pending.readAnswer(BODY)).toThrow();
  expect((await issue(made)).sequence).toBe(2);
});

it('an answer that nobody was asked for has no receipt', () => {
  const { issuer: made, asked } = issuer();
  const pending = made.begin([IRIS], HEAD);
  pending.beginAnswer(ANSWER);
  expect(() => pending.finish()).toThrow(TypeError);
  expect(asked).toHaveLength(0);
});

it('a request that is read no further has one digest', async () => {
  const pending = await begun(issuer().issuer);
  expect(() => pending.readRequest(BODY)).toThrow();
  await expect(pending.vouch('iris')).rejects.toThrow();
});

it('two enclaves have two keys', () => {
  expect(Buffer.from(issuer().issuer.publicKey).equals(issuer().issuer.publicKey)).toBe(false);
});
