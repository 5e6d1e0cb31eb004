import { generateKeyPairSync } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  DENY_LIST_PAYLOAD_TYPE,
  type DenyListFields,
  expectCurrent,
  VerifiedDenyList,
  verifyDenyList,
} from '../../../shared/deny-list/deny-list.ts';
import { DenyListError } from '../../../shared/deny-list/errors.ts';
import { signDenyList } from '../../../shared/deny-list/sign.ts';
import { signEnvelope } from '../../../shared/dsse.ts';

const signer = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const SPIFFE = 'spiffe://models.example.org/app-1';
const FIELDS: DenyListFields = {
  sequence: 7,
  issuedAt: new Date('2030-01-31T12:00:00Z'),
  expiresAt: new Date('2030-02-01T12:00:00Z'),
  denied: [
    { kind: 'spiffe', value: SPIFFE },
    { kind: 'subject', value: 'O=Example, CN=legacy-1' },
    { kind: 'serial', value: '5f2b' },
    { kind: 'sha256', value: 'ab'.repeat(32) },
  ],
};
const CLIENT = { spiffe: undefined, subject: undefined, serial: '1', sha256: 'cd'.repeat(32) };

const read = (bytes: Uint8Array) => verifyDenyList(bytes, signer.publicKey);
const listOf = (fields: Partial<DenyListFields>) =>
  read(signDenyList({ ...FIELDS, ...fields }, signer.privateKey));
const code = (expected: string) => expect.objectContaining({ code: expected });
const at = (text: string) => new Date(`2030-${text}Z`);

/** What a careless signer could sign. */
const signedAnyway = (payload: unknown, type = DENY_LIST_PAYLOAD_TYPE): Uint8Array =>
  signEnvelope(
    Buffer.from(typeof payload === 'string' ? payload : JSON.stringify(payload)),
    type,
    signer.privateKey,
  );
const plain = () => ({
  format: 'strongroom-deny-list/1',
  sequence: 7,
  issuedAt: '2030-01-31T12:00:00Z',
  expiresAt: '2030-02-01T12:00:00Z',
  denied: [{ spiffe: SPIFFE }] as object[],
});

describe('a deny list', () => {
  it('denies clients by name and certificates by serial and digest, and nobody else', () => {
    const list = listOf({});
    expect(list).toMatchObject(FIELDS);
    expect(list.denies(CLIENT)).toBe(false);
    expect(list.denies({ ...CLIENT, spiffe: SPIFFE })).toBe(true);
    expect(list.denies({ ...CLIENT, spiffe: `${SPIFFE}0` })).toBe(false);
    expect(list.denies({ ...CLIENT, subject: 'O=Example, CN=legacy-1' })).toBe(true);
    expect(list.denies({ ...CLIENT, serial: '5f2b' })).toBe(true);
    expect(list.denies({ ...CLIENT, sha256: 'ab'.repeat(32) })).toBe(true);
    // One kind's value is not another's.
    expect(list.denies({ ...CLIENT, subject: SPIFFE })).toBe(false);
    expect(listOf({ denied: [] }).denies({ ...CLIENT, spiffe: SPIFFE })).toBe(false);
  });

  it('may be signed with Ed25519', () => {
    const { publicKey, privateKey } = generateKeyPairSync('ed25519');
    expect(verifyDenyList(signDenyList(FIELDS, privateKey), publicKey).sequence).toBe(7);
  });

  it('is made by its verifier alone', () => {
    expect(() => new VerifiedDenyList(Symbol('mine'), FIELDS, '')).toThrow(TypeError);
  });

  it('is refused unless the expected signer signed exactly this, as a deny list', () => {
    const other = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    expect(() => verifyDenyList(signDenyList(FIELDS, other.privateKey), signer.publicKey)).toThrow(
      code('DENY_LIST_UNSIGNED'),
    );
    const { payload, ...rest } = JSON.parse(Buffer.from(signDenyList(FIELDS, signer.privateKey)).toString());
    const changed = Buffer.from(payload, 'base64').toString().replace('5f2b', '5f2c');
    const forged = JSON.stringify({ ...rest, payload: Buffer.from(changed).toString('base64') });
    expect(() => read(Buffer.from(forged))).toThrow(code('DENY_LIST_UNSIGNED'));
    expect(() => read(Buffer.from(JSON.stringify({ payload, ...rest, signatures: [] })))).toThrow(
      code('DENY_LIST_UNSIGNED'),
    );
    // The same key signs manifests elsewhere.
    const manifest = signedAnyway(plain(), 'application/vnd.in-toto+json');
    expect(() => read(manifest)).toThrow(code('DENY_LIST_MALFORMED'));
    const relabelled = Buffer.from(manifest)
      .toString()
      .replace('application/vnd.in-toto+json', DENY_LIST_PAYLOAD_TYPE);
    expect(() => read(Buffer.from(relabelled))).toThrow(code('DENY_LIST_UNSIGNED'));
  });

  it.each<[string, (list: ReturnType<typeof plain>) => unknown]>([
    ['another format', (l) => ({ ...l, format: 'strongroom-deny-list/2' })],
    ['an unknown member', (l) => ({ ...l, allowed: [] })],
    ['a missing member', ({ expiresAt: _, ...l }) => l],
    ['a sequence of zero', (l) => ({ ...l, sequence: 0 })],
    ['a sequence that is text', (l) => ({ ...l, sequence: '7' })],
    ['a repeated member', (l) => JSON.stringify(l).replace('{', '{"sequence":9,')],
    ['a time with milliseconds', (l) => ({ ...l, issuedAt: '2030-01-31T12:00:00.000Z' })],
    ['a time in another zone', (l) => ({ ...l, issuedAt: '2030-01-31T12:00:00+01:00' })],
    ['a day that there is not', (l) => ({ ...l, issuedAt: '2030-01-32T12:00:00Z' })],
    ['a day that would be another', (l) => ({ ...l, expiresAt: '2030-02-30T12:00:00Z' })],
    ['an end before its beginning', (l) => ({ ...l, expiresAt: l.issuedAt })],
    ['a life of more than 31 days', (l) => ({ ...l, expiresAt: '2030-03-03T12:00:01Z' })],
    ['entries that are no list', (l) => ({ ...l, denied: { spiffe: SPIFFE } })],
    ['too many entries', (l) => ({ ...l, denied: Array.from({ length: 4097 }, () => ({ serial: '1' })) })],
    ['an entry without a name', (l) => ({ ...l, denied: [{}] })],
    ['an entry with two names', (l) => ({ ...l, denied: [{ spiffe: SPIFFE, serial: '1' }] })],
    ['an entry of an unknown kind', (l) => ({ ...l, denied: [{ dns: 'example.org' }] })],
    ['an entry that is text', (l) => ({ ...l, denied: [SPIFFE] })],
    ['a pattern', (l) => ({ ...l, denied: [{ spiffe: 'spiffe://models.example.org/*' }] })],
    ['a serial in upper case', (l) => ({ ...l, denied: [{ serial: '5F2B' }] })],
    ['a serial with leading zeros, which would deny nobody', (l) => ({ ...l, denied: [{ serial: '005f' }] })],
    ['a digest with colons', (l) => ({ ...l, denied: [{ sha256: 'ab:'.repeat(32) }] })],
  ])('is refused with %s, though it is signed', (_, change) => {
    expect(() => read(signedAnyway(change(plain())))).toThrow(code('DENY_LIST_MALFORMED'));
  });

  it('is refused above its size before it is parsed', () => {
    expect(() => read(Buffer.alloc(512 * 1024 + 1, ' '))).toThrow(code('DENY_LIST_MALFORMED'));
  });

  it('answers arbitrary bytes with a DenyListError and nothing else', () => {
    const signed = Buffer.from(signDenyList(FIELDS, signer.privateKey));
    const broken = fc
      .tuple(fc.nat(signed.length - 1), fc.integer({ min: 1, max: 255 }))
      .map(([offset, mask]) => {
        const copy = Buffer.from(signed);
        copy[offset] = (copy[offset] as number) ^ mask;
        return copy;
      });
    fc.assert(
      fc.property(fc.oneof(fc.uint8Array({ maxLength: 200 }), broken), (bytes) => {
        try {
          // A changed key id is a changed hint.
          expect(read(bytes).sequence).toBe(7);
        } catch (error) {
          if (!(error instanceof DenyListError)) throw error;
        }
      }),
    );
  });

  it('is not signed if nobody would take it, or with a key that nobody takes', () => {
    const late = { ...FIELDS, expiresAt: FIELDS.issuedAt };
    expect(() => signDenyList(late, signer.privateKey)).toThrow(code('DENY_LIST_MALFORMED'));
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-384' });
    expect(() => signDenyList(FIELDS, privateKey)).toThrow(code('DENY_LIST_SIGNER_UNSUPPORTED'));
  });
});

describe('a deny list holds', () => {
  it('from a minute before its beginning until its end', () => {
    const list = listOf({});
    expect(() => expectCurrent(list, at('01-31T11:58:59'))).toThrow(code('DENY_LIST_FROM_FUTURE'));
    expectCurrent(list, at('01-31T11:59:00'));
    expectCurrent(list, new Date(FIELDS.expiresAt.getTime() - 1));
    expect(() => expectCurrent(list, FIELDS.expiresAt)).toThrow(code('DENY_LIST_EXPIRED'));
    expect(() => expectCurrent(list, new Date(Number.NaN))).toThrow(DenyListError);
  });

  it('until a later one was seen', () => {
    const [one, two] = [listOf({ sequence: 7 }), listOf({ sequence: 8, denied: [] })];
    const now = at('01-31T13:00:00');
    expectCurrent(two, now, one);
    expect(() => expectCurrent(one, now, two)).toThrow(code('DENY_LIST_REPLAYED'));
  });

  it('alone: a second one with its sequence is none, unless it says the same', () => {
    const now = at('01-31T13:00:00');
    expectCurrent(listOf({}), now, listOf({}));
    expect(() => expectCurrent(listOf({ denied: [] }), now, listOf({}))).toThrow(code('DENY_LIST_REPLAYED'));
  });
});
