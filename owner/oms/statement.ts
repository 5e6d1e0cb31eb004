/**
 * What an OpenSSF Model Signing bundle states (OMS specification 1.0, sections 5 and 6): an in-toto Statement v1 with
 * one digest a file (method "files") or a piece of a file (method "shards", names PATH:START:END). Members that the
 * specification does not name are ignored, as it says; those that it names are read strictly.
 */
import { createHash } from 'node:crypto';
import { parseStrictJson } from '../../shared/json.ts';
import { OmsError } from './errors.ts';

export const STATEMENT_TYPE = 'https://in-toto.io/Statement/v1';
export const PREDICATE_TYPE = 'https://model_signing/signature/v1.0';
/** 1 TiB in segments of 64 MiB takes some 4 MiB. */
export const STATEMENT_MAX_BYTES = 32 << 20;

export interface OmsResource {
  /** Relative path with `/`; for shards with `:START:END` after it. */
  readonly name: string;
  /** Lower-case hex. */
  readonly sha256: string;
}

export type OmsSerialization =
  | { readonly method: 'files' }
  | { readonly method: 'shards'; readonly shardBytes: number };

export interface OmsManifest {
  readonly serialization: OmsSerialization;
  /** Paths that the signer left out, files or folders. */
  readonly ignorePaths: readonly string[];
  readonly resources: readonly OmsResource[];
}

/** `name` is for people: the model's. Resources are put into the specification's order, by code points of their names. */
export function encodeOmsStatement(name: string, manifest: OmsManifest): Uint8Array {
  const { serialization, ignorePaths } = manifest;
  const resources = manifest.resources.toSorted((a, b) =>
    Buffer.compare(Buffer.from(a.name), Buffer.from(b.name)),
  );
  const text = JSON.stringify({
    _type: STATEMENT_TYPE,
    predicateType: PREDICATE_TYPE,
    subject: [{ name, digest: { sha256: rootDigestOf(resources) } }],
    predicate: {
      resources: resources.map((resource) => ({
        name: resource.name,
        algorithm: 'sha256',
        digest: resource.sha256,
      })),
      serialization: {
        method: serialization.method,
        hash_type: 'sha256',
        ...(serialization.method === 'shards' ? { shard_size: serialization.shardBytes } : {}),
        allow_symlinks: false,
        ignore_paths: ignorePaths,
      },
    },
  });
  return new TextEncoder().encode(text);
}

/** Throws OMS_MALFORMED, OMS_UNSUPPORTED. */
export function parseOmsStatement(payload: Uint8Array): OmsManifest {
  const statement = record(parseJson(payload, 'statement'), 'the statement');
  if (statement._type !== STATEMENT_TYPE) throw malformed(`the statement must be a ${STATEMENT_TYPE}`);
  if (statement.predicateType !== PREDICATE_TYPE) {
    throw malformed(
      `its predicate must be ${PREDICATE_TYPE}, not ${JSON.stringify(statement.predicateType)}`,
    );
  }
  const predicate = record(statement.predicate, 'the predicate');
  const { serialization, ignorePaths } = readSerialization(record(predicate.serialization, 'serialization'));
  const { resources } = predicate;
  if (!Array.isArray(resources) || resources.length === 0) throw malformed('it states no resources');
  const read = resources.map((entry: unknown) => readResource(record(entry, 'a resource')));
  if (new Set(read.map(({ name }) => name)).size !== read.length)
    throw malformed('it names a resource twice');
  if (subjectDigestOf(statement.subject) !== rootDigestOf(read)) {
    throw malformed('the digest of its subject is not that of its resources');
  }
  return { serialization, ignorePaths, resources: read };
}

/** SHA-256 over the raw digests in the order in which they stand (section 6.5.1). */
function rootDigestOf(resources: readonly OmsResource[]): string {
  const hash = createHash('sha256');
  for (const { sha256 } of resources) hash.update(sha256, 'hex');
  return hash.digest('hex');
}

function readSerialization(
  value: Record<string, unknown>,
): Pick<OmsManifest, 'serialization' | 'ignorePaths'> {
  const { method, hash_type: hashType, shard_size: shardBytes, allow_symlinks: allowSymlinks } = value;
  if (hashType !== 'sha256') throw unsupported(`its hash_type is ${JSON.stringify(hashType)}, not "sha256"`);
  if (allowSymlinks !== false) throw unsupported('it was signed with symbolic links followed');
  const ignorePaths = value.ignore_paths ?? [];
  if (!Array.isArray(ignorePaths) || !ignorePaths.every((path) => typeof path === 'string')) {
    throw malformed('ignore_paths must be a list of paths');
  }
  if (method === 'files') return { serialization: { method }, ignorePaths };
  if (method !== 'shards')
    throw unsupported(`its method is ${JSON.stringify(method)}, not "files" or "shards"`);
  if (typeof shardBytes !== 'number' || !Number.isSafeInteger(shardBytes) || shardBytes < 1) {
    throw malformed('shard_size must be a positive integer');
  }
  return { serialization: { method, shardBytes }, ignorePaths };
}

function readResource({ name, algorithm, digest }: Record<string, unknown>): OmsResource {
  if (algorithm !== 'sha256') throw unsupported(`a resource has a digest by ${JSON.stringify(algorithm)}`);
  if (typeof name !== 'string' || typeof digest !== 'string' || !/^[0-9a-f]{64}$/.test(digest)) {
    throw malformed('a resource has no name, or no SHA-256 in 64 lower-case hexadecimal digits');
  }
  return { name, sha256: digest };
}

function subjectDigestOf(subject: unknown): unknown {
  if (!Array.isArray(subject) || subject.length !== 1) throw malformed('it must have one subject');
  return record(record(subject[0], 'the subject').digest, 'the digest of the subject').sha256;
}

export function parseJson(bytes: Uint8Array, what: string): unknown {
  try {
    return parseStrictJson(bytes, { maxBytes: 2 * STATEMENT_MAX_BYTES, maxDepth: 12 }).value;
  } catch (cause) {
    throw malformed(`the ${what} is not strict JSON: ${cause instanceof Error ? cause.message : ''}`, cause);
  }
}

export function record(value: unknown, what: string): Record<string, unknown> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value))
    return value as Record<string, unknown>;
  throw malformed(`${what} must be an object`);
}

export function malformed(why: string, cause?: unknown): OmsError {
  return new OmsError('OMS_MALFORMED', `The Model Signing bundle is refused: ${why}.`, cause);
}

export function unsupported(why: string): OmsError {
  return new OmsError('OMS_UNSUPPORTED', `The Model Signing bundle cannot be judged: ${why}.`);
}
