import { StrongroomError } from '../shared/errors.ts';

const CAUSES_MAX = 16;

/**
 * The error of Strongroom in what another library threw: the error itself, or the first in its line of causes. HTTP
 * clients wrap what a dispatcher or a `fetch` rejects with: undici in a TypeError, `openai` in an APIConnectionError. So
 * does every `fetch` where a body is read that breaks off: the standard leaves it no other error than a TypeError
 * (WHATWG Fetch, "HTTP-network fetch").
 */
export function strongroomErrorIn(error: unknown): StrongroomError | undefined {
  let found = error;
  for (let depth = 0; depth < CAUSES_MAX; depth++) {
    if (found instanceof StrongroomError) return found;
    // Not "instanceof Error": in Jest, and in other contexts of node:vm, the errors of Node's own fetch are foreign.
    if (typeof found !== 'object' || found === null) return undefined;
    found = (found as { readonly cause?: unknown }).cause;
  }
  return undefined;
}
