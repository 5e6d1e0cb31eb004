/**
 * Stands in for the enclave process: has a secret in its memory, a device, sockets, and an engine that attacks
 * it. Arguments: `confined` or `unconfined`, and the engine's user id or nothing. Prints the outcomes as JSON.
 */

import { createSocket } from 'node:dgram';
import {
  chmodSync,
  closeSync,
  constants,
  mkdirSync,
  mkdtempSync,
  openSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import koffi from 'koffi';
import { spawnEngine } from '../../../enclave/engine/engine-process.ts';
import { readBytesElements, type Tensor, writeBytesElements } from '../../../enclave/engine/tensor.ts';
import { startTensorEngine } from '../../../enclave/engine/tensor-engine.ts';
import {
  packTensors,
  readTensorAnswer,
  readTensorReady,
  type TensorAnswer,
} from '../../../enclave/engine/tensor-messages.ts';
import { makeNonDumpable } from '../../../enclave/native/process.ts';
import type { Target } from './attempts.ts';

const [mode, uid] = process.argv.slice(2);
const confined = mode === 'confined';
if (confined) makeNonDumpable();

const folder = mkdtempSync(join(tmpdir(), 'strongroom-hostile-'));
try {
  chmodSync(folder, 0o755);
  const open = join(folder, 'open');
  mkdirSync(open);
  chmodSync(open, 0o777);
  writeFileSync(join(open, 'victim'), 'victim');
  chmodSync(join(open, 'victim'), 0o666);
  const nsm = join(folder, 'nsm');
  writeFileSync(nsm, '', { mode: 0o600 });

  const canary = new Uint8Array(new ArrayBuffer(64)).fill(0x43);
  const unixSocket = join(folder, 'listener.sock');
  const unix = await listening(
    createServer((peer) => peer.destroy()),
    unixSocket,
  );
  chmodSync(unixSocket, 0o777);
  const tcp = await listening(
    createServer((peer) => peer.destroy()),
    0,
  );
  const dns = createSocket('udp4');
  dns.on('message', (query, from) => dns.send(dnsAnswer(query), from.port, from.address));
  await new Promise<void>((resolve) => dns.bind(0, '127.0.0.1', resolve));

  const target: Target = {
    parentPid: process.pid,
    canaryAddress: String(koffi.address(canary)),
    canary: Buffer.from(canary).toString('latin1'),
    unixSocket,
    tcpPort: (tcp.address() as { port: number }).port,
    dnsPort: dns.address().port,
    nsm,
    folder: open,
  };
  const inputs: Tensor[] = [
    {
      name: 'target',
      datatype: 'BYTES',
      shape: [1],
      data: writeBytesElements([Buffer.from(JSON.stringify(target))]),
    },
  ];
  process.stdout.write(await (confined ? attackConfined(inputs) : attackUnconfined(inputs)));
  unix.close();
  tcp.close();
  dns.close();
} finally {
  rmSync(folder, { recursive: true, force: true });
}

async function attackConfined(inputs: readonly Tensor[]): Promise<string> {
  const modelFd = memoryFile(constants.O_RDONLY);
  const engine = await startTensorEngine({
    modelFd,
    threads: 1,
    entry: join(import.meta.dirname, 'confined.ts'),
    ...(uid === undefined ? {} : { uid: Number(uid) }),
  });
  const { outputs } = await engine.infer({ inputs });
  await engine.close();
  closeSync(modelFd);
  return reportOf(outputs);
}

/** As the same user as its parent, with a writable model. */
async function attackUnconfined(inputs: readonly Tensor[]): Promise<string> {
  const modelFd = memoryFile(constants.O_RDWR);
  const engine = await spawnEngine(
    {
      modelFd,
      external: [],
      tokenizer: [],
      threads: 1,
      entry: join(import.meta.dirname, 'unconfined.ts'),
      startTimeoutMs: 30_000,
    },
    { start: {}, readReady: readTensorReady },
  );
  const answer = await new Promise<TensorAnswer>((resolve, reject) => {
    engine.listen({ hear: (frame) => resolve(readTensorAnswer(frame)), ended: reject });
    const { heads, body } = packTensors(inputs);
    engine.send({ kind: 'infer', inputs: heads, outputs: ['outcomes'] }, body);
  });
  await engine.kill();
  closeSync(modelFd);
  if (answer.kind !== 'result') throw new Error(answer.message);
  return reportOf(answer.outputs);
}

function reportOf(outputs: readonly Tensor[]): string {
  const [report = new Uint8Array()] = readBytesElements(outputs[0]?.data ?? new Uint8Array());
  return Buffer.from(report).toString();
}

/** Like the enclave's: no name, mode 0444, a fresh descriptor. */
function memoryFile(flags: number): number {
  const file = openSync('/dev/shm', constants.O_RDWR | 0o20200000, 0o600);
  writeFileSync(file, 'model');
  const handed = openSync(`/proc/self/fd/${file}`, flags);
  chmodSync(`/proc/self/fd/${file}`, 0o444);
  closeSync(file);
  return handed;
}

function listening(server: Server, at: string | number): Promise<Server> {
  return new Promise((resolve) => {
    if (typeof at === 'string') server.listen(at, () => resolve(server));
    else server.listen(at, '127.0.0.1', () => resolve(server));
  });
}

/** One A record for whatever was asked (RFC 1035 4.1). */
function dnsAnswer(query: Buffer): Buffer {
  const question = query.subarray(12, query.indexOf(0, 12) + 5);
  const header = Buffer.from([query[0] ?? 0, query[1] ?? 0, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
  const record = Buffer.from([0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
  return Buffer.concat([header, question, record]);
}
