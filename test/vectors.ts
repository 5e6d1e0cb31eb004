/**
 * Where the test vectors are: `STRONGROOM_VECTORS`, or `shared/vectors` beside the checkout. Tests that need
 * them skip aloud where they are absent; a skip is never a pass.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'vitest';

const candidate =
  process.env.STRONGROOM_VECTORS ?? join(import.meta.dirname, '..', '..', 'shared', 'vectors');

export const vectorsFolder: string | undefined = existsSync(join(candidate, 'README.md'))
  ? candidate
  : undefined;

/** Defines the tests with the vectors' folder, or one skipped test that says why. */
export function describeWithVectors(name: string, define: (folder: string) => void): void {
  const folder = vectorsFolder;
  if (folder === undefined) {
    describe(name, () => it.skip(`needs the test vectors: none at ${candidate}, set STRONGROOM_VECTORS`));
  } else {
    describe(name, () => define(folder));
  }
}
