import type { Call } from '../call.ts';
import { KmsException } from '../exception.ts';

/** Everything about the request was in order: DryRun answers with this error in place of the result. */
export function stopDryRun(): never {
  throw new KmsException(
    'DryRunOperationException',
    'The request would have succeeded, but the DryRun option is set.',
    { status: 412 },
  );
}

/** Grants work at once here, so a token has nothing to hasten; one that was never issued is still an error. */
export function requireKnownGrantTokens({ input, world }: Call): void {
  const tokens = input.strings('GrantTokens', { max: 10 }) ?? [];
  if (!tokens.every((token) => world.keys.grantTokenExists(token))) {
    throw new KmsException('InvalidGrantTokenException', 'The grant token is not valid.');
  }
}
