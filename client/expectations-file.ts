import { readFile } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { type JsonValue, parseStrictJson } from '../shared/json.ts';
import { type ClientExpectations, checkExpectations, refused } from './expectations.ts';

export const EXPECTATIONS_FORMAT = 'strongroom-expectations/1';
const FILE_MAX_BYTES = 64 * 1024;
const MEMBERS = ['format', 'pcrs', 'maxAgeSeconds', 'models', 'simulationRoot'];

/**
 * Reads a file of expectations (docs/evidence.md section 6), such as a reviewer hands out. `simulationRoot` in
 * it is a path, relative to the file. Throws ClientError `CLIENT_EXPECTATIONS`, or what the file system throws.
 */
export async function readExpectationsFile(path: string): Promise<ClientExpectations> {
  const { simulationRootPath, ...expectations } = parseExpectations(await readFile(path));
  if (simulationRootPath === undefined) return expectations;
  return {
    ...expectations,
    simulationRoot: await readFile(resolve(dirname(path), simulationRootPath), 'utf8'),
  };
}

export type ParsedExpectations = Omit<ClientExpectations, 'simulationRoot'> & {
  readonly simulationRootPath?: string;
};

/** Reads the text of such a file. Throws ClientError `CLIENT_EXPECTATIONS`. */
export function parseExpectations(bytes: Uint8Array): ParsedExpectations {
  const file = readObject(bytes);
  for (const name of Object.keys(file)) {
    if (!MEMBERS.includes(name)) throw refused(`the file has an unknown member "${name.slice(0, 40)}"`);
  }
  const { format, pcrs, maxAgeSeconds, models, simulationRoot } = file;
  if (format !== EXPECTATIONS_FORMAT) throw refused(`format: expected "${EXPECTATIONS_FORMAT}"`);
  if (maxAgeSeconds !== undefined && typeof maxAgeSeconds !== 'number')
    throw refused('maxAgeSeconds: expected a number');
  if (simulationRoot !== undefined && typeof simulationRoot !== 'string')
    throw refused('simulationRoot: expected a path');
  const expectations = {
    pcrs,
    ...(maxAgeSeconds === undefined ? {} : { maxAgeMs: maxAgeSeconds * 1000 }),
    ...(models === undefined ? {} : { models }),
  } as unknown as ClientExpectations;
  const checked = checkExpectations(expectations);
  return {
    pcrs: checked.pcrs,
    maxAgeMs: checked.maxAgeMs,
    ...(checked.models.length === 0 ? {} : { models: checked.models }),
    ...(simulationRoot === undefined ? {} : { simulationRootPath: simulationRoot }),
  };
}

function readObject(bytes: Uint8Array): { readonly [name: string]: JsonValue } {
  let value: JsonValue;
  try {
    value = parseStrictJson(bytes, { maxBytes: FILE_MAX_BYTES, maxDepth: 6 }).value;
  } catch (cause) {
    throw refused(`the file is not strict JSON: ${cause instanceof Error ? cause.message : ''}`, cause);
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    return value as { readonly [name: string]: JsonValue };
  }
  throw refused('the file is not a JSON object');
}
