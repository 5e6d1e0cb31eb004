/** Embeddings asked of an engine of tensors; the supervisor's side, which believes no number of the engine's. */
import type { Embedder, TensorEngine } from '../engine.ts';
import { broken } from '../messages.ts';
import { writeBytesElements } from '../tensor.ts';
import type { TextVectors } from '../text.ts';
import { EMBEDDING_OUTPUT, TEXT_INPUT, TOKEN_COUNT_OUTPUT } from './names.ts';

/** More than any text of a request has, special ones included. */
const MOST_TOKENS = 1_000_000;

/** Undefined where the model gives no vectors. */
export function embedderOver(engine: TensorEngine): Embedder | undefined {
  const output = engine.metadata.outputs.find(({ name }) => name === EMBEDDING_OUTPUT);
  const vectorSize = output?.shape[1];
  if (output?.datatype !== 'FP32' || vectorSize === undefined || vectorSize < 1) return undefined;
  if (!engine.metadata.outputs.some(({ name }) => name === TOKEN_COUNT_OUTPUT)) return undefined;
  return { vectorSize, embed: (texts, signal) => embed(engine, vectorSize, texts, signal) };
}

async function embed(
  engine: TensorEngine,
  vectorSize: number,
  texts: readonly string[],
  signal: AbortSignal,
): Promise<TextVectors> {
  const utf8 = new TextEncoder();
  const data = writeBytesElements(texts.map((text) => utf8.encode(text)));
  const { outputs } = await engine.infer(
    {
      inputs: [{ name: TEXT_INPUT, datatype: 'BYTES', shape: [texts.length], data }],
      outputs: [EMBEDDING_OUTPUT, TOKEN_COUNT_OUTPUT],
    },
    signal,
  );
  const [embedding, counts] = outputs;
  if (embedding?.shape[0] !== texts.length || counts?.shape[0] !== texts.length) {
    throw broken('vectors for another number of texts');
  }
  const { buffer, byteOffset } = embedding.data;
  const vectors = texts.map((_, index) => {
    return new Float32Array(buffer, byteOffset + index * vectorSize * 4, vectorSize);
  });
  const view = new DataView(counts.data.buffer, counts.data.byteOffset, counts.data.byteLength);
  const tokens = texts.map((_, index) => Number(view.getBigInt64(index * 8, true)));
  if (tokens.some((count) => count < 1 || count > MOST_TOKENS)) throw broken('counts that no text has');
  return { vectors, promptTokens: tokens.reduce((sum, count) => sum + count, 0) };
}
