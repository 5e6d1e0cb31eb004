import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';

/**
 * The most bytes that one write to a vsock may carry: newer kernels silently corrupt larger packets on Nitro
 * (docs/link.md section 5.2). libuv would otherwise merge what is queued into one writev of megabytes.
 */
export const MAX_WRITE_BYTES = 31 * 1024;

/**
 * A socket behind a Duplex that gives it at most MAX_WRITE_BYTES at a time, and the next piece only when the
 * one before is done. It is no net.Socket on purpose: TLS writes to a net.Socket's handle past its JavaScript
 * side, and would pass this bound too.
 */
export class BoundedStream extends Duplex {
  readonly #socket: Socket;

  constructor(socket: Socket) {
    super({ allowHalfOpen: true });
    this.#socket = socket;
    socket.on('data', (chunk: Buffer) => {
      if (!this.push(chunk)) socket.pause();
    });
    socket.on('end', () => this.push(null));
    socket.on('timeout', () => this.emit('timeout'));
    socket.on('error', (error) => this.destroy(error));
    socket.on('close', () => {
      // After a proper end, bytes may still wait here to be read.
      if (!socket.readableEnded) this.destroy();
    });
  }

  override _read(): void {
    this.#socket.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    const writeFrom = (at: number): void => {
      const piece = chunk.subarray(at, at + MAX_WRITE_BYTES);
      this.#socket.write(piece, (error) => {
        const next = at + piece.length;
        if (error || next >= chunk.length) done(error);
        else writeFrom(next);
      });
    };
    writeFrom(0);
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#socket.end(() => done());
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#socket.destroy();
    done(error);
  }

  // What node:http expects of a connection beyond a Duplex.

  get timeout(): number | undefined {
    return this.#socket.timeout;
  }

  setTimeout(timeoutMs: number, onTimeout?: () => void): this {
    this.#socket.setTimeout(timeoutMs);
    if (onTimeout !== undefined) this.once('timeout', onTimeout);
    return this;
  }

  ref(): this {
    this.#socket.ref();
    return this;
  }

  unref(): this {
    this.#socket.unref();
    return this;
  }

  /** A vsock has no such option. */
  setKeepAlive(): this {
    return this;
  }

  /** A vsock never waits to fill a packet. */
  setNoDelay(): this {
    return this;
  }
}
