import type { JsonValue, StrictJson } from '../../shared/json.ts';
import { ParentError } from '../errors.ts';

export type Path = readonly (string | number)[];

type Members = { readonly [name: string]: JsonValue };

/** Reads values by their place, so that every refusal names the member and its line. */
export class Reader {
  readonly #json: StrictJson;

  constructor(json: StrictJson) {
    this.#json = json;
  }

  wrong(at: Path, expected: string, found: unknown): ParentError {
    const shown = found === undefined ? 'nothing' : JSON.stringify(found).slice(0, 120);
    const line = this.#json.positionOf(at)?.line;
    const place = `${at.join('.') || 'the configuration'}${line === undefined ? '' : ` (line ${line})`}`;
    return new ParentError('PARENT_CONFIG_INVALID', `${place}: expected ${expected}, found ${shown}.`);
  }

  members(
    value: JsonValue | undefined,
    at: Path,
    shape: { required: readonly string[]; optional?: readonly string[] },
  ): Members {
    if (typeof value !== 'object' || value === null || Array.isArray(value))
      throw this.wrong(at, 'an object', value);
    const members = value as Members;
    const known = [...shape.required, ...(shape.optional ?? [])];
    for (const name of Object.keys(members)) {
      if (!known.includes(name)) throw this.wrong([...at, name], `only ${known.join(', ')}`, name);
    }
    for (const name of shape.required) {
      if (!Object.hasOwn(members, name)) throw this.wrong(at, `the member "${name}"`, undefined);
    }
    return members;
  }

  kind(value: JsonValue | undefined, at: Path): JsonValue | undefined {
    if (typeof value !== 'object' || value === null || Array.isArray(value))
      throw this.wrong(at, 'an object', value);
    return (value as Members).kind;
  }

  text(value: JsonValue | undefined, at: Path): string {
    if (typeof value !== 'string' || value === '' || value.includes('\0'))
      throw this.wrong(at, 'a text', value);
    return value;
  }

  integer(value: JsonValue | undefined, at: Path, least: number, most: number): number {
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < least || value > most) {
      throw this.wrong(at, `an integer from ${least} to ${most}`, value);
    }
    return value;
  }
}
