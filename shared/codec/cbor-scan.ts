/**
 * The scan that every CBOR item passes before cbor-x sees it: one pass over the heads, without recursion, that
 * bounds size, depth and number of items and enforces the accepted subset (the primer is in cbor.ts). cbor-x
 * alone keeps the last of duplicate keys, acts on tags and recurses without bound.
 */
import { isUtf8 } from 'node:buffer';
import { CodecError } from './errors.ts';

export interface CborLimits {
  readonly maxBytes: number;
  readonly maxDepth: number;
  readonly maxItems: number;
  /** A tag accepted (and dropped) around the whole item; no other tag is ever accepted. */
  readonly outerTag: number | undefined;
  /** Whether a length or integer may be written in more bytes than it needs. */
  readonly nonMinimal: 'refuse' | 'accept';
}

/** One open array or map; `left` counts the items still to come, or is undefined until a break ends it. */
interface Container {
  readonly keys: Set<string> | undefined;
  left: number | undefined;
  /** In a map: whether the next item is a key. */
  atKey: boolean;
}

interface Head {
  readonly major: number;
  /** undefined: indefinite length, or (major 7) a break. */
  readonly argument: bigint | undefined;
  readonly next: number;
}

const UNSIGNED = 0;
const NEGATIVE = 1;
const BYTES = 2;
const TEXT = 3;
const ARRAY = 4;
const MAP = 5;
const TAG = 6;
const FALSE = 20n;
const NULL = 22n;

/** Returns where the item starts: after the outer tag, if there is one. */
export function scanCbor(bytes: Uint8Array, limits: CborLimits): number {
  if (bytes.length > limits.maxBytes) {
    throw new CodecError('CBOR_LIMIT', `expected at most ${limits.maxBytes} bytes, found ${bytes.length}`);
  }
  const start = skipOuterTag(bytes, limits);
  const open: Container[] = [];
  let items = 0;
  let at = start;
  do {
    const parent = open.at(-1);
    if (bytes[at] === 0xff) {
      if (parent === undefined || parent.left !== undefined || (parent.keys !== undefined && !parent.atKey)) {
        throw new CodecError('CBOR_MALFORMED', `a break where nothing ends (offset ${at})`);
      }
      at += 1;
      open.pop();
      closeFinished(open);
      continue;
    }
    items += 1;
    if (items > limits.maxItems) {
      throw new CodecError('CBOR_LIMIT', `expected at most ${limits.maxItems} items, found more`);
    }
    const head = readHead(bytes, at, limits);
    const end = itemEnd(bytes, at, head);
    if (parent?.atKey) noteKey(parent, bytes, at, head, end);
    if (parent !== undefined) {
      parent.atKey = parent.keys !== undefined && !parent.atKey;
      if (parent.left !== undefined) parent.left -= 1;
    }
    if (head.major === ARRAY || head.major === MAP) {
      if (open.length >= limits.maxDepth) {
        throw new CodecError('CBOR_LIMIT', `expected at most ${limits.maxDepth} levels, found more`);
      }
      open.push(container(head));
    }
    at = end;
    closeFinished(open);
  } while (open.length > 0);
  if (at !== bytes.length) {
    throw new CodecError('CBOR_TRAILING_BYTES', `expected ${at} bytes, found ${bytes.length}`);
  }
  return start;
}

function skipOuterTag(bytes: Uint8Array, limits: CborLimits): number {
  if (limits.outerTag === undefined || (bytes[0] ?? 0) >> 5 !== TAG) return 0;
  const head = readHead(bytes, 0, limits);
  if (head.argument !== BigInt(limits.outerTag)) {
    throw new CodecError(
      'CBOR_REFUSED',
      `expected tag ${limits.outerTag} or none, found tag ${head.argument}`,
    );
  }
  return head.next;
}

/** Definite containers end with their last item; each may be the last item of the one around it. */
function closeFinished(open: Container[]): void {
  while (open.at(-1)?.left === 0) open.pop();
}

function readHead(bytes: Uint8Array, at: number, limits: CborLimits): Head {
  const initial = bytes[at];
  if (initial === undefined) throw new CodecError('CBOR_MALFORMED', `the item ends early (offset ${at})`);
  const major = initial >> 5;
  const info = initial & 0x1f;
  if (info < 24) return { major, argument: BigInt(info), next: at + 1 };
  if (info === 31 && (major === ARRAY || major === MAP)) return { major, argument: undefined, next: at + 1 };
  if (info === 31 && (major === BYTES || major === TEXT)) {
    throw new CodecError('CBOR_REFUSED', `a string in chunks (offset ${at})`);
  }
  if (info > 27) throw new CodecError('CBOR_MALFORMED', `reserved initial byte (offset ${at})`);
  if (major === 7) throw new CodecError('CBOR_REFUSED', `a float or unassigned simple value (offset ${at})`);
  const width = 1 << (info - 24);
  const next = at + 1 + width;
  if (next > bytes.length) throw new CodecError('CBOR_MALFORMED', `the item ends early (offset ${at})`);
  let argument = 0n;
  for (let i = at + 1; i < next; i++) argument = (argument << 8n) | BigInt(bytes[i] as number);
  const smallest = width === 1 ? 24n : 1n << BigInt(width * 4);
  if (argument < smallest && limits.nonMinimal === 'refuse') {
    throw new CodecError('CBOR_NOT_MINIMAL', `${argument} is written in ${width} bytes (offset ${at})`);
  }
  return { major, argument, next };
}

/** Where the item's own bytes end: after the content of a string, after the head of anything else. */
function itemEnd(bytes: Uint8Array, at: number, { major, argument, next }: Head): number {
  if (major === TAG) throw new CodecError('CBOR_REFUSED', `tag ${argument} (offset ${at})`);
  if (major === 7 && (argument === undefined || argument < FALSE || argument > NULL)) {
    throw new CodecError('CBOR_REFUSED', `a simple value other than false, true and null (offset ${at})`);
  }
  if (major !== BYTES && major !== TEXT) return next;
  if ((argument as bigint) > BigInt(bytes.length - next)) {
    throw new CodecError(
      'CBOR_MALFORMED',
      `expected a string of ${argument} bytes, found ${bytes.length - next} (offset ${at})`,
    );
  }
  const end = next + Number(argument);
  if (major === TEXT) checkText(bytes.subarray(next, end), at);
  return end;
}

function checkText(text: Uint8Array, at: number): void {
  if (!isUtf8(text)) throw new CodecError('CBOR_MALFORMED', `text that is not UTF-8 (offset ${at})`);
  // cbor-x drops a byte order mark from long strings and keeps it in short ones.
  if (text[0] === 0xef && text[1] === 0xbb && text[2] === 0xbf) {
    throw new CodecError('CBOR_REFUSED', `text that begins with a byte order mark (offset ${at})`);
  }
}

/** A count beyond the input needs no check of its own: the items run out, and nothing is allocated for them. */
function container({ major, argument }: Head): Container {
  const isMap = major === MAP;
  const left = argument === undefined ? undefined : Number(argument) * (isMap ? 2 : 1);
  return { keys: isMap ? new Set<string>() : undefined, left, atKey: isMap };
}

/** Keys are integers and text. Equal values are one key, however their lengths were written. */
function noteKey(map: Container, bytes: Uint8Array, at: number, head: Head, end: number): void {
  if (head.major !== UNSIGNED && head.major !== NEGATIVE && head.major !== TEXT) {
    throw new CodecError('CBOR_REFUSED', `a map key that is neither integer nor text (offset ${at})`);
  }
  const content = bytes.subarray(head.next, end);
  const key =
    head.major === TEXT
      ? `"${Buffer.from(content.buffer, content.byteOffset, content.length).toString('latin1')}`
      : `${head.major === NEGATIVE ? '-' : '+'}${head.argument}`;
  if (map.keys?.has(key)) throw new CodecError('CBOR_DUPLICATE_KEY', `a key occurs twice (offset ${at})`);
  map.keys?.add(key);
}
