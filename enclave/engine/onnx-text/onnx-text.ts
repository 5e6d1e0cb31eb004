/**
 * An ONNX model of tokens as a model of text: one input `text` in the place of its token inputs, and where it gives a
 * vector for each token, one vector for each text in their place (docs/engine.md section 10).
 */
import { type ModelMetadata, readBytesElements, type Tensor, type TensorMetadata } from '../tensor.ts';
import {
  EMBEDDING_OUTPUT,
  TEXT_INPUT,
  TEXTS_MAX,
  TEXTS_MAX_BYTES,
  TEXTS_MAX_TOKENS,
  TOKEN_COUNT_OUTPUT,
} from './names.ts';
import { poolVectors } from './pooling.ts';
import { type Pooling, readSettings, type TokenizerFiles, unsupported } from './settings.ts';
import { TextTokenizer, type TokenizedText } from './tokenizer.ts';

const TOKEN_INPUTS = ['input_ids', 'attention_mask', 'token_type_ids'];
const REQUIRED_INPUTS = ['input_ids', 'attention_mask'];
/** As exporters name the output that has a vector for each token. */
const TOKEN_VECTORS = ['token_embeddings', 'last_hidden_state'];

interface Pooled {
  /** Name of the model's output. */
  readonly output: string;
  readonly width: number;
  readonly pooling: Pooling;
}

type Infer = (inputs: readonly Tensor[], outputs: readonly string[]) => Promise<Tensor[]>;

export class OnnxText {
  readonly metadata: ModelMetadata;
  readonly #tokenizer: TextTokenizer;
  readonly #tokenInputs: readonly string[];
  readonly #pooled: Pooled | undefined;

  /** `model`: as the ONNX file has it. Throws ModelFileError. */
  constructor(files: TokenizerFiles, model: ModelMetadata) {
    const settings = readSettings(files);
    requireTokenInputs(model.inputs);
    this.#tokenInputs = model.inputs.map(({ name }) => name);
    this.#pooled = pooledOf(model.outputs, settings);
    this.#tokenizer = new TextTokenizer(settings);
    this.metadata = {
      inputs: [{ name: TEXT_INPUT, datatype: 'BYTES', shape: [-1] }],
      outputs:
        this.#pooled === undefined
          ? model.outputs
          : [
              { name: EMBEDDING_OUTPUT, datatype: 'FP32', shape: [-1, this.#pooled.width] },
              { name: TOKEN_COUNT_OUTPUT, datatype: 'INT64', shape: [-1] },
            ],
    };
  }

  /** `infer` runs the model itself. Rejects with TypeError for texts that are refused, or as `infer` does. */
  async infer(inputs: readonly Tensor[], outputs: readonly string[], infer: Infer): Promise<Tensor[]> {
    const texts = this.#tokenize(inputs);
    const tokens = this.#pad(texts);
    if (this.#pooled === undefined) return infer(tokens, outputs);
    const [vectors] = await infer(tokens, [this.#pooled.output]);
    const lengths = texts.map(({ ids }) => ids.length);
    const results = new Map([
      [EMBEDDING_OUTPUT, embeddingOf(vectors, lengths, this.#pooled)],
      [TOKEN_COUNT_OUTPUT, int64(TOKEN_COUNT_OUTPUT, [lengths.length], lengths)],
    ]);
    return outputs.map((name) => {
      const result = results.get(name);
      if (result === undefined) throw new TypeError(`there is no output ${name}`);
      return result;
    });
  }

  #tokenize(inputs: readonly Tensor[]): TokenizedText[] {
    const [input] = inputs;
    if (input === undefined || inputs.length !== 1) throw new TypeError(`expected the input ${TEXT_INPUT}`);
    if (input.data.length > TEXTS_MAX_BYTES) {
      throw new TypeError(`expected at most ${TEXTS_MAX_BYTES} bytes of text in a request`);
    }
    const elements = readBytesElements(input.data);
    if (elements.length === 0 || elements.length > TEXTS_MAX) {
      throw new TypeError(`expected 1 to ${TEXTS_MAX} texts, found ${elements.length}`);
    }
    const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
    return elements.map((element, index) => {
      try {
        return this.#tokenizer.tokenize(utf8.decode(element));
      } catch (error) {
        throw new TypeError(`text ${index}: ${error instanceof Error ? error.message : 'unknown error'}`);
      }
    });
  }

  /** To the length of the longest, at the end, where the mask says that nothing is. */
  #pad(texts: readonly TokenizedText[]): Tensor[] {
    const longest = Math.max(...texts.map(({ ids }) => ids.length));
    if (texts.length > 1 && texts.length * longest > TEXTS_MAX_TOKENS) {
      throw new TypeError(
        `${texts.length} texts of up to ${longest} tokens: expected at most ${TEXTS_MAX_TOKENS} together, filled up to the longest`,
      );
    }
    const rows = (of: (text: TokenizedText, at: number) => number): number[] =>
      texts.flatMap((text) => Array.from({ length: longest }, (_, at) => of(text, at)));
    const values: Readonly<Record<string, () => number[]>> = {
      input_ids: () => rows(({ ids }, at) => ids[at] ?? this.#tokenizer.padId),
      attention_mask: () => rows(({ ids }, at) => (at < ids.length ? 1 : 0)),
      token_type_ids: () => rows(({ types }, at) => types[at] ?? 0),
    };
    return this.#tokenInputs.map((name) => int64(name, [texts.length, longest], values[name]?.() ?? []));
  }
}

function requireTokenInputs(inputs: readonly TensorMetadata[]): void {
  for (const { name, datatype, shape } of inputs) {
    if (!TOKEN_INPUTS.includes(name)) {
      throw unsupported(
        `it has a tokenizer, and an input ${name} that is none of ${TOKEN_INPUTS.join(', ')}`,
      );
    }
    if (datatype !== 'INT64' || shape.length !== 2 || shape.some((size) => size !== -1)) {
      throw unsupported(`input ${name}: expected INT64 [batch, sequence], both of any size`);
    }
  }
  for (const name of REQUIRED_INPUTS) {
    if (!inputs.some((input) => input.name === name)) {
      throw unsupported(`it has a tokenizer, and no input ${name}`);
    }
  }
}

function pooledOf(
  outputs: readonly TensorMetadata[],
  { pooling, width: named }: { readonly pooling: Pooling | undefined; readonly width: number | undefined },
): Pooled | undefined {
  const output = outputs.find(({ name }) => TOKEN_VECTORS.includes(name));
  if (output === undefined) {
    if (pooling === undefined) return undefined;
    throw unsupported(`it has 1_Pooling/config.json, and no output ${TOKEN_VECTORS.join(' or ')}`);
  }
  const [, , own = -1] = output.shape;
  const width = own === -1 ? named : own;
  if (output.datatype !== 'FP32' || output.shape.length !== 3 || width === undefined || width === 0) {
    throw unsupported(`output ${output.name}: expected FP32 [batch, sequence, width] of a known width`);
  }
  return { output: output.name, width, pooling: pooling ?? 'mean' };
}

function embeddingOf(
  tokens: Tensor | undefined,
  lengths: readonly number[],
  { output, width, pooling }: Pooled,
): Tensor {
  const expected = [lengths.length, Math.max(...lengths), width];
  if (tokens === undefined || tokens.datatype !== 'FP32' || tokens.shape.join() !== expected.join()) {
    throw new TypeError(`output ${output}: expected FP32 [${expected}], found [${tokens?.shape}]`);
  }
  const { buffer, byteOffset, byteLength } = tokens.data;
  const vectors = poolVectors(new Float32Array(buffer, byteOffset, byteLength / 4), lengths, width, pooling);
  return {
    name: EMBEDDING_OUTPUT,
    datatype: 'FP32',
    shape: [lengths.length, width],
    data: new Uint8Array(vectors.buffer),
  };
}

function int64(name: string, shape: readonly number[], values: readonly number[]): Tensor {
  const data = new Uint8Array(BigInt64Array.from(values, BigInt).buffer);
  return { name, datatype: 'INT64', shape, data };
}
