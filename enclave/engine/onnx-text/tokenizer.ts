/**
 * From text to token ids. What callers write stays text: the tokenizer's special tokens, such as `[SEP]`, are put
 * around a text here, and none can come out of one (docs/engine.md section 10.3).
 */
import { Tokenizer } from '@huggingface/tokenizers';
import { idOf, type JsonObject, objectOf, type TextSettings, unsupported } from './settings.ts';

export interface TokenizedText {
  readonly ids: readonly number[];
  /** `token_type_ids`, one for each id. */
  readonly types: readonly number[];
}

interface Tokens {
  readonly ids: readonly number[];
  readonly types: readonly number[];
}

/** Stands for the text where the special tokens around it are looked up. */
const TEXT = '\0text';
/** Members of tokenizer_config.json that name a special token. `unk_token` is what unknown text honestly becomes. */
const SPECIAL_MEMBERS = [
  'bos_token',
  'eos_token',
  'sep_token',
  'pad_token',
  'cls_token',
  'mask_token',
] as const;

export class TextTokenizer {
  readonly maxTokens: number;
  readonly padId: number;
  readonly #tokenizer: Tokenizer;
  readonly #before: Tokens;
  readonly #after: Tokens;
  readonly #typeOfText: number;
  readonly #specialIds: ReadonlySet<number>;

  /** Throws ModelFileError for what the library cannot make a tokenizer of. */
  constructor({ tokenizer, config, maxTokens, padId }: TextSettings) {
    const added = readAddedTokens(tokenizer);
    const named = SPECIAL_MEMBERS.map((member) => contentOf(config[member]));
    const special = new Set([
      ...added.flatMap(({ content, special }) => (special ? [content] : [])),
      ...named.filter((content) => content !== undefined),
      ...listOf(config.additional_special_tokens).map(contentOf),
    ]);
    this.#tokenizer = make({
      json: {
        decoder: null,
        post_processor: null,
        pre_tokenizer: null,
        normalizer: null,
        ...tokenizer,
        // Without them the library does not look for their spellings in text.
        added_tokens: added.filter(({ content }) => !special.has(content)).map(({ json }) => json),
      },
      config,
    });
    const ids = new Map(added.map(({ content, id }) => [content, id]));
    const idOfToken = (token: string): number | undefined =>
      ids.get(token) ?? this.#tokenizer.token_to_id(token);
    const frame = frameOf(this.#tokenizer, idOfToken);
    this.#before = frame.before;
    this.#after = frame.after;
    this.#typeOfText = frame.type;
    this.maxTokens = maxTokens;
    this.padId = padId ?? idOf(idOfToken(contentOf(config.pad_token) ?? '')) ?? 0;
    const unknown = this.#tokenizer.model?.unk_token_id;
    const forbidden = [...special].map((content) => (content === undefined ? undefined : idOfToken(content)));
    this.#specialIds = new Set(
      [...forbidden, ...frame.before.ids, ...frame.after.ids].filter(
        (id) => id !== undefined && id !== unknown,
      ) as number[],
    );
  }

  /** Throws TypeError that says what is wrong with the text, without its words. */
  tokenize(text: string): TokenizedText {
    const { ids }: { ids: number[] } = this.#tokenizer.encode(text, { add_special_tokens: false });
    const length = this.#before.ids.length + ids.length + this.#after.ids.length;
    if (length > this.maxTokens) {
      throw new TypeError(`${length} tokens, and the model reads ${this.maxTokens}: nothing is cut off`);
    }
    if (length === 0) throw new TypeError('it has no tokens');
    if (ids.some((id) => idOf(id) === undefined)) throw new TypeError('it has a token without an id');
    if (ids.some((id) => this.#specialIds.has(id))) {
      throw new TypeError('it spells a special token of the tokenizer');
    }
    return {
      ids: [...this.#before.ids, ...ids, ...this.#after.ids],
      types: [...this.#before.types, ...ids.map(() => this.#typeOfText), ...this.#after.types],
    };
  }
}

function make({ json, config }: { json: JsonObject; config: JsonObject }): Tokenizer {
  try {
    return new Tokenizer(json, config);
  } catch (error) {
    throw unsupported(`tokenizer.json: ${error instanceof Error ? error.message : 'unknown error'}`);
  }
}

interface AddedTokenJson {
  readonly json: unknown;
  readonly content: string;
  readonly id: number;
  readonly special: boolean;
}

function readAddedTokens({ added_tokens: added }: JsonObject): AddedTokenJson[] {
  return listOf(added).map((json) => {
    const { content, id, special } = objectOf(json);
    const checked = idOf(id);
    if (typeof content !== 'string' || content === '' || checked === undefined) {
      throw unsupported('tokenizer.json: expected content and id of each added token');
    }
    return { json, content, id: checked, special: special === true };
  });
}

/** The special tokens before and after a text. The post-processor is asked once, with a word that no text is. */
function frameOf(
  { post_processor: processor }: Tokenizer,
  idOfToken: (token: string) => number | undefined,
): { before: Tokens; after: Tokens; type: number } {
  const none = { ids: [], types: [] };
  if (processor === null) return { before: none, after: none, type: 0 };
  let tokens: readonly unknown[];
  let types: readonly unknown[];
  try {
    const found = processor.post_process([TEXT], null, true);
    tokens = found.tokens;
    types = found.token_type_ids ?? found.tokens.map(() => 0);
  } catch {
    throw unsupported('tokenizer.json: its post_processor does not run');
  }
  const at = tokens.indexOf(TEXT);
  if (at < 0 || tokens.indexOf(TEXT, at + 1) >= 0 || types.length !== tokens.length) {
    throw unsupported('tokenizer.json: its post_processor does not give a text once');
  }
  const ids = tokens.map((token, index) => (index === at ? 0 : idOf(idOfToken(String(token)))));
  const checkedTypes = types.map(idOf);
  if (!isWhole(ids) || !isWhole(checkedTypes)) {
    throw unsupported('tokenizer.json: its post_processor adds a token that is not in the vocabulary');
  }
  const part = (start: number, end?: number): Tokens => ({
    ids: ids.slice(start, end),
    types: checkedTypes.slice(start, end),
  });
  return { before: part(0, at), after: part(at + 1), type: checkedTypes[at] ?? 0 };
}

function isWhole(numbers: (number | undefined)[]): numbers is number[] {
  return !numbers.includes(undefined);
}

/** tokenizer_config.json has tokens as strings or as objects. */
function contentOf(token: unknown): string | undefined {
  const content = typeof token === 'string' ? token : objectOf(token).content;
  return typeof content === 'string' && content !== '' ? content : undefined;
}

function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}
