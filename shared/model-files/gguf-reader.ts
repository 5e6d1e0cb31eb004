/**
 * The primitives of a GGUF file, read in order and in constant memory: little-endian numbers, and strings of a
 * 64-bit length before their bytes. Source: ggml's docs/gguf.md.
 *
 * What matters to a reader of hostile files: every length and count is compared with a bound, and with what is left
 * of the file, before anything is read or kept for it.
 */
import { type FileBytes, malformed } from './protobuf.ts';

const WINDOW_BYTES = 64 * 1024;

export class GgufReader {
  /** From the start of the file. */
  position = 0;
  readonly #file: FileBytes;
  /** Nothing is read beyond it: time is bounded as memory is. */
  readonly #endBytes: number;
  #window = new DataView(new ArrayBuffer(0));
  #windowStart = 0;

  constructor(file: FileBytes, maxBytes: number) {
    this.#file = file;
    this.#endBytes = Math.min(file.sizeBytes, maxBytes);
  }

  uint8(): number {
    return this.#take(1).getUint8(0);
  }

  uint32(): number {
    return this.#take(4).getUint32(0, true);
  }

  int32(): number {
    return this.#take(4).getInt32(0, true);
  }

  float32(): number {
    return this.#take(4).getFloat32(0, true);
  }

  /** Refuses what is no safe integer: no count, size or offset of a file is as large. */
  uint64(): number {
    const value = Number(this.#take(8).getBigUint64(0, true));
    if (!Number.isSafeInteger(value)) throw malformed(`the number ${value} before byte ${this.position}`);
    return value;
  }

  skip(sizeBytes: number): void {
    if (sizeBytes > this.#endBytes - this.position) throw this.#cutOff();
    this.position += sizeBytes;
  }

  /** The bytes of a string of at most `maxBytes`. */
  bytes(maxBytes: number, what: string): Uint8Array {
    const sizeBytes = this.#length(maxBytes, what);
    const bytes = new Uint8Array(sizeBytes);
    for (let filled = 0; filled < sizeBytes; ) {
      const part = this.#take(Math.min(sizeBytes - filled, WINDOW_BYTES));
      bytes.set(new Uint8Array(part.buffer, part.byteOffset, part.byteLength), filled);
      filled += part.byteLength;
    }
    return bytes;
  }

  text(maxBytes: number, what: string): string {
    const bytes = this.bytes(maxBytes, what);
    try {
      return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
    } catch {
      throw malformed(`${what} is not UTF-8`);
    }
  }

  skipText(maxBytes: number, what: string): void {
    this.skip(this.#length(maxBytes, what));
  }

  #length(maxBytes: number, what: string): number {
    const sizeBytes = this.uint64();
    if (sizeBytes > maxBytes) throw malformed(`${what} has ${sizeBytes} bytes: expected at most ${maxBytes}`);
    if (sizeBytes > this.#endBytes - this.position) throw this.#cutOff();
    return sizeBytes;
  }

  /** At most WINDOW_BYTES. */
  #take(sizeBytes: number): DataView {
    if (sizeBytes > this.#endBytes - this.position) throw this.#cutOff();
    const start = this.position - this.#windowStart;
    if (start < 0 || start + sizeBytes > this.#window.byteLength) {
      const window = new Uint8Array(Math.min(WINDOW_BYTES, this.#endBytes - this.position));
      this.#file.read(this.position, window);
      this.#window = new DataView(window.buffer);
      this.#windowStart = this.position;
    }
    const view = new DataView(this.#window.buffer, this.position - this.#windowStart, sizeBytes);
    this.position += sizeBytes;
    return view;
  }

  #cutOff(): Error {
    return malformed(
      this.#endBytes === this.#file.sizeBytes
        ? `cut off at byte ${this.#endBytes}`
        : `more than ${this.#endBytes} bytes before its tensors`,
    );
  }
}
