/** Lists the files of ramdisks as an image file passes by: plain newc archives, and gzip-compressed ones. */
import { finished } from 'node:stream/promises';
import { createGunzip, type Gunzip } from 'node:zlib';
import { type CpioEntry, CpioReader } from './cpio-read.ts';
import { EifError } from './errors.ts';
import type { RamdiskVisitor } from './measure-eif.ts';

/** More than the memory of most enclaves; a compressed ramdisk that expands further is an attack. */
export const EXPANDED_MAX_BYTES = 16 * 2 ** 30;

const GZIP_MAGIC = [0x1f, 0x8b] as const;

export type RamdiskOutcome =
  | { readonly ramdisk: number; readonly list: ListedRamdisk; readonly refused: undefined }
  | { readonly ramdisk: number; readonly list: undefined; readonly refused: EifError };

export interface ListedRamdisk {
  readonly ramdisk: number;
  readonly compression: 'none' | 'gzip';
  /** In order of the archive. A later entry of one name replaces an earlier one when a kernel unpacks it. */
  readonly entries: readonly CpioEntry[];
}

/**
 * For `measureEif`. What it lists is true only once the whole image file is accepted. A ramdisk that cannot be
 * listed says so in its outcome, and does not keep the others from being listed.
 */
export class RamdiskLister implements RamdiskVisitor {
  readonly #outcomes: RamdiskOutcome[] = [];
  readonly #expandedMaxBytes: number;
  #current: Decoder | undefined;
  /** The first byte of a ramdisk, while it alone does not say what follows. */
  #beginning: number[] = [];
  #refused: EifError | undefined;

  constructor(expandedMaxBytes: number = EXPANDED_MAX_BYTES) {
    this.#expandedMaxBytes = expandedMaxBytes;
  }

  /** One for each ramdisk, in their order. */
  get outcomes(): readonly RamdiskOutcome[] {
    return this.#outcomes;
  }

  piece(_ramdisk: number, piece: Uint8Array): Promise<void> {
    return this.#unlessRefused(() => this.#decode(piece));
  }

  async end(ramdisk: number): Promise<void> {
    let list: ListedRamdisk | undefined;
    await this.#unlessRefused(async () => {
      const decoder = this.#current;
      if (decoder === undefined) {
        throw new EifError('CPIO_MALFORMED', `Ramdisk ${ramdisk} is too short for an archive.`);
      }
      list = { ramdisk, compression: decoder.compression, entries: await decoder.end() };
    });
    if (list !== undefined) this.#outcomes.push({ ramdisk, list, refused: undefined });
    else if (this.#refused !== undefined) {
      this.#outcomes.push({ ramdisk, list: undefined, refused: this.#refused });
    }
    this.#current = undefined;
    this.#beginning = [];
    this.#refused = undefined;
  }

  async #decode(piece: Uint8Array): Promise<void> {
    if (this.#current !== undefined) return await this.#current.push(piece);
    const used = Math.min(2 - this.#beginning.length, piece.length);
    this.#beginning.push(...piece.subarray(0, used));
    const [first, second] = this.#beginning;
    if (second === undefined) return undefined;
    const zipped = first === GZIP_MAGIC[0] && second === GZIP_MAGIC[1];
    this.#current = zipped ? new ZippedDecoder(this.#expandedMaxBytes) : new PlainDecoder();
    await this.#current.push(Uint8Array.from(this.#beginning));
    return await this.#current.push(piece.subarray(used));
  }

  async #unlessRefused(step: () => Promise<void>): Promise<void> {
    if (this.#refused !== undefined) return;
    try {
      await step();
    } catch (error) {
      if (!(error instanceof EifError)) throw error;
      this.#refused = error;
    }
  }
}

interface Decoder {
  readonly compression: ListedRamdisk['compression'];
  push(piece: Uint8Array): void | Promise<void>;
  end(): readonly CpioEntry[] | Promise<readonly CpioEntry[]>;
}

class PlainDecoder implements Decoder {
  readonly compression = 'none';
  readonly #reader = new CpioReader();
  push(piece: Uint8Array): void {
    this.#reader.push(piece);
  }
  end(): readonly CpioEntry[] {
    return this.#reader.end();
  }
}

class ZippedDecoder implements Decoder {
  readonly compression = 'gzip';
  readonly #reader = new CpioReader();
  readonly #gunzip: Gunzip;
  /** Of everything: rejects with what broke. */
  readonly #finished: Promise<void>;
  #expandedBytes = 0;

  constructor(expandedMaxBytes: number) {
    // A kernel unpacks what follows the compressed part; so nothing may.
    this.#gunzip = createGunzip({ rejectGarbageAfterEnd: true });
    this.#gunzip.on('data', (piece: Uint8Array) => {
      this.#expandedBytes += piece.length;
      try {
        if (this.#expandedBytes > expandedMaxBytes) {
          throw new EifError('CPIO_LIMIT', `A ramdisk expands to more than ${expandedMaxBytes} bytes.`);
        }
        this.#reader.push(piece);
      } catch (error) {
        this.#gunzip.destroy(error as Error);
      }
    });
    this.#finished = finished(this.#gunzip);
    this.#finished.catch(() => {});
  }

  /** Fulfilled when these bytes are expanded: they are the caller's again after that. */
  async push(piece: Uint8Array): Promise<void> {
    const written = new Promise<void>((resolve) => this.#gunzip.write(piece, () => resolve()));
    await this.#unlessBroken(Promise.race([written, this.#finished]));
  }

  async end(): Promise<readonly CpioEntry[]> {
    this.#gunzip.end();
    await this.#unlessBroken(this.#finished);
    return this.#reader.end();
  }

  async #unlessBroken(step: Promise<void>): Promise<void> {
    try {
      await step;
      if (this.#gunzip.destroyed && !this.#gunzip.readableEnded) await this.#finished;
    } catch (error) {
      if (error instanceof EifError) throw error;
      const why = error instanceof Error ? error.message : String(error);
      throw new EifError('CPIO_MALFORMED', `A ramdisk is not gzip to rely on: ${why}.`, error);
    }
  }
}
