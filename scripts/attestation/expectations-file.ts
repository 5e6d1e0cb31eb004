/**
 * What a reviewer expects of one document: the expectations file of clients (docs/evidence.md section 6) with what only a
 * whole document can be asked (docs/attestation.md section 12).
 */
import { dirname, resolve } from 'node:path';
import { parseExpectations } from '../../client/expectations-file.ts';
import type { DocumentExpectations } from '../../review/attestation/compare.ts';
import { type JsonValue, parseStrictJson } from '../../shared/json.ts';
import { CommandError } from '../errors.ts';
import { readSmallFile } from '../input-file.ts';

const FILE_MAX_BYTES = 64 * 1024;

export interface ExpectationsFile {
  readonly expected: DocumentExpectations;
  /** The models that clients ask for by name: a document has a digest of them only. */
  readonly namesModels: boolean;
  readonly simulationRootPath: string | undefined;
}

/** Throws ClientError CLIENT_EXPECTATIONS for what clients refuse too, CommandError EXPECTATIONS_UNUSABLE for the rest. */
export async function readDocumentExpectations(path: string): Promise<ExpectationsFile> {
  const bytes = await readSmallFile(path, FILE_MAX_BYTES);
  const { nonce, publicKeySha256, userDataSha256, maxAgeSeconds, ...others } = members(bytes);
  const anyAge = maxAgeSeconds === 'any';
  const forClients = { ...others, ...(maxAgeSeconds === undefined || anyAge ? {} : { maxAgeSeconds }) };
  const parsed = parseExpectations(Buffer.from(JSON.stringify(forClients)));
  const { simulationRootPath } = parsed;
  return {
    expected: {
      pcrs: parsed.pcrs,
      maxAgeMs: anyAge ? 'any' : (parsed.maxAgeMs as number),
      ...(nonce === undefined ? {} : { nonce: nonceOf(nonce) }),
      ...(publicKeySha256 === undefined
        ? {}
        : { publicKeySha256: sha256Of(publicKeySha256, 'publicKeySha256') }),
      ...(userDataSha256 === undefined ? {} : { userDataSha256: sha256Of(userDataSha256, 'userDataSha256') }),
    },
    namesModels: parsed.models !== undefined,
    simulationRootPath:
      simulationRootPath === undefined ? undefined : resolve(dirname(path), simulationRootPath),
  };
}

/** The strict parser first, so that no member can be given twice to two readers. */
function members(bytes: Uint8Array): { readonly [name: string]: JsonValue } {
  let value: JsonValue;
  try {
    value = parseStrictJson(bytes, { maxBytes: FILE_MAX_BYTES, maxDepth: 6 }).value;
  } catch (cause) {
    throw unusable(`the file is not strict JSON: ${cause instanceof Error ? cause.message : ''}`, cause);
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    return value as { readonly [name: string]: JsonValue };
  }
  throw unusable('the file is not a JSON object');
}

function nonceOf(value: JsonValue): Uint8Array {
  if (typeof value === 'string' && /^[A-Za-z0-9_-]{1,1366}$/.test(value)) {
    const bytes = Buffer.from(value, 'base64url');
    if (bytes.length > 0 && bytes.toString('base64url') === value) return bytes;
  }
  throw unusable('nonce: expected base64url without padding');
}

function sha256Of(value: JsonValue, at: string): string {
  if (typeof value === 'string' && /^[0-9a-f]{64}$/.test(value)) return value;
  throw unusable(`${at}: expected 64 lower-case hex digits`);
}

function unusable(found: string, cause?: unknown): CommandError {
  return new CommandError('EXPECTATIONS_UNUSABLE', `The expectations cannot be used: ${found}.`, cause);
}
