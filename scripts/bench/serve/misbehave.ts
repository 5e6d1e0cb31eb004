/** Callers who misbehave: each in one way on one connection that already has its evidence, or before it has any. */
import { randomInt } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { type ConnectionOptions, type TLSSocket, connect as tlsConnect } from 'node:tls';
import { type HostileTargets, hostileRequests } from './hostile-requests.ts';

export const MISBEHAVIOURS = ['hostile-request', 'cut', 'no-reading', 'byte-by-byte', 'silent'] as const;
export type Misbehaviour = (typeof MISBEHAVIOURS)[number];

export interface MisbehaveOptions {
  readonly targets: HostileTargets;
  /** How long the slow ones stay. */
  readonly patienceMs: number;
}

/** Resolves when the connection has ended, whoever ended it. Never rejects. */
export async function misbehave(
  socket: TLSSocket,
  how: Misbehaviour,
  { targets, patienceMs }: MisbehaveOptions,
): Promise<void> {
  socket.on('error', () => {});
  const closed = new Promise<void>((resolve) => {
    if (socket.closed) resolve();
    else socket.once('close', () => resolve());
  });
  const untilClosed = (timeoutMs: number): Promise<void> => Promise.race([closed, sleep(timeoutMs)]);
  if (how === 'no-reading') socket.pause();
  else socket.resume();
  switch (how) {
    case 'hostile-request': {
      const all = hostileRequests(targets);
      socket.write(all[randomInt(all.length)]?.bytes ?? '');
      await untilClosed(patienceMs);
      break;
    }
    case 'cut': {
      const all = [goodInference(targets), goodStream(targets)];
      const bytes = all[randomInt(all.length)] ?? Buffer.alloc(0);
      socket.write(bytes.subarray(0, randomInt(1, bytes.length + 1)));
      await untilClosed(randomInt(0, 100));
      break;
    }
    case 'no-reading':
      socket.write(goodStream(targets));
      await untilClosed(patienceMs);
      break;
    case 'byte-by-byte': {
      const until = performance.now() + patienceMs;
      for (const byte of goodInference(targets)) {
        if (performance.now() > until || socket.destroyed) break;
        socket.write(Uint8Array.of(byte));
        await untilClosed(1_000);
      }
      break;
    }
    case 'silent':
      await untilClosed(patienceMs);
      break;
  }
  socket.destroy();
  await closed;
}

/** Opens a connection and leaves it somewhere in the handshake, before or after. Never rejects. */
export async function leaveEarly(where: ConnectionOptions): Promise<void> {
  const socket = tlsConnect({ rejectUnauthorized: false, ...where });
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
  socket.on('error', () => {});
  await sleep(randomInt(0, 20));
  socket.destroy();
  await closed;
}

export function goodInference({ tensors, input }: HostileTargets): Buffer {
  return posted(`/v2/models/${tensors}/infer`, {
    inputs: [{ name: input, datatype: 'FP32', shape: [1, 4], data: [5, 3.5, 1.5, 0.25] }],
  });
}

export function goodStream({ text }: HostileTargets): Buffer {
  return posted('/v1/chat/completions', {
    model: text,
    messages: [{ role: 'user', content: 'what is a house' }],
    max_completion_tokens: 256,
    stream: true,
  });
}

function posted(path: string, body: object): Buffer {
  const text = JSON.stringify(body);
  const head = `POST ${path} HTTP/1.1\r\nhost: e\r\ncontent-type: application/json\r\ncontent-length: ${text.length}\r\n\r\n`;
  return Buffer.from(head + text);
}
