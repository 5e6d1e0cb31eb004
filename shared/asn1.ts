/**
 * ASN.1: reading BER and DER, writing DER. A primer:
 *
 * Every value is tag, length, content. The tag octet holds a class (universal, application, context, private),
 * a constructed flag and a number. The content of a constructed value is further values; that of a primitive
 * value is octets. BER lets a constructed value have an indefinite length, ended by two zero octets; AWS KMS
 * answers in that form. DER is the one encoding of BER in which equal values have equal octets; certificates
 * are in DER.
 *
 * The accepted subset: exactly one value, no trailing bytes; tag numbers 0 to 29; lengths of at most 4 octets;
 * DER demands definite lengths in the fewest octets, primitive strings, minimal integers, zero unused bits.
 * Size, depth and number of values are bounded before anything is built.
 *
 * node-forge reads the value; the scan in codec/asn1-scan.ts comes first, because node-forge alone skips those
 * rules and keeps no positions. Both must see the same tree, or the value is refused.
 */
import forge, { type ForgeAsn1 } from 'node-forge/lib/asn1.js';
import { type Asn1Limits, type Span, scanAsn1 } from './codec/asn1-scan.ts';
import { CodecError } from './codec/errors.ts';

export type Asn1Class = 'universal' | 'application' | 'context' | 'private';

export interface Asn1 {
  readonly tagClass: Asn1Class;
  readonly tag: number;
  readonly constructed: boolean;
  readonly indefinite: boolean;
  readonly children: readonly Asn1[];
  /** Content octets of a primitive value, a view of the input; empty if constructed. */
  readonly content: Uint8Array;
  /** The whole tag-length-value as received, a view of the input. */
  readonly raw: Uint8Array;
}

/** Universal tag numbers that Strongroom meets. */
export const TAG = {
  BOOLEAN: 1,
  INTEGER: 2,
  BIT_STRING: 3,
  OCTET_STRING: 4,
  NULL: 5,
  OID: 6,
  UTF8_STRING: 12,
  SEQUENCE: 16,
  SET: 17,
  PRINTABLE_STRING: 19,
  IA5_STRING: 22,
  UTC_TIME: 23,
  GENERALIZED_TIME: 24,
} as const;

/** 64 KiB and 64 levels are far beyond certificates (1 KiB, 7 levels) and KMS answers (below 7 KiB, 8 levels). */
const DEFAULT_LIMITS: Asn1Limits = { maxBytes: 65_536, maxDepth: 64, maxValues: 4096 };

const CLASSES: readonly Asn1Class[] = ['universal', 'application', 'context', 'private'];

/** Reads exactly one DER value. Throws CodecError (ASN1_*). */
export function readDer(bytes: Uint8Array, limits: Partial<Asn1Limits> = {}): Asn1 {
  return read(bytes, 'der', { ...DEFAULT_LIMITS, ...limits });
}

/** Reads exactly one BER value; indefinite lengths allowed. Throws CodecError (ASN1_*). */
export function readBer(bytes: Uint8Array, limits: Partial<Asn1Limits> = {}): Asn1 {
  return read(bytes, 'ber', { ...DEFAULT_LIMITS, ...limits });
}

function read(bytes: Uint8Array, rules: 'der' | 'ber', limits: Asn1Limits): Asn1 {
  const octets = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  const span = scanAsn1(octets, rules, limits);
  let value: ForgeAsn1;
  try {
    value = forge.fromDer(octets.toString('latin1'), {
      strict: true,
      parseAllBytes: true,
      // node-forge would guess whether a BIT STRING holds a value; callers know and ask.
      decodeBitStrings: false,
      maxDepth: limits.maxDepth + 1,
    });
  } catch (cause) {
    throw new CodecError('ASN1_MALFORMED', 'the value could not be read', cause);
  }
  return place(value, span, new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length));
}

/** Joins what node-forge read with where the scan found it. */
function place(value: ForgeAsn1, span: Span, bytes: Uint8Array): Asn1 {
  const children = typeof value.value === 'string' ? [] : value.value;
  const identifier = value.tagClass | value.type | (value.constructed ? 0x20 : 0);
  if (identifier !== span.identifier || children.length !== span.children.length) {
    throw new CodecError('ASN1_MALFORMED', `two readers disagree about the value at offset ${span.start}`);
  }
  return new PlacedValue(
    value,
    children.map((child, i) => place(child, span.children[i] as Span, bytes)),
    span,
    bytes,
  );
}

/** Cuts its views out when they are asked for: most are not, and views cost more than all of the reading. */
class PlacedValue implements Asn1 {
  readonly tagClass: Asn1Class;
  readonly tag: number;
  readonly constructed: boolean;
  readonly indefinite: boolean;
  readonly children: readonly Asn1[];
  readonly #span: Span;
  readonly #bytes: Uint8Array;

  constructor(value: ForgeAsn1, children: readonly Asn1[], span: Span, bytes: Uint8Array) {
    this.tagClass = CLASSES[value.tagClass >> 6] as Asn1Class;
    this.tag = value.type;
    this.constructed = value.constructed;
    this.indefinite = span.indefinite;
    this.children = children;
    this.#span = span;
    this.#bytes = bytes;
  }

  get content(): Uint8Array {
    const { contentStart, contentEnd } = this.#span;
    return this.constructed ? new Uint8Array(0) : this.#bytes.subarray(contentStart, contentEnd);
  }

  get raw(): Uint8Array {
    return this.#bytes.subarray(this.#span.start, this.#span.end);
  }
}

/** What writeDer encodes. `tagClass` is universal unless given; `der` is a value that is already encoded. */
export type Asn1Input =
  | { readonly tagClass?: Asn1Class; readonly tag: number; readonly children: readonly Asn1Input[] }
  | { readonly tagClass?: Asn1Class; readonly tag: number; readonly content: Uint8Array }
  | { readonly der: Uint8Array };

/** Encodes in DER: definite, minimal lengths. The order of a SET's members is the caller's. */
export function writeDer(node: Asn1Input): Uint8Array {
  if ('der' in node) return node.der;
  if (!Number.isInteger(node.tag) || node.tag < 0 || node.tag > 29) {
    throw new CodecError('ASN1_REFUSED', `expected a tag number from 0 to 29, found ${node.tag}`);
  }
  const constructed = 'children' in node;
  const content = constructed ? concat(node.children.map(writeDer)) : node.content;
  const tagClass = CLASSES.indexOf(node.tagClass ?? 'universal');
  const header = [(tagClass << 6) | (constructed ? 0x20 : 0) | node.tag, ...lengthOctets(content.length)];
  return concat([Uint8Array.from(header), content]);
}

function lengthOctets(length: number): number[] {
  if (length < 0x80) return [length];
  const octets: number[] = [];
  for (let rest = length; rest > 0; rest = Math.floor(rest / 256)) octets.unshift(rest % 256);
  return [0x80 | octets.length, ...octets];
}

/** Not Buffer.concat: its small results come from a pool that other code shares. */
function concat(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** Content octets of an OBJECT IDENTIFIER, for example of "1.2.840.10045.4.3.3". X.690 8.19. */
export function oidToBytes(dotted: string): Uint8Array {
  const parts = /^[0-2](\.(0|[1-9][0-9]{0,9})){1,20}$/.test(dotted) ? dotted.split('.').map(Number) : [];
  const [first = 3, second = 0, ...rest] = parts;
  if (first > 2 || (first < 2 && second > 39)) {
    throw new CodecError('ASN1_REFUSED', `"${dotted}" is not an object identifier`);
  }
  const octets = [first * 40 + second, ...rest].flatMap((part) => {
    const base128 = [part % 128];
    for (let left = Math.floor(part / 128); left > 0; left = Math.floor(left / 128)) {
      base128.unshift(0x80 | (left % 128));
    }
    return base128;
  });
  return Uint8Array.from(octets);
}

/** The dotted form of an OBJECT IDENTIFIER's content octets. Throws CodecError if it is cut off or too large. */
export function oidFromBytes(content: Uint8Array): string {
  const parts: number[] = [];
  let part = 0;
  for (const octet of content) {
    part = part * 128 + (octet & 0x7f);
    if (part > Number.MAX_SAFE_INTEGER / 256) {
      throw new CodecError('ASN1_REFUSED', 'a part of the object identifier is too large');
    }
    if (octet >= 0x80) continue;
    parts.push(part);
    part = 0;
  }
  const [head, ...rest] = parts;
  if (head === undefined || (content.at(-1) as number) >= 0x80) {
    throw new CodecError('ASN1_MALFORMED', 'the object identifier is empty or cut off');
  }
  const first = Math.min(Math.floor(head / 40), 2);
  return [first, head - first * 40, ...rest].join('.');
}
