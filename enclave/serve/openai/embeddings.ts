/** `POST /v1/embeddings` (docs/serving.md section 4.4). */
import type { TextVectors } from '../../engine/text.ts';
import { invalid } from '../errors.ts';
import { requireModel } from './chat-request.ts';
import { Fields } from './fields.ts';

export interface EmbeddingsRequest {
  readonly model: string;
  readonly texts: readonly string[];
  readonly encoding: 'float' | 'base64';
  /** The length that the vectors must have, if the caller says one. */
  readonly dimensions: number | undefined;
}

const TEXTS_MAX = 256;

/** Throws ApiError API_INVALID that names the member. */
export function parseEmbeddingsRequest(body: Uint8Array): EmbeddingsRequest {
  const fields = Fields.ofBody(body);
  const model = requireModel(fields);
  const input = fields.take('input');
  const texts = Array.isArray(input) ? input : [input];
  if (texts.length === 0 || texts.length > TEXTS_MAX || !texts.every((text) => typeof text === 'string')) {
    throw invalid('input', `expected a string, or a list of 1 to ${TEXTS_MAX}`);
  }
  const encoding = fields.text('encoding_format') ?? 'float';
  if (encoding !== 'float' && encoding !== 'base64') {
    throw invalid('encoding_format', 'expected "float" or "base64"');
  }
  const dimensions = fields.integer('dimensions', 1, Number.MAX_SAFE_INTEGER);
  fields.requireAllRead();
  return { model, texts, encoding, dimensions };
}

export function encodeEmbeddings({ model, encoding }: EmbeddingsRequest, found: TextVectors): object {
  return {
    object: 'list',
    data: found.vectors.map((vector, index) => ({
      object: 'embedding',
      index,
      embedding: encoding === 'base64' ? base64Of(vector) : [...vector],
    })),
    model,
    usage: { prompt_tokens: found.promptTokens, total_tokens: found.promptTokens },
  };
}

/** Little-endian, as every machine that this runs on has them. */
function base64Of({ buffer, byteOffset, byteLength }: Float32Array): string {
  return Buffer.from(buffer, byteOffset, byteLength).toString('base64');
}
