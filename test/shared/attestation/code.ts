import { codeOf } from '../../../shared/errors.ts';

/** The stable code of what `action` throws, or undefined if it does not throw. */
export function codeFor(action: () => unknown): string | undefined {
  try {
    action();
    return undefined;
  } catch (error) {
    return codeOf(error) ?? `not ours: ${String(error)}`;
  }
}
