/** Where a model is fetched from, and how its failures are told from ours. */
import { PublishError } from './errors.ts';
import type { SmallPart } from './local-model.ts';

/** Where a model lies. `open` looks for `<model>.sealed/<file>` and is undefined if there is no such file. */
export interface FetchSource {
  open(model: string, file: SmallPart | 'payload', signal: AbortSignal): Promise<SourceFile | undefined>;
}

export interface SourceFile extends AsyncDisposable {
  readonly sizeBytes: number;
  /** Exactly these bytes, or an error. */
  read(range: { readonly first: number; readonly last: number }): Promise<AsyncIterable<Uint8Array>>;
}

export async function failing<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw failureOf(error, signal);
  }
}

/** Our own errors and those of writing to the disk stay what they are; all others are the source's. */
export function failureOf(error: unknown, signal: AbortSignal): PublishError {
  if (error instanceof PublishError) return error;
  if (signal.aborted) return new PublishError('PUBLISH_STOPPED', 'The command was stopped.', signal.reason);
  if ((error as NodeJS.ErrnoException).syscall === 'write') throw error;
  const { code, message } = error as Error & { code?: unknown };
  const why = typeof code === 'string' ? `${code}: ${message}` : message;
  return new PublishError('FETCH_SOURCE_FAILED', `The source could not be read: ${why}`, error);
}
