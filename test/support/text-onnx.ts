/** The small ONNX models of text as files, and what they answer, computed without engine or tokenizer. */
import {
  labelWeights,
  TEXT_LABELS,
  TEXT_WIDTH,
  tinyTokenizer,
  tinyTokenizerConfig,
  tokenId,
  tokenVector,
} from '../../scripts/model/tiny-text.ts';

export function tokenizerFiles(): Record<string, Uint8Array> {
  return { 'tokenizer.json': json(tinyTokenizer()), 'tokenizer_config.json': json(tinyTokenizerConfig()) };
}

export function json(value: unknown): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(value));
}

/** Mean of the vectors of `[CLS]`, the given tokens and `[SEP]`. */
function meanOf(tokens: readonly string[]): number[] {
  return meanOfIds(['[CLS]', ...tokens, '[SEP]'].map(tokenId));
}

function meanOfIds(ids: readonly number[]): number[] {
  const vectors = ids.map(tokenVector);
  return Array.from({ length: TEXT_WIDTH }, (_, column) => {
    return vectors.reduce((sum, vector) => sum + (vector[column] ?? Number.NaN), 0) / vectors.length;
  });
}

export function unit(vector: readonly number[]): number[] {
  const norm = Math.hypot(...vector);
  return vector.map((value) => value / norm);
}

export function expectedEmbedding(tokens: readonly string[]): number[] {
  return unit(meanOf(tokens));
}

/** Of all ids that the model is given, those around the text included. */
export function expectedEmbeddingOfIds(ids: readonly number[]): number[] {
  return unit(meanOfIds(ids));
}

export function expectedLogits(tokens: readonly string[]): number[] {
  const weights = labelWeights();
  const mean = meanOf(tokens);
  return Array.from({ length: TEXT_LABELS }, (_, label) => {
    return mean.reduce(
      (sum, value, row) => sum + value * (weights[row * TEXT_LABELS + label] ?? Number.NaN),
      0,
    );
  });
}
