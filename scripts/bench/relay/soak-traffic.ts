/**
 * What the soak sends: every byte of every transfer has a known value, so that one that is lost, doubled, changed or
 * put into another connection shows. The first bytes of a connection tell the far end what it is for.
 */
import { randomFillSync } from 'node:crypto';
import { once } from 'node:events';
import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { reset } from '../../../parent/splice.ts';

/**
 * upload, download: bytes one way, half-closed first by the near or by the far end. echo: both ways. die: the far end
 * is cut in the middle. kill: the near end is. idle: one byte each way, then nothing until the parent cuts it.
 */
export const KINDS = ['echo', 'upload', 'download', 'die', 'kill', 'idle'] as const;
export type Kind = (typeof KINDS)[number];

export interface Transfer {
  readonly kind: Kind;
  readonly sizeBytes: number;
  /** Where in BLOCK its bytes begin. */
  readonly offset: number;
  /** The reader waits now and then. */
  readonly slow: boolean;
}

const BLOCK_BYTES = 1 << 20;
/** Twice the same random MiB, so that one that begins anywhere in it has no seam. */
const BLOCK = Buffer.alloc(2 * BLOCK_BYTES);
randomFillSync(BLOCK, 0, BLOCK_BYTES);
BLOCK.copyWithin(BLOCK_BYTES, 0, BLOCK_BYTES);
const HEADER_BYTES = 16;
const PIECE_BYTES = 48 * 1024;

export function randomTransfer(kind: Kind, random: () => number, bigBytes: number): Transfer {
  const big = random() < 0.1;
  return {
    kind,
    sizeBytes: 1 + Math.floor(random() * (big ? bigBytes : 30_000)),
    offset: Math.floor(random() * BLOCK_BYTES),
    slow: random() < 0.15,
  };
}

/** The far end: answers every connection as its header says. */
export function serveTransfer(connection: Duplex, failed: (why: string) => void): void {
  connection.on('error', () => {});
  connection.once('readable', () => {
    answer(connection).catch((error: Error) => {
      connection.destroy();
      if (error instanceof Mismatch) failed(`far end: ${error.message}`);
    });
  });
}

async function answer(connection: Duplex): Promise<void> {
  const header = await readExactly(connection, HEADER_BYTES);
  if (header === undefined) return void connection.destroy();
  const transfer = decode(header);
  const [from, sizeBytes] = [transfer.offset, transfer.sizeBytes];
  switch (transfer.kind) {
    case 'idle':
    case 'echo':
      await Promise.all([send(connection, from, sizeBytes), receive(connection, transfer, false)]);
      if (transfer.kind === 'echo') connection.end();
      return;
    case 'upload':
      await receive(connection, transfer, true);
      connection.end(OK);
      return;
    case 'download':
      await send(connection, from, sizeBytes);
      connection.end();
      await receive(connection, { ...transfer, sizeBytes: OK.length, offset: 0, slow: false }, true, OK);
      return;
    case 'die':
      await readExactly(connection, 1 + Math.floor(sizeBytes / 2));
      reset(connection);
      return;
    case 'kill':
      // Both ways at once, until the other end is killed.
      connection.resume();
      await send(connection, from, Number.POSITIVE_INFINITY);
  }
}

const OK = Buffer.from('received');

/** The near end. Throws when anything but what was announced comes back, or not all of it. */
export async function runTransfer(connection: Duplex, transfer: Transfer): Promise<void> {
  const { kind, offset, sizeBytes } = transfer;
  connection.write(encode(transfer));
  switch (kind) {
    case 'echo': {
      const received = receive(connection, transfer, true);
      await send(connection, offset, sizeBytes);
      connection.end();
      await received;
      break;
    }
    case 'upload':
      await send(connection, offset, sizeBytes);
      connection.end();
      await receive(connection, { ...transfer, sizeBytes: OK.length, offset: 0, slow: false }, true, OK);
      break;
    case 'download':
      await receive(connection, transfer, true);
      connection.end(OK);
      break;
    case 'die':
      await Promise.race([send(connection, offset, sizeBytes).catch(() => {}), gone(connection)]);
      connection.resume();
      await gone(connection);
      connection.destroy();
      break;
    case 'kill': {
      const sent = send(connection, offset, sizeBytes).catch(() => {});
      await readExactly(connection, Math.min(sizeBytes, 100_000));
      reset(connection);
      await sent;
      break;
    }
    case 'idle': {
      const received = receive(connection, transfer, false);
      await send(connection, offset, sizeBytes);
      await received;
      connection.resume();
      await gone(connection);
      connection.destroy();
    }
  }
  if (!connection.closed) await once(connection, 'close').catch(() => {});
}

class Mismatch extends Error {}

/** Resolves when nothing more comes: an end, a reset, or closed already. */
async function gone(stream: Duplex): Promise<void> {
  if (stream.readableEnded || stream.destroyed) return;
  await new Promise<void>((resolve) => {
    for (const event of ['end', 'close', 'error']) stream.once(event, () => resolve());
  });
}

async function send(stream: Duplex, offset: number, sizeBytes: number): Promise<void> {
  for (let sent = 0; sent < sizeBytes; ) {
    if (stream.destroyed) throw new Error('closed while sending');
    const piece = Math.min(PIECE_BYTES, sizeBytes - sent);
    const at = (offset + sent) % BLOCK_BYTES;
    sent += piece;
    if (!stream.write(BLOCK.subarray(at, at + piece))) await writable(stream);
  }
}

async function writable(stream: Duplex): Promise<void> {
  const settled = new AbortController();
  try {
    await Promise.race([
      once(stream, 'drain', { signal: settled.signal }),
      once(stream, 'close', { signal: settled.signal }),
    ]);
  } finally {
    settled.abort();
  }
}

/** Takes exactly the transfer's bytes, and then, if `toEnd`, nothing but the end. */
async function receive(
  stream: Duplex,
  { sizeBytes, offset, slow }: Transfer,
  toEnd: boolean,
  expected?: Buffer,
): Promise<void> {
  for (let received = 0; received < sizeBytes; ) {
    const piece = await readSome(stream, Math.min(PIECE_BYTES, sizeBytes - received));
    if (piece === undefined) throw new Mismatch(`ended after ${received} of ${sizeBytes} bytes`);
    const at = (offset + received) % BLOCK_BYTES;
    const wanted =
      expected === undefined
        ? BLOCK.subarray(at, at + piece.length)
        : expected.subarray(received, received + piece.length);
    if (!piece.equals(wanted)) throw new Mismatch(`changed at ${received} of ${sizeBytes} bytes`);
    received += piece.length;
    if (slow) await sleep(5);
  }
  if (toEnd && (await readSome(stream, 1)) !== undefined) throw new Mismatch('more bytes than were sent');
}

async function readExactly(stream: Duplex, sizeBytes: number): Promise<Buffer | undefined> {
  const pieces: Buffer[] = [];
  for (let left = sizeBytes; left > 0; ) {
    const piece = await readSome(stream, left);
    if (piece === undefined) return undefined;
    pieces.push(piece);
    left -= piece.length;
  }
  return Buffer.concat(pieces);
}

/** At most so many bytes; undefined at the end. Throws when the stream broke. */
async function readSome(stream: Duplex, most: number): Promise<Buffer | undefined> {
  for (;;) {
    const some = stream.read(Math.min(most, stream.readableLength || most)) as Buffer | null;
    if (some !== null) return some;
    if (stream.readableEnded) return undefined;
    if (stream.destroyed) throw new Mismatch('broke');
    await new Promise<void>((resolve) => {
      const settle = (): void => {
        for (const event of EVENTS) stream.off(event, settle);
        resolve();
      };
      for (const event of EVENTS) stream.on(event, settle);
    });
  }
}

const EVENTS = ['readable', 'end', 'close', 'error'] as const;

function encode({ kind, sizeBytes, offset, slow }: Transfer): Buffer {
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeUInt8(KINDS.indexOf(kind), 0);
  header.writeUInt8(slow ? 1 : 0, 1);
  header.writeUInt32BE(sizeBytes, 4);
  header.writeUInt32BE(offset, 8);
  return header;
}

function decode(header: Buffer): Transfer {
  return {
    kind: KINDS[header.readUInt8(0)] ?? 'die',
    slow: header.readUInt8(1) === 1,
    sizeBytes: header.readUInt32BE(4),
    offset: header.readUInt32BE(8),
  };
}
