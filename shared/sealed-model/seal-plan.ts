/**
 * Everything about a seal that is final before the first byte is sealed: identity, layout, salt, and hence ctx
 * (docs/sealed-model.md section 4). KMS can wrap the data key from here on, before hours of sealing begin.
 */
import { encodeCoreHeader, layOutFiles, type SealedFile } from './core-header.ts';
import { SealedModelError } from './errors.ts';
import {
  type ChunkSizes,
  CORE_MAX_BYTES,
  DIGEST_BYTES,
  EPOCHS_MAX,
  FILES_MAX,
  type Geometry,
  geometryOf,
  HEAD_MAX_BYTES,
  PAYLOAD_MAX_BYTES,
  PRODUCTION_SIZES,
  SALT_BYTES,
  TAG_BYTES,
  validChunkSizes,
} from './format.ts';
import { contextOf } from './head.ts';
import { comparePaths, faultOfIdentity, faultOfPaths, type ModelIdentity } from './identity.ts';
import { encodePrelude } from './prelude-write.ts';

export interface SealPlan {
  readonly identity: ModelIdentity;
  readonly files: readonly SealedFile[];
  readonly geometry: Geometry;
  readonly salt: Uint8Array;
  readonly context: Uint8Array;
  readonly preludeAndCore: Uint8Array;
}

/** `salt`: 32 fresh random bytes for every seal. Throws SealedModelError SEALED_INPUT_INVALID. */
export function planSeal(
  identity: ModelIdentity,
  files: readonly { readonly path: string; readonly sizeBytes: number }[],
  salt: Uint8Array,
  sizes: ChunkSizes = PRODUCTION_SIZES,
): SealPlan {
  const sorted = [...files].sort((a, b) => comparePaths(a.path, b.path));
  if (sorted.length === 0 || sorted.length > FILES_MAX) throw invalid(`a model has 1 to ${FILES_MAX} files`);
  const fault = faultOfIdentity(identity) ?? faultOfPaths(sorted.map((file) => file.path));
  if (fault !== undefined) throw invalid(fault);
  if (salt.length !== SALT_BYTES || !validChunkSizes(sizes)) throw invalid('salt or chunk sizes are wrong');

  const layout = layOutFiles(sorted, sizes);
  const geometry = geometryOf(sizes, layout.payloadSizeBytes);
  const core = encodeCoreHeader({ identity, files: layout.files, salt });
  const tables = geometry.chunkCount * TAG_BYTES + geometry.segmentCount * DIGEST_BYTES;
  if (
    layout.payloadSizeBytes > PAYLOAD_MAX_BYTES ||
    geometry.epochCount > EPOCHS_MAX ||
    core.length > CORE_MAX_BYTES ||
    core.length + tables + 128 > HEAD_MAX_BYTES
  ) {
    throw invalid(`${layout.payloadSizeBytes} bytes in ${files.length} files are more than the format holds`);
  }
  const prelude = encodePrelude({
    sizes,
    coreBytes: core.length,
    payloadSizeBytes: layout.payloadSizeBytes,
  });
  const preludeAndCore = new Uint8Array(prelude.length + core.length);
  preludeAndCore.set(prelude, 0);
  preludeAndCore.set(core, prelude.length);
  return {
    identity,
    files: layout.files,
    geometry,
    salt,
    context: contextOf(preludeAndCore),
    preludeAndCore,
  };
}

function invalid(why: string): SealedModelError {
  return new SealedModelError('SEALED_INPUT_INVALID', `This cannot be sealed: ${why}.`);
}
