/**
 * The head of a sealed model, taken apart (docs/sealed-model.md section 2). This file answers "is it well
 * formed?" and nothing else: until `unlockHead` has checked it against the data key, every field is a claim.
 *
 *   prelude 64 | core header | commitment 32 | MAC 32 | tag table 16 x chunks | digest table 32 x segments
 */
import { createHash } from 'node:crypto';
import { decodeCoreHeader, type SealedFile } from './core-header.ts';
import { SealedModelError } from './errors.ts';
import {
  COMMITMENT_BYTES,
  DIGEST_BYTES,
  type Geometry,
  geometryOf,
  HEAD_MAX_BYTES,
  MAC_BYTES,
  PRELUDE_BYTES,
  TAG_BYTES,
} from './format.ts';
import type { ModelIdentity } from './identity.ts';
import { decodePrelude } from './prelude.ts';

export { HEAD_MAX_BYTES };

export interface Head {
  readonly identity: ModelIdentity;
  readonly files: readonly SealedFile[];
  readonly payloadSizeBytes: number;
  /** SHA-256 of the whole head: the one value to pin, sign, log and attest. */
  readonly contentId: Uint8Array;
  /** ctx: SHA-256 of prelude and core header. Every key, nonce and KMS wrap of this model hangs on it. */
  readonly context: Uint8Array;
  readonly geometry: Geometry;
  readonly parts: HeadParts;
}

/** The bytes of a head, cut but not judged. Views on a copy that the parser made. */
export interface HeadParts {
  readonly preludeAndCore: Uint8Array;
  readonly salt: Uint8Array;
  readonly commitment: Uint8Array;
  readonly mac: Uint8Array;
  readonly tags: Uint8Array;
  readonly digests: Uint8Array;
}

/** Throws SealedModelError: SEALED_HEAD_MALFORMED, SEALED_VERSION_UNKNOWN. */
export function parseHead(received: Uint8Array): Head {
  if (received.length > HEAD_MAX_BYTES) {
    throw malformed(`a head has at most ${HEAD_MAX_BYTES} bytes, this one ${received.length}`);
  }
  const bytes = new Uint8Array(received); // a copy: what was hashed is what is used, whatever the caller does
  const prelude = decodePrelude(bytes);
  const geometry = geometryOf(prelude.sizes, prelude.payloadSizeBytes);
  const coreEnd = PRELUDE_BYTES + prelude.coreBytes;
  const macEnd = coreEnd + COMMITMENT_BYTES + MAC_BYTES;
  const tagsEnd = macEnd + geometry.chunkCount * TAG_BYTES;
  const end = tagsEnd + geometry.segmentCount * DIGEST_BYTES;
  if (bytes.length !== end) throw malformed(`its sizes make ${end} bytes, it has ${bytes.length}`);

  const core = decodeCoreHeader(
    bytes.subarray(PRELUDE_BYTES, coreEnd),
    prelude.sizes,
    prelude.payloadSizeBytes,
  );
  const preludeAndCore = bytes.subarray(0, coreEnd);
  return {
    identity: core.identity,
    files: core.files,
    payloadSizeBytes: prelude.payloadSizeBytes,
    contentId: sha256(bytes),
    context: contextOf(preludeAndCore),
    geometry,
    parts: {
      preludeAndCore,
      salt: core.salt,
      commitment: bytes.subarray(coreEnd, coreEnd + COMMITMENT_BYTES),
      mac: bytes.subarray(coreEnd + COMMITMENT_BYTES, macEnd),
      tags: bytes.subarray(macEnd, tagsEnd),
      digests: bytes.subarray(tagsEnd, end),
    },
  };
}

export function contextOf(preludeAndCore: Uint8Array): Uint8Array {
  return sha256(preludeAndCore);
}

function sha256(bytes: Uint8Array): Uint8Array {
  return new Uint8Array(createHash('sha256').update(bytes).digest());
}

/**
 * The KMS encryption context under which the data key is wrapped (docs/sealed-model.md section 8.1). Computed
 * from the head that is being loaded and never taken from key.json, so a swapped wrap fails inside KMS.
 */
export function encryptionContextOf({
  identity,
  context,
}: Pick<Head, 'identity' | 'context'>): Record<string, string> {
  return {
    'strongroom-model': identity.name,
    'strongroom-version': String(identity.version),
    'strongroom-context': Buffer.from(context).toString('base64'),
    'strongroom-purpose': 'model-data-key',
  };
}

function malformed(why: string): SealedModelError {
  return new SealedModelError('SEALED_HEAD_MALFORMED', `The head is refused: ${why}.`);
}
