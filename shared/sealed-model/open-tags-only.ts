/**
 * Opening by the tags alone: faster, and weaker against someone who knows the data key, because GCM is no
 * hash (docs/sealed-model.md section 7.3). For the benchmark and for owners who read their own seals; the image
 * does not hold this file.
 */
import { type OpenOptions, type OpenTarget, openPayload } from './opening.ts';
import type { PayloadSource } from './source.ts';
import type { UnlockedHead } from './unlock.ts';

export async function openTagsOnly(
  head: UnlockedHead,
  source: PayloadSource,
  target: OpenTarget,
  options: OpenOptions = {},
): Promise<void> {
  await openPayload(head, source, target, { ...options, checkDigests: false });
}
