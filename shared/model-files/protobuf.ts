/**
 * Protobuf's wire format, read for its structure and in constant memory.
 *
 * A message is a row of fields. Each begins with a varint, field number << 3 | wire type, and goes on as a varint
 * (0), 8 bytes (1), 4 bytes (5), or a length and as many bytes (2): a text, raw bytes, packed numbers, or a
 * message again. There are no other wire types here: 3 and 4 are groups, which ONNX does not have.
 * Source: protobuf.dev/programming-guides/encoding.
 *
 * What matters to a reader of hostile files: a length says how far the parser of the other side will go, so it
 * must lie inside the message around it; and a payload is skipped, never held.
 */
import { ModelFileError } from './errors.ts';

/** A file that can be read anywhere. `read` fills the target whole, or throws. */
export interface FileBytes {
  readonly sizeBytes: number;
  read(offsetBytes: number, target: Uint8Array): void;
}

export const WIRE = { varint: 0, fixed64: 1, bytes: 2, fixed32: 5 } as const;

const WINDOW_BYTES = 64 * 1024;
/** 64 bits in groups of 7. */
const VARINT_MAX_BYTES = 10;

/** One field at a time: `next` moves to it, and then exactly one of the reading or skipping methods is called. */
export class ProtobufReader {
  /** Of the current field. */
  number = 0;
  wire = 0;
  position = 0;
  readonly #file: FileBytes;
  readonly #maxFields: number;
  #fields = 0;
  #window = new Uint8Array(0);
  #windowStart = 0;

  /** More fields than `maxFields` in the whole file are refused: time is bounded as memory is. */
  constructor(file: FileBytes, maxFields: number) {
    this.#file = file;
    this.#maxFields = maxFields;
  }

  /** False at the end of the message, which must be reached exactly. */
  next(end: number): boolean {
    if (this.position === end) return false;
    this.#fields += 1;
    if (this.#fields > this.#maxFields) throw malformed(`more than ${this.#maxFields} fields`);
    const key = this.varint(end);
    this.number = Math.floor(key / 8);
    this.wire = key % 8;
    if (this.number < 1 || this.number > 0x1fffffff) throw malformed(`field number ${this.number}`);
    return true;
  }

  /**
   * Unsigned. Beyond 2^53 the number is not exact, but stays beyond: whoever expects a count compares with
   * Number.MAX_SAFE_INTEGER. Negative numbers of protobuf's int64 are of that kind.
   */
  varint(end: number): number {
    let value = 0;
    let scale = 1;
    for (let count = 1; count <= VARINT_MAX_BYTES; count += 1) {
      const byte = this.#byte(end);
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) {
        if (count === VARINT_MAX_BYTES && byte > 1) throw malformed('a varint of more than 64 bits');
        return value;
      }
      scale *= 128;
    }
    throw malformed(`a varint of more than ${VARINT_MAX_BYTES} bytes`);
  }

  /** The end of the payload that begins here, which lies inside the message that ends at `end`. */
  payloadEnd(end: number): number {
    const length = this.varint(end);
    if (length > end - this.position) {
      throw malformed(
        `${length} bytes announced at byte ${this.position}, where ${end - this.position} are left`,
      );
    }
    return this.position + length;
  }

  skipTo(position: number, end: number): void {
    if (position > end) throw malformed(`cut off at byte ${end}`);
    this.position = position;
  }

  /** How many varints a packed payload holds. */
  countVarints(end: number): number {
    let count = 0;
    while (this.position < end) {
      this.varint(end);
      count += 1;
    }
    return count;
  }

  text(end: number): string {
    const bytes = new Uint8Array(end - this.position);
    this.#file.read(this.position, bytes);
    this.position = end;
    try {
      return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
    } catch {
      throw malformed('a text that is not UTF-8');
    }
  }

  #byte(end: number): number {
    if (this.position >= end) throw malformed(`cut off at byte ${end}`);
    const byte = this.#window[this.position - this.#windowStart];
    if (byte !== undefined) {
      this.position += 1;
      return byte;
    }
    this.#windowStart = this.position;
    this.#window = new Uint8Array(Math.min(WINDOW_BYTES, this.#file.sizeBytes - this.position));
    this.#file.read(this.position, this.#window);
    return this.#byte(end);
  }
}

export function malformed(why: string): ModelFileError {
  return new ModelFileError('MODEL_FILE_MALFORMED', `The model file is refused: ${why}.`);
}
