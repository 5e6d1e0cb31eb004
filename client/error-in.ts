import { StrongroomError } from '../shared/errors.ts';

const CAUSES_MAX = 16;

/**
 * The error of Strongroom in what another library threw: the error itself, or the first in its line of causes. HTTP
 * clients wrap what a dispatcher or a `fetch` rejects with: undici in a TypeError, `openai` in an APIConnectionError.
 */
export function strongroomErrorIn(error: unknown): StrongroomError | undefined {
  let found = error;
  for (let depth = 0; depth < CAUSES_MAX; depth++) {
    if (found instanceof StrongroomError) return found;
    if (!(found instanceof Error)) return undefined;
    found = found.cause;
  }
  return undefined;
}
