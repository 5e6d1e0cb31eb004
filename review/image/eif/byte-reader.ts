import type { ByteStream } from '../measure.ts';
import { EifError } from './errors.ts';

/** Takes exact lengths off a stream of pieces of any length. */
export class ByteReader {
  readonly #pieces: AsyncIterator<Uint8Array> | Iterator<Uint8Array>;
  #left = new Uint8Array(0);
  #ended = false;

  constructor(source: ByteStream) {
    this.#pieces =
      Symbol.asyncIterator in source ? source[Symbol.asyncIterator]() : source[Symbol.iterator]();
  }

  /** A copy of the next `count` bytes, which the caller has bounded. EifError EIF_TRUNCATED at an early end. */
  async take(count: number, what: string): Promise<Uint8Array> {
    const taken = new Uint8Array(count);
    let at = 0;
    await this.forEach(count, what, (piece) => {
      taken.set(piece, at);
      at += piece.length;
    });
    return taken;
  }

  /** Hands the next `count` bytes on in the pieces they come in. */
  async forEach(
    count: number,
    what: string,
    use: (piece: Uint8Array) => void | Promise<void>,
  ): Promise<void> {
    let missing = count;
    while (missing > 0) {
      if (!(await this.#fill())) {
        throw new EifError('EIF_TRUNCATED', `The file ends ${missing} bytes before the end of ${what}.`);
      }
      const piece = this.#left.subarray(0, missing);
      this.#left = this.#left.subarray(piece.length);
      missing -= piece.length;
      const used = use(piece);
      if (used !== undefined) await used;
    }
  }

  async expectEnd(): Promise<void> {
    if (await this.#fill())
      throw new EifError('EIF_TRAILING_BYTES', 'The file goes on after its last section.');
  }

  /** Lets go of the source, which may hold a file open. */
  async close(): Promise<void> {
    if (!this.#ended) await this.#pieces.return?.();
  }

  async #fill(): Promise<boolean> {
    while (this.#left.length === 0) {
      const next = await this.#pieces.next();
      if (next.done === true) {
        this.#ended = true;
        return false;
      }
      this.#left = next.value as Uint8Array<ArrayBuffer>;
    }
    return true;
  }
}
