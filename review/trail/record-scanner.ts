/**
 * Cuts a file of CloudTrail records into records while it arrives, in memory that one record bounds. Three layouts,
 * in any mixture one after the other: `{"Records": [...]}` as S3 delivers, a list of records, and records one by one
 * (JSON lines). Also `{"Events": [...]}`, which `aws cloudtrail lookup-events` prints.
 *
 * It looks at brackets, strings and colons only; whoever takes a record parses it. Colons are counted because
 * JSON.parse keeps the last of repeated members in silence: a record that has fewer members than colons lied.
 */
import { TrailError } from './errors.ts';

/** CloudTrail bounds a record by 256 KB, and by 1 MB where the trail adds context (user guide, "Quotas"). */
export const RECORD_MAX_BYTES = 1024 * 1024;
/** Records of CloudTrail are about 8 deep. */
const RECORD_MAX_DEPTH = 64;

export interface RawRecord {
  /** The record's text. Valid until the next call only: it may be a view of the piece that was given. */
  readonly bytes: Uint8Array;
  /** Of its first byte in the file (in the decompressed text). */
  readonly offset: number;
  /** How many members its objects have together, as colons outside of strings tell. */
  readonly members: number;
}

export interface RecordSink {
  record(record: RawRecord): void;
  /** A record that cannot be taken; scanning goes on behind it. */
  unreadable(error: TrailError): void;
}

const [QUOTE, COMMA, COLON, BACKSLASH] = [0x22, 0x2c, 0x3a, 0x5c];
const [OPEN_LIST, CLOSE_LIST, OPEN_OBJECT, CLOSE_OBJECT] = [0x5b, 0x5d, 0x7b, 0x7d];

/** States of a record's text. */
const [PLAIN, IN_STRING, ESCAPED] = [0, 1, 2];
/** What a byte does beside leading to another state: an opening or closing bracket, a colon. */
const [OPENS, CLOSES, COLONS] = [4, 8, 12];

/** By state and byte: the next state, and in the bits above what the byte does. One look-up for each byte of a trail. */
const STEPS = new Uint8Array(3 * 256);
STEPS.fill(IN_STRING, IN_STRING << 8, (ESCAPED + 1) << 8);
STEPS[QUOTE] = IN_STRING;
STEPS[(IN_STRING << 8) | QUOTE] = PLAIN;
STEPS[(IN_STRING << 8) | BACKSLASH] = ESCAPED;
STEPS[OPEN_LIST] = OPENS;
STEPS[OPEN_OBJECT] = OPENS;
STEPS[CLOSE_LIST] = CLOSES;
STEPS[CLOSE_OBJECT] = CLOSES;
STEPS[COLON] = COLONS;

/** Where the scanner is outside of records. */
type Place =
  /** Between whole values of the file. */
  | 'file'
  /** In a list, where a record or the end may come; `more` after a comma, where a record must. */
  | 'list'
  | 'more'
  /** In a list behind a record. */
  | 'behind'
  /** Behind the list of `{"Records": [...]`. */
  | 'tail';

/** `{"Records":[` and its like. Longer beginnings are those of a record. */
const CONTAINER = /^\{\s*"(?:Records|Events)"\s*:\s*\[$/;
const CONTAINER_BEGINNING =
  /^\{\s*(?:"(?:R(?:e(?:c(?:o(?:r(?:d(?:s(?:"\s*(?::\s*\[?)?)?)?)?)?)?)?)?|E(?:v(?:e(?:n(?:t(?:s(?:"\s*(?::\s*\[?)?)?)?)?)?)?)?)?)?$/;
/** White space may be as long as it likes; this is more than anybody writes. */
const BEGINNING_MAX_BYTES = 256;
/** `lookup-events` ends with a token for the next page. */
const TAIL = /^\s*(?:,\s*"NextToken"\s*:\s*"[A-Za-z0-9+/=_-]*"\s*)?\}$/;
const TAIL_MAX_BYTES = 64 * 1024;

export class RecordScanner {
  readonly #sink: RecordSink;
  #place: Place = 'file';
  /** `{"Records": [` rather than `[`: its closing brace is still to come. */
  #contained = false;
  #offset = 0;

  // Inside a record:
  #depth = 0;
  #state = PLAIN;
  #members = 0;
  #startOffset = 0;
  #tooDeep = false;
  /** Parts of the record from earlier pieces; undefined once it is too large to be kept. */
  #parts: Uint8Array[] | undefined = [];
  #partsBytes = 0;
  /** Text of a beginning or a tail that is not decided yet. */
  #undecided = '';

  constructor(sink: RecordSink) {
    this.#sink = sink;
  }

  /** Throws TrailError TRAIL_FORMAT; nothing more can be read then. */
  push(piece: Uint8Array): void {
    let at = 0;
    while (at < piece.length) {
      if (this.#depth > 0) at = this.#insideRecord(piece, at);
      else if (this.#undecided === '' && isSpace(piece[at] as number)) at++;
      else at = this.#outside(piece, at);
    }
    this.#offset += piece.length;
  }

  /** Throws TrailError TRAIL_TRUNCATED or TRAIL_FORMAT. */
  end(): void {
    if (this.#depth > 0 || this.#place !== 'file' || this.#undecided !== '') {
      throw new TrailError(
        'TRAIL_TRUNCATED',
        `the file ends inside of a record or list, at byte ${this.#offset}`,
      );
    }
  }

  #outside(piece: Uint8Array, at: number): number {
    const byte = piece[at] as number;
    if (this.#place === 'tail') return this.#readTail(byte, at);
    if (this.#undecided !== '') return this.#readBeginning(byte, piece, at);
    switch (this.#place) {
      case 'file':
        if (byte === OPEN_LIST) {
          this.#place = 'list';
          this.#contained = false;
          return at + 1;
        }
        if (byte !== OPEN_OBJECT) throw this.#unexpected(byte, at, '"{" or "["');
        this.#startOffset = this.#offset + at;
        this.#undecided = '{';
        return at + 1;
      case 'behind':
        if (byte === COMMA) {
          this.#place = 'more';
          return at + 1;
        }
        if (byte === CLOSE_LIST) return this.#closeList(at);
        throw this.#unexpected(byte, at, '"," or "]"');
      default:
        if (byte === CLOSE_LIST && this.#place === 'list') return this.#closeList(at);
        if (byte !== OPEN_OBJECT) throw this.#unexpected(byte, at, 'a record');
        this.#begin(this.#offset + at);
        return this.#insideRecord(piece, at);
    }
  }

  /** An object of the file: a container of records, or, as soon as it cannot be one, a record itself. */
  #readBeginning(byte: number, piece: Uint8Array, at: number): number {
    const text = this.#undecided + String.fromCharCode(byte);
    if (CONTAINER.test(text)) {
      this.#undecided = '';
      this.#place = 'list';
      this.#contained = true;
      return at + 1;
    }
    if (text.length <= BEGINNING_MAX_BYTES && CONTAINER_BEGINNING.test(text)) {
      this.#undecided = text;
      return at + 1;
    }
    const beginning = Buffer.from(this.#undecided, 'latin1');
    this.#undecided = '';
    this.#begin(this.#startOffset);
    // What was held back, as a piece of its own, and then the rest of this one.
    this.#insideRecord(beginning, 0);
    return this.#depth > 0 ? this.#insideRecord(piece, at) : at;
  }

  #closeList(at: number): number {
    this.#place = this.#contained ? 'tail' : 'file';
    this.#undecided = '';
    return at + 1;
  }

  #readTail(byte: number, at: number): number {
    this.#undecided += String.fromCharCode(byte);
    if (byte === CLOSE_OBJECT) {
      if (!TAIL.test(this.#undecided))
        throw this.#format('the list of records is followed by something else', at);
      this.#undecided = '';
      this.#place = 'file';
    } else if (this.#undecided.length > TAIL_MAX_BYTES || (byte !== COMMA && this.#undecided.length === 1)) {
      throw this.#unexpected(byte, at, '"}"');
    }
    return at + 1;
  }

  #begin(offset: number): void {
    this.#startOffset = offset;
    this.#depth = 0;
    this.#state = PLAIN;
    this.#members = 0;
    this.#tooDeep = false;
    this.#parts = [];
    this.#partsBytes = 0;
  }

  /** From `at`, up to and with the record's last byte or the end of the piece. Returns where it stopped. */
  #insideRecord(piece: Uint8Array, start: number): number {
    let depth = this.#depth;
    let members = this.#members;
    let state = this.#state;
    const end = piece.length;
    for (let at = start; at < end; at++) {
      const step = STEPS[(state << 8) | (piece[at] as number)] as number;
      state = step & 3;
      if (step < OPENS) continue;
      if (step === COLONS) members++;
      else if (step === OPENS) {
        depth++;
        if (depth > RECORD_MAX_DEPTH) this.#tooDeep = true;
      } else if (--depth === 0) {
        this.#depth = 0;
        this.#members = members;
        this.#finish(piece.subarray(start, at + 1));
        return at + 1;
      }
    }
    this.#depth = depth;
    this.#members = members;
    this.#state = state;
    this.#keep(piece.subarray(start, end));
    return end;
  }

  #keep(part: Uint8Array): void {
    this.#partsBytes += part.length;
    if (this.#partsBytes > RECORD_MAX_BYTES) this.#parts = undefined;
    // A copy: the piece belongs to whoever reads the file.
    this.#parts?.push(Uint8Array.prototype.slice.call(part));
  }

  #finish(last: Uint8Array): void {
    this.#place = this.#place === 'file' ? 'file' : 'behind';
    const sizeBytes = this.#partsBytes + last.length;
    const where = `the record at byte ${this.#startOffset}`;
    if (sizeBytes > RECORD_MAX_BYTES || this.#parts === undefined) {
      this.#sink.unreadable(
        new TrailError(
          'TRAIL_RECORD',
          `${where}: expected at most ${RECORD_MAX_BYTES} bytes, found ${sizeBytes}`,
        ),
      );
    } else if (this.#tooDeep) {
      this.#sink.unreadable(
        new TrailError('TRAIL_RECORD', `${where}: expected values at most ${RECORD_MAX_DEPTH} deep`),
      );
    } else {
      const bytes = this.#parts.length === 0 ? last : Buffer.concat([...this.#parts, last]);
      this.#sink.record({ bytes, offset: this.#startOffset, members: this.#members });
    }
    this.#parts = [];
    this.#partsBytes = 0;
  }

  #unexpected(byte: number, at: number, expected: string): TrailError {
    const shown = byte > 0x20 && byte < 0x7f ? String.fromCharCode(byte) : `byte 0x${byte.toString(16)}`;
    return this.#format(`expected ${expected}, found ${JSON.stringify(shown)}`, at);
  }

  #format(message: string, at: number): TrailError {
    return new TrailError('TRAIL_FORMAT', `${message}, at byte ${this.#offset + at}`);
  }
}

function isSpace(byte: number): boolean {
  return byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09;
}
