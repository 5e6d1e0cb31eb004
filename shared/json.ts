/**
 * The one JSON parser for everything that is signed, measured or decides who may do what, so that no two
 * readers can see different values in the same bytes. It accepts RFC 8259 less what readers disagree about:
 * duplicate members, a member named __proto__, a byte order mark, invalid UTF-8, lone surrogates, integers
 * beyond 2^53 - 1, minus zero, and numbers that overflow or vanish. Size and depth are bounded.
 */
import { isUtf8 } from 'node:buffer';
import { CodecError } from './codec/errors.ts';
import { type JsonNode, JsonParser, type JsonValue, lineAndColumn } from './codec/json-parser.ts';

export type { JsonObject, JsonValue } from './codec/json-parser.ts';

export interface JsonLimits {
  readonly maxBytes: number;
  readonly maxDepth: number;
}

/** 64 KiB is the largest deployment document and twice the largest key policy. */
const DEFAULT_LIMITS: JsonLimits = { maxBytes: 65_536, maxDepth: 32 };

/** A place in the text: 1-based line and column (in UTF-16 units), 0-based byte offset. */
export interface JsonPosition {
  readonly line: number;
  readonly column: number;
  readonly offset: number;
}

export interface StrictJson {
  /** Objects have no prototype: use Object.hasOwn and Object.entries, not methods. */
  readonly value: JsonValue;
  /** Where the value at a path of member names and indices starts; undefined if there is none. */
  positionOf(path: readonly (string | number)[]): JsonPosition | undefined;
}

/** Throws CodecError (JSON_*); its message names line and column. */
export function parseStrictJson(bytes: Uint8Array, limits: Partial<JsonLimits> = {}): StrictJson {
  const { maxBytes, maxDepth } = { ...DEFAULT_LIMITS, ...limits };
  if (bytes.length > maxBytes) {
    throw new CodecError('JSON_LIMIT', `expected at most ${maxBytes} bytes, found ${bytes.length}`);
  }
  if (!isUtf8(bytes)) throw new CodecError('JSON_ENCODING', 'the text is not UTF-8');
  if (bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf) {
    throw new CodecError('JSON_ENCODING', 'the text begins with a byte order mark');
  }
  const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  const { value, node } = new JsonParser(text, maxDepth).parseWhole();
  return {
    value,
    positionOf(path) {
      let found: JsonNode | undefined = node;
      for (const step of path) found = found?.children?.get(step);
      if (found === undefined) return undefined;
      return { ...lineAndColumn(text, found.at), offset: Buffer.byteLength(text.slice(0, found.at)) };
    },
  };
}
