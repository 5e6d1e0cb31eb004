/** Small language models for tests, as the enclave hands them over. */
import { encodeRandomLlama, TINY_LLAMA } from '../../scripts/model/random-llama.ts';

/** 0.25 million random parameters: the same bytes each time. */
export function tinyLlama(): Uint8Array {
  return Buffer.concat([...encodeRandomLlama(TINY_LLAMA)]);
}
