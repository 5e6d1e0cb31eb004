import { once } from 'node:events';
import net, { type AddressInfo } from 'node:net';
import { expect, test } from 'vitest';
import { connect } from '../../client/index.ts';
import { ModelRegistry } from '../../enclave/models/registry.ts';
import { startServer } from '../../enclave/serve/server.ts';
import { fakeEngine, LIMITS, servedModel } from '../support/serving.ts';
import { newIdentity, newIssuer, newReceiptIssuer, startPlatform } from './test-enclave.ts';

test("the enclave's own server gives evidence that the client accepts, and then answers", async () => {
  const platform = await startPlatform();
  const identity = newIdentity();
  const engine = fakeEngine({ inputs: [], outputs: [] }, async () => ({ outputs: [] }));
  const models = new ModelRegistry([servedModel(engine, { name: 'iris' })]);
  const listener = net.createServer();
  const server = await startServer({
    listen: async (onConnection) => {
      listener.on('connection', onConnection).listen(0, '127.0.0.1');
      await once(listener, 'listening');
      return { close: async () => void listener.close() };
    },
    identity,
    evidence: newIssuer(platform, identity, { currentModels: () => models.current }),
    receipts: newReceiptIssuer(platform),
    models,
    limits: LIMITS,
    now: () => new Date(),
    observe: () => {},
  });
  try {
    const url = `https://127.0.0.1:${(listener.address() as AddressInfo).port}`;
    await using enclave = await connect(url, platform.expectations);
    expect(enclave.evidence.trust).toBe('simulation');
    const response = await enclave.fetch('/v2');
    expect(response.status).toBe(200);
    expect(await response.json()).toHaveProperty('extensions');
    expect(server.connections).toBe(1);
  } finally {
    await server.drain(1000);
  }
});
