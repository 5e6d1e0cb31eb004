/** The hypervisor's end of the socket: answers NSM requests and holds the boot at its steps. */
import { createServer, type Socket } from 'node:net';
import { encodeFrame, type Frame, FrameReader, NSM_FRAME, STEP_FRAME } from './frames.ts';

export interface HypervisorHandlers {
  nsm(request: Uint8Array): Promise<Uint8Array>;
  /** The boot goes on when this resolves. */
  reached(step: string): Promise<void>;
}

export interface HypervisorServer {
  close(): Promise<void>;
}

const STEP_NAME = /^[a-z0-9-]{1,64}$/;

/**
 * Listens at `path`, whose folder is its owner's alone (0700). A peer that breaks the protocol is
 * disconnected.
 */
export async function serveHypervisorSocket(
  path: string,
  handlers: HypervisorHandlers,
): Promise<HypervisorServer> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    socket.on('error', () => socket.destroy());
    serve(socket, handlers);
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(path, resolve);
  });
  return {
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const socket of sockets) socket.destroy();
      }),
  };
}

function serve(socket: Socket, handlers: HypervisorHandlers): void {
  const reader = new FrameReader();
  let lastAnswer: Promise<void> = Promise.resolve();
  socket.on('data', (piece) => {
    lastAnswer = lastAnswer
      .then(async () => {
        for (const frame of reader.push(piece as Buffer)) {
          const body = await answer(frame, handlers);
          if (!socket.destroyed) socket.write(encodeFrame({ kind: frame.kind, body }));
        }
      })
      .catch(() => void socket.destroy());
  });
}

async function answer({ kind, body }: Frame, handlers: HypervisorHandlers): Promise<Uint8Array> {
  if (kind === NSM_FRAME) return handlers.nsm(body);
  const step = new TextDecoder().decode(body);
  if (kind !== STEP_FRAME || !STEP_NAME.test(step)) throw new RangeError('This is no frame of an enclave.');
  await handlers.reached(step);
  return new Uint8Array(0);
}
