/**
 * A file of registers, as reviewers have them: `strongroom image measure --json`, what nitro-cli prints
 * (`{"Measurements": {"PCR0": …}}`), or a plain object by register (`{"PCR0": …}` or `{"0": …}`).
 */
import { type JsonObject, type JsonValue, parseStrictJson } from '../shared/json.ts';
import { PCR_COUNT } from '../shared/pcr.ts';
import { ReviewError } from './errors.ts';

/** By index: 96 lower-case hex digits. Zeros are values like any other here. */
export type Registers = ReadonlyMap<number, string>;

/** The metadata of an image, which `image measure --json` repeats, has at most 1 MiB. */
export const REGISTERS_FILE_MAX_BYTES = 2 * 1024 * 1024;

/** Throws ReviewError REGISTERS_UNREADABLE. */
export function parseRegisters(bytes: Uint8Array): Registers {
  const file = object(readJson(bytes), 'the file');
  if (!Object.hasOwn(file, 'Measurements')) return registersOf(file, []);
  const measured = registersOf(object(file.Measurements, 'Measurements'), ['HashAlgorithm']);
  if (!Object.hasOwn(file, 'surroundings')) return measured;
  return new Map([...measured, ...registersOf(object(file.surroundings, 'surroundings'), [], 0)]);
}

function readJson(bytes: Uint8Array): JsonValue {
  try {
    return parseStrictJson(bytes, { maxBytes: REGISTERS_FILE_MAX_BYTES }).value;
  } catch (cause) {
    const found = cause instanceof Error ? cause.message : String(cause);
    throw new ReviewError('REGISTERS_UNREADABLE', `the file is not strict JSON: ${found}`, cause);
  }
}

function registersOf(from: JsonObject, ignored: readonly string[], atLeast = 1): Map<number, string> {
  const registers = new Map<number, string>();
  for (const [name, value] of Object.entries(from)) {
    if (ignored.includes(name)) continue;
    const index = Number(/^(?:PCR)?(0|[1-9][0-9]?)$/.exec(name)?.[1] ?? 'none');
    if (!(index < PCR_COUNT)) {
      throw refused(
        `expected registers PCR0 to PCR${PCR_COUNT - 1}, found ${JSON.stringify(name.slice(0, 40))}`,
      );
    }
    if (typeof value !== 'string' || !/^[0-9a-fA-F]{96}$/.test(value)) {
      throw refused(`${name}: expected 96 hex digits, found ${JSON.stringify(value).slice(0, 120)}`);
    }
    if (registers.has(index)) throw refused(`PCR${index} is given twice`);
    registers.set(index, value.toLowerCase());
  }
  if (registers.size < atLeast) throw refused('expected at least one register, found none');
  return registers;
}

function object(value: JsonValue | undefined, what: string): JsonObject {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as JsonObject;
  throw refused(`expected ${what} as an object`);
}

function refused(message: string): ReviewError {
  return new ReviewError('REGISTERS_UNREADABLE', message);
}
