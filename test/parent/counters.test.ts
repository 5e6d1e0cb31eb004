import { once } from 'node:events';
import { connect } from 'node:net';
import { describe, expect, it } from 'vitest';
import { SERVICE_PORT } from '../../link/ports.ts';
import { eventually } from '../support/eventually.ts';
import { setup } from './setup.ts';

describe("the parent's counters", () => {
  it('tell how many callers are connected now', async () => {
    await using at = await setup();
    const listener = await at.enclaveLink.listen(SERVICE_PORT, (connection) => connection.pipe(connection));
    const callers = [0, 1, 2].map(() => connect({ port: at.parent.address.port, host: '127.0.0.1' }));
    for (const caller of callers) {
      caller.write('x');
      await once(caller, 'data');
    }
    expect(at.parent.counters()).toMatchObject({ 'ingress.open': 3, 'ingress.opened': 3 });
    for (const caller of callers) caller.end();
    await eventually(() => at.parent.counters()['ingress.open']).toBe(0);
    expect(at.parent.counters()).toMatchObject({ 'ingress.opened': 3, 'ingress.bytes-up': 3 });
    await listener.close();
  });

  it('tell how many bytes of models were given to the enclave', async () => {
    await using at = await setup();
    await at.host.fetchModelFile('iris', 'head', 1_000);
    const payload = at.host.payloadSource('iris', 3_000_000);
    await payload.read(1_000, new Uint8Array(5_000));
    await eventually(() => at.parent.counters()['models.bytes']).toBe('the head'.length + 5_000);
  });
});
