/** Where the parent gets the files of sealed models from: a folder, S3, or an HTTPS registry. */
import { ParentError, type ParentErrorCode } from '../errors.ts';
import type { ByteRange } from '../routes/range.ts';

export const MODEL_FILES = ['payload', 'head', 'key.json', 'manifest.json'] as const;
export type ModelFile = (typeof MODEL_FILES)[number];

export interface ModelStore {
  /**
   * Looks for `<model>.sealed/<file>`; undefined if there is no such file. `model` is a name as a deployment
   * spells it. The signal ends whatever runs when nobody waits for it any more.
   * Throws ModelStoreError when the store cannot say.
   */
  open(model: string, file: ModelFile, signal: AbortSignal): Promise<StoredFile | undefined>;
  /** Takes no new work and lets what is being read finish. */
  close(): void;
}

export interface StoredFile extends AsyncDisposable {
  readonly sizeBytes: number;
  /**
   * Resolves once the store has promised these bytes of this very file, so that a caller may still refuse. What
   * comes then is exactly the range, as fast as it is taken, or ends in an error.
   */
  read(range: ByteRange): Promise<AsyncIterable<Uint8Array>>;
}

export type ModelStoreErrorCode = Extract<ParentErrorCode, `PARENT_MODELS_${string}`>;

/** A store that gives no proper answer. `reason` is one of few fixed words, fit for a counter's name and a log. */
export class ModelStoreError extends ParentError {
  readonly reason: string;

  constructor(code: ModelStoreErrorCode, reason: string, message: string, cause?: unknown) {
    super(code, message, cause);
    this.reason = reason;
  }
}
