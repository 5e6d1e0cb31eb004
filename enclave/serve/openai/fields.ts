/**
 * Reads the members of a request of the OpenAI API. Every member is one of three kinds (docs/serving.md section 4):
 * obeyed; ignored, because it changes nothing about the answer; or refused. A member that would change the answer in
 * a way that this server does not know is refused, unless it has the value that asks for nothing.
 */
import { ApiError, invalid } from '../errors.ts';
import { parseRequestJson, type RequestJson, type RequestObject } from '../request-json.ts';

/** What a client may say and this server has no use for. */
const IGNORED = new Set([
  'metadata',
  'prompt_cache_key',
  'prompt_cache_retention',
  'safety_identifier',
  'service_tier',
  'store',
  'user',
]);

export class Fields {
  readonly #object: RequestObject;
  readonly #at: string;
  readonly #unread: Set<string>;

  private constructor(object: RequestObject, at: string, ignored: ReadonlySet<string>) {
    this.#object = object;
    this.#at = at;
    this.#unread = new Set(Object.keys(object).filter((name) => !ignored.has(name)));
  }

  /** The body of a request. Throws ApiError. */
  static ofBody(bytes: Uint8Array): Fields {
    const body = parseRequestJson(bytes);
    if (!isObject(body)) throw invalid('body', 'expected an object');
    return new Fields(body, '', IGNORED);
  }

  static of(value: RequestJson, at: string): Fields {
    if (!isObject(value)) throw invalid(at, 'expected an object');
    return new Fields(value, `${at}.`, new Set());
  }

  /** The member's place in the request, for a message. */
  at(name: string): string {
    return `${this.#at}${name}`;
  }

  /** Undefined if it is absent or null, which OpenAI's clients send for "not set". */
  take(name: string): RequestJson | undefined {
    this.#unread.delete(name);
    return this.#object[name] ?? undefined;
  }

  text(name: string): string | undefined {
    const value = this.take(name);
    if (value === undefined || typeof value === 'string') return value;
    throw invalid(this.at(name), 'expected a string');
  }

  flag(name: string): boolean {
    const value = this.take(name) ?? false;
    if (typeof value === 'boolean') return value;
    throw invalid(this.at(name), 'expected true or false');
  }

  number(name: string, least: number, most: number): number | undefined {
    const value = this.take(name);
    if (value === undefined) return undefined;
    if (typeof value === 'number' && value >= least && value <= most) return value;
    throw invalid(this.at(name), `expected a number from ${least} to ${most}`);
  }

  integer(name: string, least: number, most: number): number | undefined {
    const value = this.number(name, least, most);
    if (value === undefined || Number.isSafeInteger(value)) return value;
    throw invalid(this.at(name), `expected an integer from ${least} to ${most}`);
  }

  /** Accepts one value alone, the one that asks for what is done anyway. */
  only(name: string, neutral: RequestJson): void {
    const value = this.take(name);
    if (value === undefined || value === neutral || isEmpty(value, neutral)) return;
    throw invalid(this.at(name), `not supported; expected ${JSON.stringify(neutral)} or nothing`);
  }

  /** Throws ApiError API_INVALID for any member that nobody has taken. */
  requireAllRead(): void {
    const [stranger] = this.#unread;
    if (stranger === undefined) return;
    const field = this.at(stranger.slice(0, 64));
    throw new ApiError('API_INVALID', `${field}: not supported by this server`, { field });
  }
}

/** An empty list or object stands for another one. */
function isEmpty(value: RequestJson, neutral: RequestJson): boolean {
  if (Array.isArray(neutral)) return Array.isArray(value) && value.length === 0;
  return isObject(neutral) && isObject(value) && Object.keys(value).length === 0;
}

function isObject(value: RequestJson): value is RequestObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
