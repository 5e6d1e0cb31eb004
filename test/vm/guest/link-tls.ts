/** The process under strace: dials, and sends as a TLS server does under load, with much queued at once. */
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { TLSSocket } from 'node:tls';
import { createTlsIdentity } from '../../../enclave/tls-identity.ts';
import { vsockLink } from '../../../link/vsock.ts';
import { TLS_BYTES } from './link-trace.ts';

const QUEUED_BYTES = 4 << 20;

const stream = await vsockLink({ peerCid: 1 }).dial(Number(process.argv[2]), { timeoutMs: 20_000 });
const identity = createTlsIdentity(new Date(), randomBytes(16));
const server = new TLSSocket(stream, {
  isServer: true,
  cert: identity.certificatePem,
  key: Buffer.from(identity.key),
  minVersion: 'TLSv1.3',
});
const hash = createHash('sha256');
for (let sent = 0; sent < TLS_BYTES; sent += QUEUED_BYTES) {
  const bytes = randomBytes(QUEUED_BYTES);
  hash.update(bytes);
  server.cork();
  for (let at = 0; at < bytes.length; at += 100_000) server.write(bytes.subarray(at, at + 100_000));
  server.uncork();
  if (server.writableNeedDrain) await once(server, 'drain');
}
process.stdout.write(hash.digest('hex'));
server.end();
server.resume();
await once(server, 'close');
process.exit(0);
