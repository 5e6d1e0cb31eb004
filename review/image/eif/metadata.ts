/**
 * The metadata section: JSON that a builder wrote beside the image. Nothing measures it and nothing signs it: it
 * is a note on the outside of the box (docs/image.md section 3).
 */
import { type JsonObject, parseStrictJson } from '../../../shared/json.ts';
import { EifError } from './errors.ts';
import { HELD_SECTION_MAX_BYTES } from './format.ts';

/** Throws EifError EIF_METADATA. */
export function parseMetadata(bytes: Uint8Array): JsonObject {
  let value: unknown;
  try {
    value = parseStrictJson(bytes, { maxBytes: HELD_SECTION_MAX_BYTES.metadata }).value;
  } catch (cause) {
    throw new EifError(
      'EIF_METADATA',
      `The metadata is not JSON: ${cause instanceof Error ? cause.message : cause}.`,
      cause,
    );
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new EifError('EIF_METADATA', 'The metadata is not a JSON object.');
  }
  return value as JsonObject;
}

/** The kernel gets these bytes as they stand. Throws EifError EIF_COMMAND_LINE. */
export function parseCommandLine(bytes: Uint8Array): string {
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw new EifError('EIF_COMMAND_LINE', 'The kernel command line is not UTF-8.', cause);
  }
  if (text.includes('\0')) {
    throw new EifError(
      'EIF_COMMAND_LINE',
      'The kernel command line has a NUL, where a kernel stops reading.',
    );
  }
  return text;
}
