import type { IncomingMessage, ServerResponse } from 'node:http';
import { pipeline } from 'node:stream/promises';
import { openBeneath } from '../files.ts';
import { answerStatus } from './answer.ts';
import { parseRange } from './range.ts';

/** `/models/<name>/<file>`: names as a deployment document spells them, and the four files of a sealed model. */
const MODEL_PATH = /^\/models\/([A-Za-z0-9][A-Za-z0-9._-]{0,63})\/(payload|head|key\.json|manifest\.json)$/;
const READ_AHEAD_BYTES = 256 * 1024;

export interface ModelPath {
  readonly name: string;
  readonly file: string;
}

export function parseModelPath(path: string): ModelPath | undefined {
  const parts = MODEL_PATH.exec(path);
  return parts === null ? undefined : { name: String(parts[1]), file: String(parts[2]) };
}

/** Serves `<folder>/<name>.sealed/<file>`, whole or one range of it, as fast as the enclave reads. */
export async function serveModelFile(
  path: ModelPath,
  folder: string,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const file = await openBeneath(folder, [`${path.name}.sealed`, path.file]);
  if (file === undefined) return answerStatus(response, 404);
  const { handle, sizeBytes } = file;
  try {
    const range = parseRange(request.headers.range, sizeBytes);
    if (range === 'unsatisfiable') {
      return answerStatus(response, 416, { 'content-range': `bytes */${sizeBytes}` });
    }
    const { first, last } = range === 'whole' ? { first: 0, last: sizeBytes - 1 } : range;
    response.writeHead(range === 'whole' ? 200 : 206, {
      'content-type': 'application/octet-stream',
      'content-length': last - first + 1,
      'accept-ranges': 'bytes',
      ...(range !== 'whole' && { 'content-range': `bytes ${first}-${last}/${sizeBytes}` }),
    });
    if (last < first) {
      response.end();
      return;
    }
    const bytes = handle.createReadStream({
      start: first,
      end: last,
      highWaterMark: READ_AHEAD_BYTES,
      autoClose: false,
    });
    await pipeline(bytes, response);
  } finally {
    await handle.close();
  }
}
