/** From the vectors of tokens to one vector for each text. */
import type { Pooling } from './settings.ts';

/**
 * `tokens`: [lengths.length, longest, width] row-major; of each text the first `lengths[i]` tokens count, the rest is
 * padding. Returns [lengths.length, width], each row of Euclidean length 1. Throws TypeError for vectors without a
 * direction.
 */
export function poolVectors(
  tokens: Float32Array,
  lengths: readonly number[],
  width: number,
  pooling: Pooling,
): Float32Array {
  const longest = tokens.length / (lengths.length * width);
  const vectors = new Float32Array(lengths.length * width);
  for (const [index, length] of lengths.entries()) {
    const sum = new Float64Array(width);
    const start = index * longest * width;
    // The mean points where the sum does, and only the direction stays.
    const end = start + (pooling === 'cls' ? 1 : length) * width;
    for (let at = start; at < end; at += width) {
      for (let column = 0; column < width; column += 1) {
        sum[column] = (sum[column] as number) + (tokens[at + column] as number);
      }
    }
    const norm = Math.sqrt(sum.reduce((total, value) => total + value * value, 0));
    if (!Number.isFinite(norm) || norm === 0)
      throw new TypeError(`text ${index}: its vector has no direction`);
    for (let column = 0; column < width; column += 1) {
      vectors[index * width + column] = (sum[column] as number) / norm;
    }
  }
  return vectors;
}
