import { type ErrorTable, StrongroomError } from '../errors.ts';

export const codecErrors = {
  CBOR_MALFORMED: {
    exit: 2,
    means: 'The bytes are not one well-formed CBOR item.',
    action: 'Check that the file or message arrived whole and is what it is said to be.',
  },
  CBOR_REFUSED: {
    exit: 2,
    means: 'The CBOR is well formed but uses something outside the accepted subset, for example a tag.',
    action: 'Have the sender encode plain maps, arrays, strings, integers, booleans and null only.',
  },
  CBOR_DUPLICATE_KEY: {
    exit: 2,
    means: 'A CBOR map holds the same key twice, so that two readers could see different values.',
    action: 'Treat the sender as hostile or broken; do not use any value of this message.',
  },
  CBOR_TRAILING_BYTES: {
    exit: 2,
    means: 'Bytes follow the one CBOR item that was expected.',
    action: 'Check that the file holds exactly one item and nothing was appended.',
  },
  CBOR_NOT_MINIMAL: {
    exit: 2,
    means: 'A CBOR length or integer is written in more bytes than it needs where that is refused.',
    action: 'Use the bytes as they were first issued; this copy was re-encoded.',
  },
  CBOR_LIMIT: {
    exit: 2,
    means: 'The CBOR is larger, deeper or has more items than the reader allows.',
    action: 'Check that this is the right file; genuine messages stay far below the limits.',
  },
  ASN1_MALFORMED: {
    exit: 2,
    means: 'The bytes are not one well-formed ASN.1 value.',
    action: 'Check that the file or message arrived whole and is what it is said to be.',
  },
  ASN1_REFUSED: {
    exit: 2,
    means: 'The ASN.1 is readable but not in the accepted encoding, for example BER where DER is demanded.',
    action: 'Have the sender encode it in DER.',
  },
  ASN1_TRAILING_BYTES: {
    exit: 2,
    means: 'Bytes follow the one ASN.1 value that was expected.',
    action: 'Check that the file holds exactly one value and nothing was appended.',
  },
  ASN1_LIMIT: {
    exit: 2,
    means: 'The ASN.1 value is larger, deeper or has more parts than the reader allows.',
    action: 'Check that this is the right file; genuine values stay far below the limits.',
  },
  JSON_MALFORMED: {
    exit: 2,
    means: 'The text is not one JSON value.',
    action: 'Correct the text at the line and column that the message names.',
  },
  JSON_ENCODING: {
    exit: 2,
    means: 'The bytes are not plain UTF-8: a byte order mark, an invalid sequence or a lone surrogate.',
    action: 'Save the file as UTF-8 without a byte order mark.',
  },
  JSON_DUPLICATE_MEMBER: {
    exit: 2,
    means: 'An object has two members of the same name, so that two readers could see different values.',
    action: 'Remove one of the two members.',
  },
  JSON_FORBIDDEN_MEMBER: {
    exit: 2,
    means: 'An object has a member named __proto__, which some readers treat as more than a name.',
    action: 'Remove the member.',
  },
  JSON_UNSAFE_NUMBER: {
    exit: 2,
    means: 'A number cannot be held exactly enough for all readers to agree on it.',
    action: 'Write the number as a string, or keep integers between -(2^53 - 1) and 2^53 - 1.',
  },
  JSON_TRAILING_BYTES: {
    exit: 2,
    means: 'Something follows the JSON value.',
    action: 'Remove everything after the value.',
  },
  JSON_LIMIT: {
    exit: 2,
    means: 'The JSON text is larger or nested deeper than the reader allows.',
    action: 'Check that this is the right file; make it smaller.',
  },
} as const satisfies ErrorTable;

export type CodecErrorCode = keyof typeof codecErrors;

/** The bytes are not what the format allows. Says nothing about trust: nothing has been verified yet. */
export class CodecError extends StrongroomError<CodecErrorCode> {
  constructor(code: CodecErrorCode, message: string, cause?: unknown) {
    super(codecErrors, code, message, cause);
  }
}
