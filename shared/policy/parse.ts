/**
 * Reads a policy document, strictly: whatever AWS refuses, or one reader could take for "no condition" and another
 * for a condition, is refused (docs/policy.md section 5). A document that AWS once stored and would not take today,
 * for example a statement without Resource, is read and evaluated as AWS evaluates it; see write-rules.ts.
 */
import { codeOf } from '../errors.ts';
import { type JsonObject, type JsonValue, parseStrictJson, type StrictJson } from '../json.ts';
import { PolicyError, type PolicyErrorCode } from './errors.ts';
import { asciiLower } from './glob.ts';
import type { Condition, Negatable, Policy, PolicyKind, Principal, Statement } from './model.ts';
import { isBoolean, parseOperator } from './operators.ts';
import { parseAwsPrincipal, parseServicePrincipal } from './principals.ts';

/** KMS developer guide, PutKeyPolicy: at most 32 KB. IAM's own limits for identity policies are lower. */
export const POLICY_MAX_BYTES = 32_768;
/** Amazon S3 User Guide, "Policies and permissions": bucket policies are limited to 20 KB. */
const BUCKET_POLICY_MAX_BYTES = 20_480;

const POLICY_ELEMENTS = ['Version', 'Id', 'Statement'];
const STATEMENT_ELEMENTS = ['Sid', 'Effect', 'Action', 'NotAction', 'Resource', 'NotResource', 'Condition'];
const PRINCIPAL_ELEMENTS = ['Principal', 'NotPrincipal'];

type Path = readonly (string | number)[];

/** Throws PolicyError and nothing else, whatever the bytes. */
export function parsePolicy(bytes: Uint8Array, kind: PolicyKind): Policy {
  const maxBytes = kind === 'bucket' ? BUCKET_POLICY_MAX_BYTES : POLICY_MAX_BYTES;
  if (bytes.length > maxBytes) {
    throw new PolicyError('POLICY_TOO_LARGE', `expected at most ${maxBytes} bytes, found ${bytes.length}`);
  }
  const reader = new PolicyReader(readJson(bytes), kind);
  return reader.policy();
}

function readJson(bytes: Uint8Array): StrictJson {
  try {
    return parseStrictJson(bytes, { maxBytes: POLICY_MAX_BYTES, maxDepth: 16 });
  } catch (error) {
    if (codeOf(error) === undefined) throw error;
    throw new PolicyError('POLICY_JSON', (error as Error).message, error);
  }
}

class PolicyReader {
  readonly #json: StrictJson;
  readonly #kind: PolicyKind;

  constructor(json: StrictJson, kind: PolicyKind) {
    this.#json = json;
    this.#kind = kind;
  }

  policy(): Policy {
    const document = this.#object(this.#json.value, [], 'the policy');
    this.#onlyKnown(document, POLICY_ELEMENTS, []);
    const { Version: version = '2008-10-17', Id: id, Statement: list } = document;
    if (version !== '2008-10-17' && version !== '2012-10-17') {
      throw this.#fail(
        'POLICY_VERSION',
        ['Version'],
        `expected "2012-10-17" or "2008-10-17", found ${show(version)}`,
      );
    }
    if (id !== undefined && typeof id !== 'string')
      throw this.#fail('POLICY_ELEMENT', ['Id'], 'expected a string');
    if (list === undefined) throw this.#fail('POLICY_ELEMENT', [], 'expected a Statement, found none');
    const statements = Array.isArray(list)
      ? list.map((entry, index) => this.#statement(entry, index, ['Statement', index]))
      : [this.#statement(list, 0, ['Statement'])];
    if (statements.length === 0) {
      throw this.#fail(
        'POLICY_ELEMENT',
        ['Statement'],
        'expected at least one statement, found an empty list',
      );
    }
    return {
      kind: this.#kind,
      version,
      versionGiven: Object.hasOwn(document, 'Version'),
      ...(id === undefined ? {} : { id }),
      statements,
    };
  }

  #statement(value: JsonValue, index: number, path: Path): Statement {
    const body = this.#object(value, path, 'a statement');
    const hasPrincipals = this.#kind !== 'identity';
    this.#onlyKnown(
      body,
      hasPrincipals ? [...STATEMENT_ELEMENTS, ...PRINCIPAL_ELEMENTS] : STATEMENT_ELEMENTS,
      path,
    );
    const { Sid: sid, Effect: effect } = body;
    if (sid !== undefined && typeof sid !== 'string') {
      throw this.#fail('POLICY_ELEMENT', [...path, 'Sid'], 'expected a string');
    }
    if (effect !== 'Allow' && effect !== 'Deny') {
      throw this.#fail('POLICY_ELEMENT', path, `Effect: expected "Allow" or "Deny", found ${show(effect)}`);
    }
    const principals = hasPrincipals ? this.#principals(body, path) : undefined;
    const actions = this.#actions(body, path);
    const resources = this.#either(body, path, 'Resource', 'NotResource');
    return {
      index,
      ...(sid === undefined || sid === '' ? {} : { sid }),
      line: this.#line(path),
      effect,
      ...(principals === undefined ? {} : { principals }),
      ...(actions === undefined ? {} : { actions }),
      ...(resources === undefined ? {} : { resources }),
      conditions: this.#conditions(body.Condition, [...path, 'Condition']),
    };
  }

  #principals(body: JsonObject, path: Path): Negatable<Principal> {
    const name = this.#oneOf(body, path, 'Principal', 'NotPrincipal');
    if (name === undefined)
      throw this.#fail(
        'POLICY_ELEMENT',
        path,
        'expected a Principal, found none; an IAM policy has none, and this must be the policy of the key',
      );
    const at = [...path, name];
    const value = body[name];
    const negated = name === 'NotPrincipal';
    if (value === '*') return { negated, entries: [{ kind: 'everyone', text: '*' }] };
    if (typeof value === 'string') {
      throw this.#fail('POLICY_PRINCIPAL', at, `expected "*" or {"AWS": …}, found ${show(value)}`);
    }
    const entries = Object.entries(this.#object(value, at, name)).flatMap(([type, list]) =>
      this.#strings(list, [...at, type]).map((text): Principal => {
        const where = this.#where([...at, type]);
        if (type === 'AWS') return parseAwsPrincipal(text, where);
        if (type === 'Service') return parseServicePrincipal(text, where);
        if (type === 'CanonicalUser' && this.#kind === 'bucket' && /^[0-9a-f]{64}$/.test(text)) {
          return { kind: 'canonical-user', text };
        }
        if (type === 'Federated' && /^[\x21-\x7e]+$/.test(text) && !/[*?]/.test(text)) {
          return { kind: 'federated', text };
        }
        throw this.#fail(
          'POLICY_PRINCIPAL',
          at,
          `expected AWS, Service or Federated, found ${show(type)}: ${show(text)}`,
        );
      }),
    );
    if (entries.length === 0)
      throw this.#fail('POLICY_PRINCIPAL', at, 'expected at least one principal, found none');
    return { negated, entries };
  }

  #actions(body: JsonObject, path: Path): Negatable<string> | undefined {
    const actions = this.#either(body, path, 'Action', 'NotAction');
    for (const action of actions?.entries ?? []) {
      if (!/^(?:\*|\*:\*|[A-Za-z0-9-]+:[A-Za-z0-9*?]+)$/.test(action)) {
        throw this.#fail(
          'POLICY_ACTION',
          path,
          `expected an action such as "kms:Decrypt", found ${show(action)}`,
        );
      }
    }
    return actions;
  }

  /** Undefined when there is neither, or an empty list of the plain one: the statement then has no effect. */
  #either(body: JsonObject, path: Path, plain: string, negatedName: string): Negatable<string> | undefined {
    const name = this.#oneOf(body, path, plain, negatedName);
    if (name === undefined) return undefined;
    const entries = this.#strings(body[name], [...path, name]);
    if (entries.length > 0) return { negated: name === negatedName, entries };
    if (name === plain) return undefined;
    throw this.#fail(
      'POLICY_ELEMENT',
      [...path, name],
      `${name}: expected at least one value, found an empty list`,
    );
  }

  #conditions(value: JsonValue | undefined, path: Path): Condition[] {
    if (value === undefined) return [];
    return Object.entries(this.#object(value, path, 'Condition')).flatMap(([name, block]) => {
      const at = [...path, name];
      const operator = parseOperator(name);
      if (operator === undefined) throw this.#fail('POLICY_CONDITION', at, `unknown operator ${show(name)}`);
      const seen = new Set<string>();
      return Object.entries(this.#object(block, at, name)).map(([key, list]) => {
        const where = [...at, key];
        const lowerKey = asciiLower(key);
        if (!/^[^:]+:./s.test(key)) {
          throw this.#fail(
            'POLICY_CONDITION',
            where,
            `expected a key such as "kms:ViaService", found ${show(key)}`,
          );
        }
        if (seen.has(lowerKey))
          throw this.#fail('POLICY_CONDITION', where, `${show(key)} is there twice, in two cases`);
        seen.add(lowerKey);
        this.#checkPermitted(lowerKey, operator.set, where);
        const values = this.#strings(list, where, this.#kind === 'bucket');
        if (operator.comparison === 'null' && !values.every(isBoolean)) {
          throw this.#fail(
            'POLICY_CONDITION',
            where,
            `Null: expected "true" or "false", found ${show(list)}`,
          );
        }
        return { operator, key, values, line: this.#line(where) };
      });
    });
  }

  /** What KMS refuses in key policies (KMS developer guide, "Condition keys", "ABAC for AWS KMS"). */
  #checkPermitted(lowerKey: string, set: 'all' | 'any' | undefined, path: Path): void {
    if (this.#kind !== 'key') return;
    if (/^(?:(?:aws|kms):resourcetag(?:\/|$)|kms:resourcealiases$)/.test(lowerKey)) {
      throw this.#fail('POLICY_CONDITION', path, `${lowerKey} is not permitted in a key policy`);
    }
    if (set === 'all' && /^(?:kms:encryptioncontext:|aws:requesttag\/)/.test(lowerKey)) {
      throw this.#fail(
        'POLICY_CONDITION',
        path,
        `ForAllValues is not permitted on ${lowerKey}, which has one value`,
      );
    }
  }

  #oneOf(body: JsonObject, path: Path, plain: string, negatedName: string): string | undefined {
    const has = Object.hasOwn(body, plain);
    const hasNegated = Object.hasOwn(body, negatedName);
    if (has && hasNegated) {
      throw this.#fail('POLICY_ELEMENT', path, `expected ${plain} or ${negatedName}, found both`);
    }
    return has ? plain : hasNegated ? negatedName : undefined;
  }

  /**
   * A string, or a list of strings. Unquoted numbers and booleans are refused, because readers differ on their text;
   * but AWS's own examples of bucket policies have them (`"s3:TlsVersion": 1.2`), so their conditions may.
   */
  #strings(value: JsonValue | undefined, path: Path, unquoted = false): string[] {
    const list = Array.isArray(value) ? value : [value];
    return list.map((entry) => {
      if (typeof entry === 'string') return entry;
      if (unquoted && (typeof entry === 'number' || typeof entry === 'boolean')) return String(entry);
      throw this.#fail(
        'POLICY_ELEMENT',
        path,
        `${String(path.at(-1))}: expected text in quotes, found ${show(entry)}`,
      );
    });
  }

  #object(value: JsonValue | undefined, path: Path, what: string): JsonObject {
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as JsonObject;
    throw this.#fail('POLICY_ELEMENT', path, `${what}: expected an object, found ${show(value)}`);
  }

  #onlyKnown(body: JsonObject, known: readonly string[], path: Path): void {
    const unknown = Object.keys(body).find((name) => !known.includes(name));
    if (unknown !== undefined)
      throw this.#fail('POLICY_ELEMENT', [...path, unknown], `unknown element ${show(unknown)}`);
  }

  #line(path: Path): number {
    return this.#json.positionOf(path)?.line ?? 1;
  }

  #where(path: Path): string {
    return `line ${this.#line(path)}`;
  }

  #fail(code: PolicyErrorCode, path: Path, text: string): PolicyError {
    return new PolicyError(code, `${this.#where(path)}: ${text}`);
  }
}

function show(value: unknown): string {
  const text = value === undefined ? 'nothing' : JSON.stringify(value);
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}
