import { invalid } from '../errors.ts';
import type { RequestJson } from '../request-json.ts';
import { Fields } from './fields.ts';

/** Any object. */
const JSON_OBJECT = { type: 'object', additionalProperties: true };
/** A grammar is made of it, rule by rule. */
const SCHEMA_BYTES_MAX = 64 * 1024;

/**
 * The schema that the text has to fit, or undefined for any text. `strict` says no more than what is always done: the
 * text fits the schema, or ends at its limit of tokens.
 */
export function readResponseFormat(fields: Fields): object | undefined {
  const value = fields.take('response_format');
  if (value === undefined) return undefined;
  const at = fields.at('response_format');
  const format = Fields.of(value, at);
  const type = format.text('type');
  const schema =
    type === 'json_schema' ? readSchema(format.take('json_schema'), `${at}.json_schema`) : undefined;
  format.requireAllRead();
  if (schema !== undefined) return schema;
  if (type === 'json_object') return JSON_OBJECT;
  if (type === 'text') return undefined;
  throw invalid(`${at}.type`, 'expected "text", "json_object" or "json_schema"');
}

function readSchema(value: RequestJson | undefined, at: string): object {
  if (value === undefined) throw invalid(at, 'expected an object');
  const fields = Fields.of(value, at);
  fields.text('name');
  fields.text('description');
  fields.flag('strict');
  const schema = fields.take('schema');
  fields.requireAllRead();
  if (typeof schema !== 'object' || Array.isArray(schema))
    throw invalid(`${at}.schema`, 'expected an object');
  let text: string;
  try {
    text = JSON.stringify(schema);
  } catch {
    throw invalid(`${at}.schema`, 'expected numbers that a double can hold');
  }
  if (text.length > SCHEMA_BYTES_MAX)
    throw invalid(`${at}.schema`, `expected at most ${SCHEMA_BYTES_MAX} bytes`);
  return JSON.parse(text);
}
