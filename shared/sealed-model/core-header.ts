/**
 * The core header: who the model is and where its files lie (docs/sealed-model.md section 3). Canonical JSON,
 * final before the first byte is sealed, and the keys are derived from its bytes; so it holds no digests.
 */
import { parseStrictJson } from '../json.ts';
import { canonicalJson } from './canonical-json.ts';
import { SealedModelError } from './errors.ts';
import { type ChunkSizes, CORE_MAX_BYTES, FILES_MAX, fileAlignmentBytes, SALT_BYTES } from './format.ts';
import { faultOfIdentity, faultOfPaths, type ModelIdentity } from './identity.ts';
import { decodeBase64, isRecord } from './json-shapes.ts';

export interface SealedFile {
  readonly path: string;
  /** Where the file begins in the payload. */
  readonly offset: number;
  readonly sizeBytes: number;
}

export interface CoreHeader {
  readonly identity: ModelIdentity;
  readonly files: readonly SealedFile[];
  readonly salt: Uint8Array;
}

export function encodeCoreHeader({ identity, files, salt }: CoreHeader): Uint8Array {
  return new TextEncoder().encode(
    canonicalJson({
      files: files.map(({ path, offset, sizeBytes }) => ({ offset, path, size: sizeBytes })),
      format: identity.format,
      name: identity.name,
      salt: Buffer.from(salt).toString('base64'),
      version: identity.version,
      versionLabel: identity.versionLabel,
    }),
  );
}

export function decodeCoreHeader(bytes: Uint8Array, sizes: ChunkSizes, payloadSizeBytes: number): CoreHeader {
  const core = readShape(bytes);
  const fault =
    faultOfIdentity(core.identity) ??
    faultOfPaths(core.files.map((file) => file.path)) ??
    faultOfLayout(core.files, sizes, payloadSizeBytes);
  if (fault !== undefined) throw malformed(fault);
  // One model, one spelling: otherwise two heads with different content ids could say the same.
  if (Buffer.compare(encodeCoreHeader(core), bytes) !== 0) throw malformed('it is not canonical JSON');
  return core;
}

function readShape(bytes: Uint8Array): CoreHeader {
  let value: unknown;
  try {
    value = parseStrictJson(bytes, { maxBytes: CORE_MAX_BYTES, maxDepth: 4 }).value;
  } catch (cause) {
    throw malformed('it is not strict JSON', cause);
  }
  if (!isRecord(value, ['files', 'format', 'name', 'salt', 'version'], ['versionLabel'])) {
    throw malformed('it does not have exactly the members of a core header');
  }
  const { files, format, name, salt, version, versionLabel } = value;
  const saltBytes = typeof salt === 'string' ? decodeBase64(salt) : undefined;
  if (
    typeof name !== 'string' ||
    typeof format !== 'string' ||
    typeof version !== 'number' ||
    (versionLabel !== undefined && typeof versionLabel !== 'string') ||
    saltBytes?.length !== SALT_BYTES
  ) {
    throw malformed('name, version, format or salt has the wrong type or length');
  }
  if (!Array.isArray(files) || files.length === 0 || files.length > FILES_MAX) {
    throw malformed(`a model has 1 to ${FILES_MAX} files`);
  }
  const identity = { name, version, format, ...(versionLabel === undefined ? {} : { versionLabel }) };
  return { identity, files: files.map(readFile), salt: saltBytes };
}

function readFile(value: unknown): SealedFile {
  if (!isRecord(value, ['offset', 'path', 'size'])) throw malformed('a file is not {offset, path, size}');
  const { offset, path, size } = value;
  if (typeof path !== 'string' || !isSize(offset) || !isSize(size)) {
    throw malformed('a file has an offset, path or size of the wrong type');
  }
  return { path, offset, sizeBytes: size };
}

function isSize(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

/** Where the files of these sizes must begin, and how long the payload must be: there is one layout. */
export function layOutFiles(
  files: readonly { readonly path: string; readonly sizeBytes: number }[],
  sizes: ChunkSizes,
): { files: SealedFile[]; payloadSizeBytes: number } {
  const alignment = fileAlignmentBytes(sizes);
  let end = 0;
  const placed = files.map(({ path, sizeBytes }) => {
    const offset = Math.ceil(end / alignment) * alignment;
    end = offset + sizeBytes;
    return { path, offset, sizeBytes };
  });
  return { files: placed, payloadSizeBytes: end };
}

function faultOfLayout(
  files: readonly SealedFile[],
  sizes: ChunkSizes,
  payloadSizeBytes: number,
): string | undefined {
  const layout = layOutFiles(files, sizes);
  const moved = layout.files.find((file, at) => file.offset !== files[at]?.offset);
  if (moved !== undefined) return `${JSON.stringify(moved.path)} must begin at ${moved.offset}`;
  if (layout.payloadSizeBytes !== payloadSizeBytes) {
    return `its files end at ${layout.payloadSizeBytes}, the prelude's payload at ${payloadSizeBytes}`;
  }
  return undefined;
}

function malformed(why: string, cause?: unknown): SealedModelError {
  return new SealedModelError('SEALED_HEAD_MALFORMED', `The core header is refused: ${why}.`, cause);
}
