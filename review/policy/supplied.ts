/**
 * What a reviewer supplies beside the key policy, in one JSON file (docs/policy-review.md section 6): `iamPolicies` by
 * role or user name (`trust:NAME` is the role's trust policy), `grants` as ListGrants returns them, `keyMetadata` as
 * DescribeKey returns it or with names in lower case.
 */
import { codeOf } from '../../shared/errors.ts';
import { type JsonObject, type JsonValue, parseStrictJson } from '../../shared/json.ts';
import { parseGrant } from '../../shared/policy/grants.ts';
import type { Grant, Policy } from '../../shared/policy/model.ts';
import { parsePolicy } from '../../shared/policy/parse.ts';
import { ReviewError } from '../errors.ts';

export interface Supplied {
  readonly iamPolicies?: ReadonlyMap<string, readonly IdentityDocument[]>;
  readonly trustPolicies?: ReadonlyMap<string, Policy>;
  readonly grants?: readonly Grant[];
  readonly keyMetadata?: KeyMetadata;
  /** Members of the file that mean nothing here. */
  readonly notUnderstood: readonly string[];
}

export interface IdentityDocument {
  readonly policy: Policy;
  readonly document: object;
}

/** As far as they are known. */
export interface KeyMetadata {
  readonly arn?: string;
  readonly origin?: string;
  readonly multiRegion?: boolean;
  readonly multiRegionKeyType?: string;
  readonly keyUsage?: string;
  readonly keySpec?: string;
  readonly keyState?: string;
  readonly customKeyStoreId?: string;
  readonly keyRotationEnabled?: boolean;
  readonly aliases?: readonly string[];
}

export const CONTEXT_MAX_BYTES = 16 * 1024 * 1024;

/** Throws ReviewError REVIEW_CONTEXT. */
export function parseSupplied(bytes: Uint8Array): Supplied {
  try {
    return readSupplied(
      object(parseStrictJson(bytes, { maxBytes: CONTEXT_MAX_BYTES, maxDepth: 32 }).value, 'the context file'),
    );
  } catch (cause) {
    if (codeOf(cause) === undefined || cause instanceof ReviewError) throw cause;
    throw new ReviewError('REVIEW_CONTEXT', (cause as Error).message, cause);
  }
}

function readSupplied(file: JsonObject): Supplied {
  const { iamPolicies, grants, keyMetadata, ...others } = file;
  const iam = iamPolicies === undefined ? undefined : Object.entries(object(iamPolicies, 'iamPolicies'));
  const trust = iam?.filter(([name]) => name.startsWith('trust:')) ?? [];
  return {
    ...(iam === undefined
      ? {}
      : {
          iamPolicies: new Map(
            iam
              .filter(([name]) => !name.startsWith('trust:'))
              .map(([name, value]) => [name, list(value).map((one) => identityDocument(one, name))]),
          ),
        }),
    ...(trust.length === 0
      ? {}
      : { trustPolicies: new Map(trust.map(([name, value]) => [name.slice(6), trustPolicy(value, name)])) }),
    ...(grants === undefined ? {} : { grants: grantList(grants) }),
    ...(keyMetadata === undefined ? {} : { keyMetadata: metadata(object(keyMetadata, 'keyMetadata')) }),
    notUnderstood: Object.keys(others),
  };
}

function identityDocument(value: JsonValue, name: string): IdentityDocument {
  const document = object(value, `iamPolicies.${name}`);
  try {
    return { document, policy: parsePolicy(Buffer.from(JSON.stringify(document)), 'identity') };
  } catch (cause) {
    throw refused(`iamPolicies.${name}: ${(cause as Error).message}`, cause);
  }
}

/** Has principals, as a key policy has; that it names no Resource is as it should be. */
function trustPolicy(value: JsonValue, name: string): Policy {
  const [only, ...more] = list(value);
  if (only === undefined || more.length > 0) throw refused(`iamPolicies.${name}: expected one trust policy`);
  try {
    return parsePolicy(Buffer.from(JSON.stringify(only)), 'key');
  } catch (cause) {
    throw refused(`iamPolicies.${name}: ${(cause as Error).message}`, cause);
  }
}

/** A list that was cut off proves nothing about the grants that are missing from it. */
function grantList(value: JsonValue): Grant[] {
  if (Array.isArray(value)) return value.map(parseGrant);
  if (typeof value !== 'object') throw refused('grants: expected a list, as ListGrants returns it');
  const { Grants: entries, Truncated: truncated } = object(value, 'grants');
  if (truncated === true) throw refused('grants: the list is truncated; supply all pages of ListGrants');
  if (!Array.isArray(entries)) throw refused('grants: expected a list, as ListGrants returns it');
  return entries.map(parseGrant);
}

function metadata(value: JsonObject): KeyMetadata {
  const inner = value.KeyMetadata === undefined ? value : object(value.KeyMetadata, 'KeyMetadata');
  const { multiRegionConfiguration, ...fields } = Object.fromEntries(
    Object.entries(inner).map(([name, field]) => [
      `${name.slice(0, 1).toLowerCase()}${name.slice(1)}`,
      field,
    ]),
  );
  const text = (name: string) => optional(fields, name, 'string') as string | undefined;
  const flag = (name: string) => optional(fields, name, 'boolean') as boolean | undefined;
  const { aliases } = fields;
  if (aliases !== undefined && !(Array.isArray(aliases) && aliases.every((one) => typeof one === 'string'))) {
    throw refused('keyMetadata.aliases: expected a list of names');
  }
  const configuration =
    multiRegionConfiguration === undefined
      ? {}
      : object(multiRegionConfiguration, 'multiRegionConfiguration');
  return defined({
    arn: text('arn'),
    origin: text('origin'),
    multiRegion: flag('multiRegion'),
    multiRegionKeyType: optional(configuration, 'MultiRegionKeyType', 'string') as string | undefined,
    keyUsage: text('keyUsage'),
    keySpec: text('keySpec'),
    keyState: text('keyState'),
    customKeyStoreId: text('customKeyStoreId'),
    keyRotationEnabled: flag('keyRotationEnabled'),
    aliases: aliases as readonly string[] | undefined,
  });
}

function defined<T extends object>(fields: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as never;
}

function optional(fields: JsonObject, name: string, type: 'string' | 'boolean'): JsonValue | undefined {
  const value = fields[name];
  if (value !== undefined && typeof value !== type) throw refused(`keyMetadata.${name}: expected a ${type}`);
  return value;
}

function list(value: JsonValue): readonly JsonValue[] {
  return Array.isArray(value) ? value : [value];
}

function object(value: JsonValue | undefined, what: string): JsonObject {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as JsonObject;
  throw refused(`${what}: expected an object`);
}

function refused(message: string, cause?: unknown): ReviewError {
  return new ReviewError('REVIEW_CONTEXT', message, cause);
}
