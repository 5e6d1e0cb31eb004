import type { IncomingMessage, ServerResponse } from 'node:http';
import { pipeline } from 'node:stream/promises';
import {
  MODEL_FILES,
  type ModelFile,
  type ModelStore,
  ModelStoreError,
  type StoredFile,
} from '../models/store.ts';
import type { Counters, Observe } from '../observe.ts';
import { answerStatus } from './answer.ts';
import { parseRange } from './range.ts';

/** `/models/<name>/<file>`: names as a deployment document spells them, and the four files of a sealed model. */
const MODEL_PATH = new RegExp(
  `^/models/([A-Za-z0-9][A-Za-z0-9._-]{0,63})/(${MODEL_FILES.join('|').replaceAll('.', '\\.')})$`,
);

export interface ModelPath {
  readonly name: string;
  readonly file: ModelFile;
}

export function parseModelPath(path: string): ModelPath | undefined {
  const parts = MODEL_PATH.exec(path);
  return parts === null ? undefined : { name: String(parts[1]), file: parts[2] as ModelFile };
}

export interface ServeModelsOptions {
  readonly store: ModelStore;
  readonly counters: Counters;
  readonly observe: Observe;
}

/** Serves one file of a model, whole or one range of it, as fast as the enclave reads. */
export async function serveModelFile(
  path: ModelPath,
  request: IncomingMessage,
  response: ServerResponse,
  { store, counters, observe }: ServeModelsOptions,
): Promise<void> {
  const gone = new AbortController();
  response.once('close', () => gone.abort());
  let failed = false;
  /** A store that fails in the middle of an answer cuts it, which then looks like an enclave that hung up. */
  async function* watched(bytes: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    try {
      yield* bytes;
    } catch (error) {
      failed = !gone.signal.aborted;
      throw error;
    }
  }
  try {
    await using file = await store.open(path.name, path.file, gone.signal);
    if (file === undefined) return answerStatus(response, 404);
    counters.add('models.bytes', await serveRange(file, request, response, watched));
  } catch (error) {
    // What ends because the enclave hung up is no failure.
    if (gone.signal.aborted && !failed) return;
    if (!(error instanceof ModelStoreError)) throw error;
    counters.add(`models.failed.${error.reason}`);
    observe({
      event: 'models-failed',
      model: path.name,
      file: path.file,
      error: error.code,
      reason: error.reason,
    });
    answerStatus(response, error.code === 'PARENT_MODELS_UNAVAILABLE' ? 503 : 502);
  }
}

/** Resolves to how many bytes were given, once they all were. */
async function serveRange(
  file: StoredFile,
  request: IncomingMessage,
  response: ServerResponse,
  watched: (bytes: AsyncIterable<Uint8Array>) => AsyncIterable<Uint8Array>,
): Promise<number> {
  const { sizeBytes } = file;
  const range = parseRange(request.headers.range, sizeBytes);
  if (range === 'unsatisfiable') {
    answerStatus(response, 416, { 'content-range': `bytes */${sizeBytes}` });
    return 0;
  }
  const { first, last } = range === 'whole' ? { first: 0, last: sizeBytes - 1 } : range;
  const bytes = last < first ? undefined : await file.read({ first, last });
  response.writeHead(range === 'whole' ? 200 : 206, {
    'content-type': 'application/octet-stream',
    'content-length': last - first + 1,
    'accept-ranges': 'bytes',
    ...(range !== 'whole' && { 'content-range': `bytes ${first}-${last}/${sizeBytes}` }),
  });
  if (bytes === undefined) response.end();
  else await pipeline(watched(bytes), response);
  return last - first + 1;
}
