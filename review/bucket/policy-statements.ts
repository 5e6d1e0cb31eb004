/**
 * The statements that a bucket of sealed models has, and how they join a policy that is there already. All are
 * Denies, so they take nothing away that somebody else's statements protect. They are known by their Sids: what has
 * one of these Sids is replaced, every other statement stays as it is and where it is.
 */
import { type JsonObject, type JsonValue, parseStrictJson } from '../../shared/json.ts';
import { parsePolicy } from '../../shared/policy/parse.ts';

export interface StatementsWish {
  readonly bucket: string;
  /** ARN of the KMS key that uploads must name, if they name one. */
  readonly kmsKey: string;
  readonly tls: '1.2' | '1.3';
}

const SSE = 's3:x-amz-server-side-encryption';

export function ownStatements({ bucket, kmsKey, tls }: StatementsWish): JsonObject[] {
  const arn = `arn:aws:s3:::${bucket}`;
  const deny = (Sid: string, Action: string, Resource: JsonValue, Condition: JsonObject): JsonObject => ({
    Sid,
    Effect: 'Deny',
    Principal: '*',
    Action,
    Resource,
    Condition,
  });
  const everything = [arn, `${arn}/*`];
  // Without the guard, uploads that leave encryption to the bucket would be denied too.
  const guard = { Null: { [SSE]: 'false' } };
  return [
    deny('StrongroomTlsOnly', 's3:*', everything, { Bool: { 'aws:SecureTransport': 'false' } }),
    deny('StrongroomTlsVersion', 's3:*', everything, { NumericLessThan: { 's3:TlsVersion': tls } }),
    deny('StrongroomUploadEncryption', 's3:PutObject', `${arn}/*`, {
      ...guard,
      StringNotEquals: { [SSE]: 'aws:kms' },
    }),
    deny('StrongroomUploadKey', 's3:PutObject', `${arn}/*`, {
      ...guard,
      StringNotEquals: { [`${SSE}-aws-kms-key-id`]: kmsKey },
    }),
    deny('StrongroomNoCustomerKeys', 's3:PutObject', `${arn}/*`, {
      Null: { [`${SSE}-customer-algorithm`]: 'false' },
    }),
  ];
}

export interface PolicyMerge {
  /** The whole policy to put, or undefined if the one that is there has these statements already. */
  readonly policy: string | undefined;
  readonly added: readonly string[];
  readonly replaced: readonly string[];
  /** Statements of others, which stay. */
  readonly kept: number;
}

/** Throws PolicyError if the policy that is there cannot be understood without doubt. */
export function mergePolicy(existing: string | undefined, wish: StatementsWish): PolicyMerge {
  const wanted = new Map(ownStatements(wish).map((statement) => [String(statement.Sid), statement]));
  const document = existing === undefined ? { Version: '2012-10-17' } : readPolicy(existing);
  const { Statement: list } = document as JsonObject;
  const statements = (Array.isArray(list) ? list : list === undefined ? [] : [list]) as readonly JsonObject[];

  const replaced: string[] = [];
  const present = new Set<string>();
  const merged: JsonObject[] = [];
  for (const statement of statements) {
    const sid = typeof statement.Sid === 'string' ? statement.Sid : '';
    const own = wanted.get(sid);
    if (own === undefined) merged.push(statement);
    else if (!present.has(sid)) {
      present.add(sid);
      if (!sameStatement(statement, own)) replaced.push(sid);
      merged.push(own);
    } else replaced.push(sid);
  }
  const added = [...wanted.keys()].filter((sid) => !present.has(sid));
  for (const sid of added) merged.push(wanted.get(sid) as JsonObject);
  const unchanged = added.length === 0 && replaced.length === 0;
  return {
    policy: unchanged ? undefined : JSON.stringify({ ...document, Statement: merged }),
    added,
    replaced: [...new Set(replaced)],
    kept: merged.length - wanted.size,
  };
}

function readPolicy(text: string): JsonObject {
  const bytes = Buffer.from(text);
  parsePolicy(bytes, 'bucket');
  return parseStrictJson(bytes, { maxBytes: bytes.length, maxDepth: 16 }).value as JsonObject;
}

/** S3 may return members in another order, and a list of one as the one. */
function sameStatement(a: JsonObject, b: JsonObject): boolean {
  return canonical(a) === canonical(b);
}

function canonical(value: JsonValue): string {
  if (Array.isArray(value)) {
    const entries = value.map(canonical);
    return entries.length === 1 ? (entries[0] ?? '') : `[${entries.toSorted().join()}]`;
  }
  if (typeof value !== 'object' || value === null) return JSON.stringify(String(value));
  const members = Object.entries(value as JsonObject).toSorted(([x], [y]) => (x < y ? -1 : 1));
  // {"AWS": "*"} and "*" mean the same of a bucket.
  if (members.length === 1 && members[0]?.[0] === 'AWS') return canonical(members[0][1] as JsonValue);
  return `{${members.map(([name, member]) => `${JSON.stringify(name)}:${canonical(member as JsonValue)}`).join()}}`;
}
