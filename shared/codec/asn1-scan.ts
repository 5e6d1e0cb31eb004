/**
 * The scan that every ASN.1 value passes before node-forge sees it: one pass over tags and lengths, without
 * recursion, that bounds size, depth and number of values, demands the accepted encoding (docs/attestation.md,
 * section 9) and notes where each value starts and ends.
 */
import { CodecError } from './errors.ts';

export interface Asn1Limits {
  readonly maxBytes: number;
  readonly maxDepth: number;
  readonly maxValues: number;
}

/** One tag-length-value; all positions are offsets into the scanned bytes. */
export interface Span {
  readonly identifier: number;
  readonly indefinite: boolean;
  readonly start: number;
  readonly contentStart: number;
  /** End of the content; an indefinite value ends two octets later, after its end-of-contents. */
  contentEnd: number;
  end: number;
  readonly children: Span[];
}

const CONSTRUCTED = 0x20;
const TAG_NUMBER = 0x1f;
/** 31 announces a longer number; 30 is BMPString, which node-forge reads in pairs of octets in every class. */
const HIGHEST_TAG_NUMBER = 29;
const END_OF_CONTENTS = 0x00;
/** What writers that reserve room for a length use; more than enough for any bytes accepted here. */
const LENGTH_MAX_OCTETS = 4;

export function scanAsn1(bytes: Uint8Array, rules: 'der' | 'ber', limits: Asn1Limits): Span {
  if (bytes.length > limits.maxBytes) {
    throw new CodecError('ASN1_LIMIT', `expected at most ${limits.maxBytes} bytes, found ${bytes.length}`);
  }
  const open: Span[] = [];
  let values = 0;
  let at = 0;
  for (;;) {
    const parent = open.at(-1);
    const limit = enclosingEnd(open, bytes.length);
    if (parent !== undefined && endsHere(bytes, at, parent)) {
      parent.contentEnd = at;
      at += parent.indefinite ? 2 : 0;
      parent.end = at;
      open.pop();
      if (open.length === 0) return onlyOne(parent, bytes.length);
      continue;
    }
    values += 1;
    if (values > limits.maxValues) {
      throw new CodecError('ASN1_LIMIT', `expected at most ${limits.maxValues} values, found more`);
    }
    const span = readHeader(bytes, at, limit, rules);
    parent?.children.push(span);
    if ((span.identifier & CONSTRUCTED) !== 0) {
      if (open.length >= limits.maxDepth) {
        throw new CodecError('ASN1_LIMIT', `expected at most ${limits.maxDepth} levels, found more`);
      }
      open.push(span);
      at = span.contentStart;
    } else {
      checkPrimitive(span, bytes, rules);
      at = span.end;
      if (parent === undefined) return onlyOne(span, bytes.length);
    }
  }
}

function onlyOne(span: Span, sizeBytes: number): Span {
  if (span.end !== sizeBytes) {
    throw new CodecError('ASN1_TRAILING_BYTES', `expected ${span.end} bytes, found ${sizeBytes}`);
  }
  return span;
}

/** The innermost definite end: nothing inside may reach over it. */
function enclosingEnd(open: readonly Span[], sizeBytes: number): number {
  return open.findLast((span) => !span.indefinite)?.contentEnd ?? sizeBytes;
}

function endsHere(bytes: Uint8Array, at: number, parent: Span): boolean {
  if (!parent.indefinite) return at === parent.contentEnd;
  return bytes[at] === END_OF_CONTENTS && bytes[at + 1] === 0;
}

function readHeader(bytes: Uint8Array, at: number, limit: number, rules: 'der' | 'ber'): Span {
  const identifier = octet(bytes, at, limit);
  if ((identifier & TAG_NUMBER) > HIGHEST_TAG_NUMBER) {
    throw new CodecError(
      'ASN1_REFUSED',
      `tag numbers above ${HIGHEST_TAG_NUMBER} are refused (offset ${at})`,
    );
  }
  if ((identifier & ~CONSTRUCTED) === END_OF_CONTENTS) {
    throw new CodecError('ASN1_MALFORMED', `end-of-contents where nothing is open for it (offset ${at})`);
  }
  const constructed = (identifier & CONSTRUCTED) !== 0;
  checkForm(identifier, constructed, rules, at);
  const first = octet(bytes, at + 1, limit);
  if (first === 0x80) {
    if (rules === 'der') throw new CodecError('ASN1_REFUSED', `indefinite length in DER (offset ${at})`);
    if (!constructed) {
      throw new CodecError('ASN1_MALFORMED', `indefinite length on a primitive value (offset ${at})`);
    }
    return span(identifier, true, at, at + 2, limit);
  }
  let contentStart = at + 2;
  let length = first;
  if (first > 0x80) {
    const octets = first & 0x7f;
    if (octets > LENGTH_MAX_OCTETS)
      throw new CodecError('ASN1_LIMIT', `length of ${octets} octets (offset ${at})`);
    length = 0;
    for (let i = 0; i < octets; i++) length = length * 256 + octet(bytes, contentStart++, limit);
    // X.690 8.1.3.5 and 10.1: DER uses the fewest octets, BER any number of them.
    const fewest = length < 0x80 ? 0 : length < 0x100 ? 1 : length < 0x10000 ? 2 : length < 0x1000000 ? 3 : 4;
    if (rules === 'der' && octets !== fewest) {
      throw new CodecError('ASN1_REFUSED', `length in ${octets} octets, ${fewest} would do (offset ${at})`);
    }
  }
  if (length > limit - contentStart) {
    throw new CodecError(
      'ASN1_MALFORMED',
      `expected ${length} content bytes, found ${limit - contentStart} (offset ${at})`,
    );
  }
  return span(identifier, false, at, contentStart, contentStart + length);
}

function span(
  identifier: number,
  indefinite: boolean,
  start: number,
  contentStart: number,
  end: number,
): Span {
  return { identifier, indefinite, start, contentStart, contentEnd: end, end, children: [] };
}

function octet(bytes: Uint8Array, at: number, limit: number): number {
  const value = at < limit ? bytes[at] : undefined;
  if (value === undefined) throw new CodecError('ASN1_MALFORMED', `the value ends early (offset ${at})`);
  return value;
}

const SEQUENCE = 16;
const SET = 17;

/** X.690 8.9.1, 8.11.1: SEQUENCE and SET are constructed; 10.2: in DER every other universal type is not. */
function checkForm(identifier: number, constructed: boolean, rules: 'der' | 'ber', at: number): void {
  if (identifier >> 6 !== 0) return;
  const type = identifier & TAG_NUMBER;
  const mustBeConstructed = type === SEQUENCE || type === SET;
  if (mustBeConstructed && !constructed) {
    throw new CodecError('ASN1_MALFORMED', `primitive SEQUENCE or SET (offset ${at})`);
  }
  if (!mustBeConstructed && constructed && (rules === 'der' || NEVER_CONSTRUCTED.has(type))) {
    throw new CodecError('ASN1_REFUSED', `constructed universal type ${type} (offset ${at})`);
  }
}

const BOOLEAN = 1;
const INTEGER = 2;
const BIT_STRING = 3;
const NULL = 5;
const OBJECT_IDENTIFIER = 6;
const ENUMERATED = 10;
const NEVER_CONSTRUCTED = new Set([BOOLEAN, INTEGER, NULL, OBJECT_IDENTIFIER, ENUMERATED]);

function checkPrimitive(value: Span, bytes: Uint8Array, rules: 'der' | 'ber'): void {
  if (value.identifier >> 6 !== 0) return;
  const content = bytes.subarray(value.contentStart, value.contentEnd);
  const fault = primitiveFault(value.identifier & TAG_NUMBER, content, rules);
  if (fault !== undefined) throw new CodecError('ASN1_MALFORMED', `${fault} (offset ${value.start})`);
}

function primitiveFault(type: number, content: Uint8Array, rules: 'der' | 'ber'): string | undefined {
  const [first, second = 0] = content;
  switch (type) {
    case BOOLEAN:
      if (content.length !== 1) return 'BOOLEAN of other than one octet';
      return rules === 'der' && first !== 0 && first !== 0xff ? 'BOOLEAN neither 00 nor FF' : undefined;
    case INTEGER:
    case ENUMERATED:
      if (first === undefined) return 'INTEGER without content';
      if (content.length === 1) return undefined;
      return (first === 0 && second < 0x80) || (first === 0xff && second >= 0x80)
        ? 'INTEGER with a superfluous first octet'
        : undefined;
    case BIT_STRING:
      return bitStringFault(content);
    case NULL:
      return content.length !== 0 ? 'NULL with content' : undefined;
    case OBJECT_IDENTIFIER:
      return objectIdentifierFault(content);
    default:
      return undefined;
  }
}

/** X.690 8.6.2 and 11.2.1: 0 to 7 unused bits, and they are zero (demanded in BER too: nobody needs others). */
function bitStringFault(content: Uint8Array): string | undefined {
  const [unused] = content;
  if (unused === undefined || unused > 7) return 'BIT STRING without a valid count of unused bits';
  if (unused === 0) return undefined;
  const last = content.length > 1 ? (content.at(-1) as number) : 0xff;
  return (last & ((1 << unused) - 1)) !== 0 ? 'BIT STRING whose unused bits are not zero' : undefined;
}

/** X.690 8.19.2: each part ends with an octet below 80 and begins with no 80. */
function objectIdentifierFault(content: Uint8Array): string | undefined {
  let starting = true;
  for (const value of content) {
    if (starting && value === 0x80) return 'OBJECT IDENTIFIER with a padded part';
    starting = value < 0x80;
  }
  return content.length > 0 && starting ? undefined : 'OBJECT IDENTIFIER that is empty or cut off';
}
