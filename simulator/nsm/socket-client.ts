/**
 * The enclave's end of the socket to its simulated hypervisor: what /dev/nsm is on Nitro. When the hypervisor
 * is gone, so is the machine, and the process ends at once.
 */
import { once } from 'node:events';
import { createConnection, type Socket } from 'node:net';
import { encodeFrame, FrameReader, NSM_FRAME, STEP_FRAME } from './frames.ts';

export interface HypervisorSocket {
  /** One NSM request and its response, in CBOR. */
  nsm(request: Uint8Array): Promise<Uint8Array>;
  /** Reports a step of the boot and resolves when the hypervisor lets the boot go on. */
  reached(step: string): Promise<void>;
}

/** Two connections, so that a boot that is held at a step still has its NSM. */
export async function hypervisorSocket(path: string): Promise<HypervisorSocket> {
  const [requests, steps] = await Promise.all([connect(path), connect(path)]);
  return {
    nsm: (request) => requests(NSM_FRAME, request),
    reached: async (step) => void (await steps(STEP_FRAME, new TextEncoder().encode(step))),
  };
}

type Exchange = (kind: number, body: Uint8Array) => Promise<Uint8Array>;

async function connect(path: string): Promise<Exchange> {
  const socket = createConnection(path);
  await once(socket, 'connect');
  const waiting: ((body: Uint8Array) => void)[] = [];
  const reader = new FrameReader();
  socket.on('data', (piece) => {
    for (const { body } of reader.push(piece as Buffer)) waiting.shift()?.(body);
    keepAliveWhile(socket, waiting.length > 0);
  });
  socket.on('error', powerOff);
  socket.on('close', powerOff);
  keepAliveWhile(socket, false);
  return (kind, body) => {
    const answer = Promise.withResolvers<Uint8Array>();
    waiting.push(answer.resolve);
    keepAliveWhile(socket, true);
    socket.write(encodeFrame({ kind, body }));
    return answer.promise;
  };
}

/** An idle connection is no reason for the process to stay. */
function keepAliveWhile(socket: Socket, busy: boolean): void {
  if (busy) socket.ref();
  else socket.unref();
}

function powerOff(): void {
  process.kill(process.pid, 'SIGKILL');
}
