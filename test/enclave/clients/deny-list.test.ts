/** What a deny list does to clients, over real TLS. */
import { once } from 'node:events';
import { describe, expect, it } from 'vitest';
import type { Denied } from '../../../shared/deny-list/deny-list.ts';
import { hours, testClient } from '../../support/client-certificates.ts';
import {
  ca,
  DENIED,
  denyingEnclave,
  list,
  OTHER,
  SERVED,
  SUSPENDED,
  spiffe,
} from '../../support/denying-enclave.ts';
import { APP } from '../../support/door.ts';

describe('a deny list', () => {
  it('refuses whom it names, by each kind of name, and serves the others', async () => {
    const at = await denyingEnclave(list(1));
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
    const at = await denyingEnclave(list(1));
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
    const at = await denyingEnclave();
    expect(await at.first()).toEqual(SUSPENDED);
    await at.bring(list(1));
    expect(await at.first()).toEqual(SERVED);
    expect(at.events.map(({ outcome }) => outcome)).toEqual(['refused', 'taken']);
  });

  it('that ends refuses everybody in enclave time, on open connections too, until the next one comes', async () => {
    let now = new Date();
    const at = await denyingEnclave(list(1), () => now);
    const open = await at.server.connect(testClient(ca, { uris: [APP] }));
    now = hours(2);
    expect(await at.first()).toEqual(SUSPENDED);
    const refused = await open.ask('GET', '/v2');
    expect(refused.json.code).toBe('CALLERS_SUSPENDED');
    await at.bring(list(2, [], [hours(1.5), hours(3)]));
    expect((await open.ask('GET', '/v2')).status).toBe(200);
  });
});
