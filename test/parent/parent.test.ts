import { readFile, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { Link } from '../../link/link.ts';
import { CONTROL_PORT, SERVICE_PORT } from '../../link/ports.ts';
import { boundedLink } from '../link/hostile-peer.ts';
import { CREDENTIALS, eventually, pattern, readAll, setup as setupOver, tcpServer } from './setup.ts';

describe.each([
  ['UNIX sockets', (link: Link) => link],
  ['bounded streams, as on a vsock', boundedLink],
] as const)('a parent and the enclave’s side of it over %s', (_kind, wrap) => {
  const setup: typeof setupOver = (change, options) => setupOver(change, { ...options, wrap });

  it('hands over the deployment document, byte for byte', async () => {
    await using at = await setup();
    expect(Buffer.from(await at.host.fetchDeployment()).toString()).toBe('{"format":"example"}');
  });

  it('hands over the small files of a sealed model', async () => {
    await using at = await setup();
    expect(Buffer.from(await at.host.fetchModelFile('iris', 'head', 100)).toString()).toBe('the head');
  });

  it('serves any ranges of a payload, many at once, into shared memory', async () => {
    await using at = await setup();
    const whole = pattern(3_000_000);
    const source = at.host.payloadSource('iris', whole.length);
    const target = new Uint8Array(new SharedArrayBuffer(whole.length));
    const step = 100_001;
    const reads: Promise<void>[] = [];
    for (let offset = 0; offset < whole.length; offset += step) {
      reads.push(source.read(offset, target.subarray(offset, offset + step)));
    }
    await Promise.all(reads);
    expect(Buffer.compare(Buffer.from(target), whole)).toBe(0);
  });

  it('hands over credentials, and the new ones after their file changed', async () => {
    await using at = await setup();
    expect((await at.host.fetchCredentials()).accessKeyId).toBe(CREDENTIALS.accessKeyId);
    const rotated = { ...CREDENTIALS, accessKeyId: 'ASIAEXAMPLEEXAMPLE02' };
    await writeFile(join(at.folder, 'credentials.json'), JSON.stringify(rotated));
    const { expiration, ...others } = await at.host.fetchCredentials();
    expect(others).toEqual({
      accessKeyId: 'ASIAEXAMPLEEXAMPLE02',
      secretAccessKey: CREDENTIALS.secretAccessKey,
      sessionToken: CREDENTIALS.sessionToken,
    });
    expect(expiration).toEqual(new Date(CREDENTIALS.expiration));
  });

  it('tunnels to an allowed destination through its override', async () => {
    await using echo = await tcpServer((socket) => socket.pipe(socket));
    await using at = await setup((config) => ({
      ...config,
      egress: [
        {
          host: 'kms.eu-central-1.amazonaws.com',
          port: 443,
          maxConnections: 4,
          override: { address: '127.0.0.1', port: echo.port },
        },
      ],
    }));
    const tunnel = await at.host.connect('kms.eu-central-1.amazonaws.com', 443, 5_000);
    tunnel.end('hello');
    expect((await readAll(tunnel)).toString()).toBe('hello');
  });

  it('relays callers to the enclave', async () => {
    await using at = await setup();
    const listener = await at.enclaveLink.listen(SERVICE_PORT, (connection) => connection.pipe(connection));
    const caller = connect({ port: at.parent.address.port, host: '127.0.0.1', allowHalfOpen: true });
    caller.end('a prompt that the parent cannot read');
    expect((await readAll(caller)).toString()).toBe('a prompt that the parent cannot read');
    await listener.close();
  });

  it('cuts its callers when it is told to, whether or not the enclave has answered to the drain', async () => {
    await using at = await setup();
    const ended: string[] = [];
    const asked = Promise.withResolvers<void>();
    const service = await at.enclaveLink.listen(SERVICE_PORT, (connection) => connection.resume());
    const control = await at.enclaveLink.listen(CONTROL_PORT, (connection) => {
      connection.resume().once('data', () => asked.resolve());
      connection.once('close', () => ended.push('control')).once('end', () => connection.end());
    });
    const caller = connect({ port: at.parent.address.port, host: '127.0.0.1' });
    caller.on('error', () => {}).once('close', () => ended.push('caller'));
    await eventually(() => at.parent.counters()['ingress.open']).toBe(1);
    const cut = new AbortController();
    const drained = at.parent.drain(3_600_000, cut.signal);
    await asked.promise;
    cut.abort();
    expect(await drained).toBe(false);
    await eventually(() => ended).toEqual(['caller', 'control']);
    await service.close();
    await control.close();
  });

  it('passes on telemetry that is on the allow-list', async () => {
    await using at = await setup();
    at.host.sendTelemetry([{ event: 'boot', fields: { step: 'serving', durationMs: 12 } }]);
    await eventually(() => at.events).toContainEqual({
      event: 'enclave-boot',
      step: 'serving',
      durationMs: 12,
    });
  });

  it('never changes the files that it serves', async () => {
    await using at = await setup();
    await at.host.fetchDeployment();
    expect(await readFile(join(at.folder, 'deployment.json'), 'utf8')).toBe('{"format":"example"}');
  });
});
