import type { Socket } from 'node:net';
import { processorSeconds } from './processor-time.ts';

/** What one write of a load generator carries: large, so that generating costs little beside carrying. */
export const PIECE = Buffer.alloc(256 * 1024, 0x5a);

/** Writes as fast as the other side takes it, until the connection is gone. */
export function pump(socket: Socket): void {
  const more = (): void => {
    if (!socket.destroyed) socket.write(PIECE, later);
  };
  // Not at once: a write that the kernel takes whole is done in the same turn, and would let nothing else run.
  const later = (): void => void setImmediate(more);
  more();
}

/**
 * Counts what arrives, and measures how long a given amount takes. The carrier's processor time is read here, at the
 * very bytes where a measurement begins and ends, and not by whoever asked and is told later.
 */
export class Received {
  #bytes = 0;
  #due = Number.POSITIVE_INFINITY;
  #tell = (): void => {};

  add(sizeBytes: number): void {
    this.#bytes += sizeBytes;
    if (this.#bytes < this.#due) return;
    this.#due = Number.POSITIVE_INFINITY;
    this.#tell();
  }

  /** Lets `warmUpBytes` pass, then measures `sizeBytes`: [bytes, seconds, processor seconds of the carrier]. */
  async measure({ warmUpBytes, sizeBytes, carrier }: Measurement): Promise<number[]> {
    const now = (): number[] => [
      this.#bytes,
      performance.now() / 1000,
      carrier === undefined ? Number.NaN : processorSeconds(carrier),
    ];
    let before: number[] = [];
    await this.#more(warmUpBytes, () => {
      before = now();
    });
    let after: number[] = [];
    await this.#more(sizeBytes, () => {
      after = now();
    });
    return after.map((value, index) => value - (before[index] as number));
  }

  #more(sizeBytes: number, then: () => void): Promise<void> {
    this.#due = this.#bytes + sizeBytes;
    return new Promise((resolve) => {
      this.#tell = () => {
        then();
        resolve();
      };
    });
  }
}

export interface Measurement {
  readonly kind: 'measure';
  readonly warmUpBytes: number;
  readonly sizeBytes: number;
  /** The process that carries, if any does. */
  readonly carrier: number | undefined;
}
