/** What a deny list does to clients, over real TLS, and what a hostile parent can do with it. */
import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { describe, expect, it, onTestFinished } from 'vitest';
import { type DenyListEvent, DenyListWatch } from '../../../enclave/clients/deny-list.ts';
import type { Denied } from '../../../shared/deny-list/deny-list.ts';
import { signDenyList } from '../../../shared/deny-list/sign.ts';
import { hours, testCa, testClient } from '../../support/client-certificates.ts';
import { APP, allow, doorOf, rulesOf } from '../../support/door.ts';
import { fakeEngine, NONCE, servedModel, serveForTest } from '../../support/serving.ts';

const ca = testCa();
const signer = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const OTHER = 'spiffe://models.example.org/app-2';
const METADATA = {
  inputs: [{ name: 'x', datatype: 'FP32', shape: [1] }],
  outputs: [{ name: 'y', datatype: 'FP32', shape: [1] }],
} as const;

const list = (sequence: number, denied: readonly Denied[] = [], life: [Date, Date] = [hours(-1), hours(1)]) =>
  signDenyList({ sequence, issuedAt: life[0], expiresAt: life[1], denied }, signer.privateKey);
const spiffe = (value: string): Denied => ({ kind: 'spiffe', value });

/** A parent that brings whatever `bring` holds, and a server behind the door. */
async function enclave(first?: Uint8Array, now: () => Date = () => new Date()) {
  let brought = first;
  let fetches = 0;
  const events: DenyListEvent[] = [];
  const denyList = await DenyListWatch.start({
    fetch: async () => {
      fetches += 1;
      if (brought === undefined) throw new Error('the parent has none');
      return brought;
    },
    signer: signer.publicKey,
    now,
    observe: (event) => events.push(event),
    refreshMs: 10,
  });
  const server = await serveForTest({
    models: [servedModel(fakeEngine(METADATA, () => new Promise(() => {})))],
    door: doorOf(
      rulesOf(ca, {
        allowed: [allow('spiffe', APP), allow('spiffe', OTHER)],
        denyListSigner: signer.publicKey,
      }),
      {
        denyList,
        now,
      },
    ),
  });
  onTestFinished(() => server[Symbol.asyncDispose]());
  return {
    server,
    events,
    /** Resolves when the enclave has looked at it. */
    bring: async (bytes: Uint8Array | undefined) => {
      brought = bytes;
      const before = fetches;
      await expect.poll(() => fetches).toBeGreaterThan(before + 1);
    },
    first: async (client = testClient(ca, { uris: [APP] })) => {
      const connection = await server.connect({ evidence: false, ...client });
      const { status, json, headers } = await connection.ask('GET', `/attestation?nonce=${NONCE}`);
      connection.close();
      return { status, code: json.code, retryAfter: headers['retry-after'] };
    },
  };
}

const SERVED = { status: 200, code: undefined, retryAfter: undefined };
const DENIED = { status: 403, code: 'CALLER_DENIED', retryAfter: undefined };
const SUSPENDED = { status: 503, code: 'CALLERS_SUSPENDED', retryAfter: '10' };

describe('a deny list', () => {
  it('refuses whom it names, by each kind of name, and serves the others', async () => {
    const at = await enclave(list(1));
    const client = testClient(ca, { uris: [APP] });
    const { certificate } = client;
    expect(await at.first(client)).toEqual(SERVED);
    const entries: Denied[] = [
      spiffe(APP),
      { kind: 'serial', value: certificate.serialNumber.toLowerCase().replace(/^0+/, '') },
      { kind: 'sha256', value: certificate.fingerprint256.replaceAll(':', '').toLowerCase() },
    ];
    for (const [index, entry] of entries.entries()) {
      await at.bring(list(index + 2, [entry]));
      expect(await at.first(client)).toEqual(DENIED);
      expect(await at.first(testClient(ca, { uris: [OTHER] }))).toEqual(SERVED);
    }
    // The last two denied one certificate, not the client.
    expect(await at.first()).toEqual(SERVED);
  });

  it('cuts live connections of whom it names, in the middle of a request too, and no others', async () => {
    const at = await enclave(list(1));
    const [idle, busy, other] = [
      await at.server.connect(testClient(ca, { uris: [APP] })),
      await at.server.connect(testClient(ca, { uris: [APP] })),
      await at.server.connect(testClient(ca, { uris: [OTHER] })),
    ];
    const answer = busy.ask('POST', '/v2/models/m/infer', {
      inputs: [{ name: 'x', datatype: 'FP32', shape: [1], data: [1] }],
    });
    const cut = expect(answer).rejects.toThrow();
    const closed = once(idle.socket, 'close');
    await at.bring(list(2, [spiffe(APP)]));
    await cut;
    await closed;
    expect((await other.ask('GET', '/v2')).status).toBe(200);
  });

  it('that is not there refuses everybody, until it comes', async () => {
    const at = await enclave();
    expect(await at.first()).toEqual(SUSPENDED);
    await at.bring(list(1));
    expect(await at.first()).toEqual(SERVED);
    expect(at.events.map(({ outcome }) => outcome)).toEqual(['refused', 'taken']);
  });

  it('that ends refuses everybody in enclave time, on open connections too, until the next one comes', async () => {
    let now = new Date();
    const at = await enclave(list(1), () => now);
    const open = await at.server.connect(testClient(ca, { uris: [APP] }));
    now = hours(2);
    expect(await at.first()).toEqual(SUSPENDED);
    const refused = await open.ask('GET', '/v2');
    expect(refused.json.code).toBe('CALLERS_SUSPENDED');
    await at.bring(list(2, [], [hours(1.5), hours(3)]));
    expect((await open.ask('GET', '/v2')).status).toBe(200);
  });
});

describe('a hostile parent', () => {
  it('cannot bring back an older list, not even after the newer one has ended', async () => {
    let now = new Date();
    const at = await enclave(list(5, [spiffe(APP)]), () => now);
    await at.bring(list(4, [], [hours(-1), hours(24)]));
    expect(await at.first()).toEqual(DENIED);
    now = hours(2);
    await at.bring(list(4, [], [hours(-1), hours(24)]));
    expect(await at.first()).toEqual(SUSPENDED);
    expect(at.events.at(-1)).toEqual({ outcome: 'refused', code: 'DENY_LIST_REPLAYED' });
  });

  it('can hold a list back only until the last one ends', async () => {
    let now = new Date();
    const at = await enclave(list(1), () => now);
    await at.bring(undefined);
    expect(await at.first()).toEqual(SERVED);
    now = hours(2);
    expect(await at.first()).toEqual(SUSPENDED);
  });

  it('cannot change a list, nor sign one', async () => {
    const at = await enclave(list(1, [spiffe(APP)]));
    const other = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const fields = { sequence: 2, issuedAt: hours(-1), expiresAt: hours(1), denied: [] };
    for (const bytes of [
      signDenyList(fields, other.privateKey),
      Buffer.from('{}'),
      Buffer.alloc(512 * 1024, '['),
      list(2, [], [hours(1), hours(2)]),
    ]) {
      await at.bring(bytes);
      expect(await at.first()).toEqual(DENIED);
    }
    expect(at.events.map((event) => ('code' in event ? event.code : event.outcome))).toEqual([
      'taken',
      'DENY_LIST_UNSIGNED',
      'DENY_LIST_MALFORMED',
      'DENY_LIST_FROM_FUTURE',
    ]);
  });
});
