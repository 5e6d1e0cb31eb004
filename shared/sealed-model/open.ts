/**
 * Opening a sealed model, strictly: every chunk by its tag and every segment by the digest table that the
 * content id covers. This is the function that the enclave's boot calls; there is no option for less.
 */

import { type OpenOptions, type OpenTarget, openPayload } from './opening.ts';
import type { PayloadSource } from './source.ts';
import type { UnlockedHead } from './unlock.ts';

export type { OpenOptions, OpenTarget } from './opening.ts';

/**
 * Resolves when the whole model stands in the target and is authenticated. Until then the target belongs to
 * this call and nothing may read it; if it rejects, the target has been wiped.
 *
 * Throws SealedModelError: SEALED_HEAD_LOCKED, SEALED_PAYLOAD_SIZE, SEALED_TARGET_UNUSABLE,
 * SEALED_CHUNK_REFUSED, SEALED_SEGMENT_REFUSED, SEALED_GAP_NOT_ZERO, SEALED_SOURCE_FAILED, SEALED_ABORTED.
 */
export async function openSealedModel(
  head: UnlockedHead,
  source: PayloadSource,
  target: OpenTarget,
  options: OpenOptions = {},
): Promise<void> {
  await openPayload(head, source, target, { ...options, checkDigests: true });
}
