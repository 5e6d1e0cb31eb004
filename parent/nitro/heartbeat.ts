/**
 * An enclave's sign of life. Its init connects to the parent's vsock port 9000, writes the byte 0xB7, and waits
 * for the same byte; without it the enclave ends (aws-nitro-enclaves-sdk-bootstrap init/init.c; QEMU's manual,
 * docs/system/i386/nitro-enclave.rst).
 *
 * nitro-cli answers it itself and takes the port for that, so this responder is for launchers that do not:
 * an enclave that QEMU emulates, for example (`enclave.kind` "external").
 */
import type { Duplex } from 'node:stream';
import type { Link, Listener } from '../../link/link.ts';

const HEARTBEAT_PORT = 9_000;
const HEARTBEAT = 0xb7;
const EXCHANGE_TIMEOUT_MS = 5_000;
/** An enclave gives one; a few more may be left of earlier ones. */
const EXCHANGES_MAX = 16;
const BASE_TIMEOUT_MS = 90_000;
const GIB = 1024 ** 3;

/**
 * How long an enclave may take to its sign of life, as nitro-cli allows it: 90 s for each 6 GiB of image or
 * 100 GiB of memory, whichever is more (src/enclave_proc/resource_manager.rs, calculate_necessary_timeout).
 */
export function heartbeatTimeoutMs(imageSizeBytes: number, memoryMib: number): number {
  const ofImage = Math.ceil(Math.max(imageSizeBytes, 1) / (6 * GIB));
  const ofMemory = Math.ceil(Math.max(memoryMib, 1) / (100 * 1024));
  return Math.max(ofImage, ofMemory) * BASE_TIMEOUT_MS;
}

/** Answers every sign of life that is exactly one, and cuts everything else. Listen before the enclave starts. */
export async function answerHeartbeats(
  link: Link,
  onHeartbeat: (outcome: 'answered' | 'refused') => void,
): Promise<Listener> {
  let running = 0;
  return link.listen(HEARTBEAT_PORT, (connection) => {
    if (running >= EXCHANGES_MAX) {
      connection.destroy();
      onHeartbeat('refused');
      return;
    }
    running += 1;
    exchange(connection).then((outcome) => {
      running -= 1;
      onHeartbeat(outcome);
    });
  });
}

function exchange(connection: Duplex): Promise<'answered' | 'refused'> {
  return new Promise((resolve) => {
    const settle = (outcome: 'answered' | 'refused'): void => {
      clearTimeout(timer);
      resolve(outcome);
    };
    const timer = setTimeout(() => connection.destroy(), EXCHANGE_TIMEOUT_MS);
    let answered = false;
    connection.on('error', () => {});
    connection.once('close', () => settle(answered ? 'answered' : 'refused'));
    connection.on('end', () => {
      if (!answered) connection.destroy();
    });
    connection.on('data', (bytes: Buffer) => {
      if (answered || bytes.length !== 1 || bytes[0] !== HEARTBEAT) {
        answered = false;
        connection.destroy();
        return;
      }
      answered = true;
      connection.end(bytes);
    });
  });
}
