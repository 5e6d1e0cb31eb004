/** KMS, reached as the enclave reaches it: through the operator's allow-list, TLS to Amazon's roots alone. */
import type { Socket } from 'node:net';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import type { ParentConfig } from '../../parent/config/config.ts';
import { allowList, type Destination } from '../../parent/egress/allow-list.ts';
import { dialDestination } from '../../parent/egress/dial.ts';
import { TLS_PROFILE } from '../../shared/tls-profile.ts';
import { type Check, type CheckGroup, type Known, messageOf, ok, problem, type Result } from './check.ts';
import { actionOf } from './configuration.ts';
import type { World } from './world.ts';

const TIMEOUT_MS = 10_000;
const ANSWER_MAX_BYTES = 16 * 1024;

export const kmsGroup: CheckGroup = {
  title: 'KMS',
  checks: (world, known): readonly Check[] => {
    const { config, deployment } = known;
    if (config === undefined || deployment === undefined) return [];
    const hosts = [...new Set(deployment.kmsKeys.map(({ host }) => host))];
    return hosts.map((host) => ({
      id: `kms.${host}`,
      why: 'The enclave asks this host for the model’s key; the parent carries the bytes and can read none.',
      run: () => checkHost(world, known, config, host),
    }));
  },
};

async function checkHost(world: World, known: Known, config: ParentConfig, host: string): Promise<Result> {
  const destination = allowList(config.egress).get(`${host}:443`);
  if (destination === undefined) {
    return problem(
      `${host}:443 is not on the egress list, so every connection of the enclave to it is refused.`,
      `Add {"host": "${host}", "port": 443} to egress, then reload the parent with SIGHUP.`,
    );
  }
  let socket: Socket;
  try {
    socket = await dialDestination(destination, { timeoutMs: TIMEOUT_MS, resolve: world.resolve });
  } catch (error) {
    return problem(
      messageOf(error),
      `${actionOf(error, 'Check DNS and routes.')} In a private subnet KMS needs a VPC endpoint (com.amazonaws.REGION.kms) with private DNS.`,
    );
  }
  return speakTls(world, known, destination, socket);
}

async function speakTls(world: World, known: Known, { host }: Destination, socket: Socket): Promise<Result> {
  const tls = connectTls({ ...TLS_PROFILE, socket, servername: host, ca: [...world.kmsRoots] });
  tls.setTimeout(TIMEOUT_MS, () => tls.destroy(new Error('no answer in time')));
  try {
    await new Promise<void>((resolve, reject) => {
      tls.once('secureConnect', resolve);
      tls.once('error', reject);
      tls.once('close', () => reject(new Error('the connection was closed')));
    });
  } catch (error) {
    tls.destroy();
    return problem(
      `TLS to ${host} fails: ${messageOf(error)}.`,
      'The enclave accepts Amazon’s roots alone. If something on the way opens TLS (a proxy, an inspecting firewall), let KMS pass untouched.',
    );
  }
  const offsetMs = await askTheTime(tls, host, world.now).catch(() => undefined);
  tls.destroy();
  if (offsetMs !== undefined) known.clockOffsetMs = offsetMs;
  const via = socket.remoteAddress === undefined ? '' : ` at ${socket.remoteAddress}`;
  return ok(`${host} answers${via}, with a certificate of Amazon’s`);
}

/**
 * This host's clock minus the Date of an answer (RFC 9110 6.6.1), whatever its status; undefined without one.
 * The Date is up to a second old, and was written somewhere between question and answer.
 */
async function askTheTime(tls: TLSSocket, host: string, now: () => number): Promise<number | undefined> {
  const askedMs = now();
  tls.write(`GET /ping HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);
  let answer = '';
  for await (const chunk of tls as AsyncIterable<Buffer>) {
    answer += chunk.toString('latin1');
    if (answer.includes('\r\n\r\n') || answer.length > ANSWER_MAX_BYTES) break;
  }
  const date = /^date: *([^\r\n]{1,64})\r$/im.exec(answer)?.[1];
  const dateMs = date === undefined ? Number.NaN : Date.parse(date);
  return Number.isNaN(dateMs) ? undefined : (askedMs + now()) / 2 - dateMs - 500;
}
