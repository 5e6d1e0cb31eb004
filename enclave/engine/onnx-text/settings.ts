/** What the files beside a tokenizer say, in the few words that serving needs (docs/engine.md section 10). */
import { ModelFileError } from '../../../shared/model-files/errors.ts';

export type JsonObject = Readonly<Record<string, unknown>>;
export type TokenizerFiles = ReadonlyMap<string, JsonObject>;

export interface TextSettings {
  readonly tokenizer: JsonObject;
  readonly config: JsonObject;
  /** Of one text, special tokens included. */
  readonly maxTokens: number;
  /** Undefined where no file says one. */
  readonly padId: number | undefined;
  /** Of the files' own words; undefined where 1_Pooling/config.json is not there. */
  readonly pooling: Pooling | undefined;
  /** Elements of a token's vector, where a file says so. */
  readonly width: number | undefined;
}

export type Pooling = 'mean' | 'cls';

/** No model reads more tokens at once; beyond it a number means that there is no maximum (`model_max_length` 1e30). */
const MOST_TOKENS = 1_000_000;
const POOLING_MODE = /^pooling_mode_/;

/** Throws ModelFileError. */
export function readSettings(files: TokenizerFiles): TextSettings {
  const tokenizer = files.get('tokenizer.json');
  if (tokenizer === undefined) throw unsupported('it has no tokenizer.json');
  const config = files.get('tokenizer_config.json') ?? {};
  const model = files.get('config.json') ?? {};
  const pooling = files.get('1_Pooling/config.json');
  return {
    tokenizer,
    config,
    maxTokens: readMaxTokens(tokenizer, config, model),
    padId: idOf(objectOf(tokenizer.padding).pad_id) ?? idOf(model.pad_token_id),
    pooling: pooling === undefined ? undefined : readPooling(pooling),
    width: lengthOf(pooling?.word_embedding_dimension) ?? lengthOf(model.hidden_size),
  };
}

/** The smallest that a file names. The truncation of tokenizer.json is a habit of its maker, and counts only alone. */
function readMaxTokens(tokenizer: JsonObject, config: JsonObject, model: JsonObject): number {
  const named = [config.model_max_length, model.max_position_embeddings].map(lengthOf);
  const lengths = named.filter((length) => length !== undefined);
  const most =
    lengths.length > 0 ? Math.min(...lengths) : lengthOf(objectOf(tokenizer.truncation).max_length);
  if (most !== undefined) return most;
  throw unsupported(
    'nothing says how many tokens it reads: expected model_max_length in tokenizer_config.json or max_position_embeddings in config.json',
  );
}

function readPooling(settings: JsonObject): Pooling {
  const modes = Object.keys(settings).filter((key) => POOLING_MODE.test(key) && settings[key] === true);
  if (modes.length === 1 && modes[0] === 'pooling_mode_mean_tokens') return 'mean';
  if (modes.length === 1 && modes[0] === 'pooling_mode_cls_token') return 'cls';
  throw unsupported(
    '1_Pooling/config.json: expected pooling_mode_mean_tokens or pooling_mode_cls_token, and no other',
  );
}

export function objectOf(value: unknown): JsonObject {
  return typeof value === 'object' && value !== null ? (value as JsonObject) : {};
}

/** Token ids are below 2^31: signed 32 bits are what tokenizers are made with. */
export function idOf(value: unknown): number | undefined {
  return Number.isInteger(value) && (value as number) >= 0 && (value as number) < 2 ** 31
    ? (value as number)
    : undefined;
}

function lengthOf(value: unknown): number | undefined {
  return Number.isInteger(value) && (value as number) > 0 && (value as number) <= MOST_TOKENS
    ? (value as number)
    : undefined;
}

export function unsupported(why: string): ModelFileError {
  return new ModelFileError('MODEL_FILE_UNSUPPORTED', `The model is refused: ${why}.`);
}
