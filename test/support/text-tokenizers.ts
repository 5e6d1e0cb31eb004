/** Tokenizers for the models of the engine of ONNX, without a model. */
import { readSettings } from '../../enclave/engine/onnx-text/settings.ts';
import { TextTokenizer } from '../../enclave/engine/onnx-text/tokenizer.ts';

export type TokenizerJson = Readonly<Record<string, unknown>>;

export const TOKENIZER_CONFIG = { model_max_length: 100_000 };

export function textTokenizerOf(tokenizer: TokenizerJson): TextTokenizer {
  const files = { 'tokenizer.json': tokenizer, 'tokenizer_config.json': TOKENIZER_CONFIG };
  return new TextTokenizer(readSettings(new Map(Object.entries(files))));
}

/** `added_tokens` of tokenizer.json. */
export function specialTokens(tokens: ReadonlyMap<string, number>): object[] {
  return [...tokens].map(([content, id]) => ({
    id,
    content,
    single_word: false,
    lstrip: content === '<mask>',
    rstrip: false,
    normalized: false,
    special: true,
  }));
}

/** A TemplateProcessing post-processor that puts special tokens around a text. */
export function templateOf(before: readonly string[], after: readonly string[]): object {
  const special = (id: string): object => ({ SpecialToken: { id, type_id: 0 } });
  return {
    type: 'TemplateProcessing',
    single: [...before.map(special), { Sequence: { id: 'A', type_id: 0 } }, ...after.map(special)],
    pair: [],
    special_tokens: {},
  };
}

/** Texts that spell a special token, or nearly: alone, among others, in another case, width or spacing. */
export function spellingsOf(token: string): string[] {
  const [first = '', last = ''] = [token.at(0), token.at(-1)];
  const inner = token.slice(1, -1);
  const wide = (character: string): string => String.fromCharCode(character.charCodeAt(0) + 0xfee0);
  return [
    token,
    ` ${token} `,
    `${token}${token}`,
    `a${token}b`,
    `\n${token}\t`,
    token.toUpperCase(),
    token.toLowerCase(),
    `${first} ${inner} ${last}`,
    `${wide(first)}${inner}${wide(last)}`,
    [...token].join('\u200b'),
    [...token].join('\u00ad'),
    `\u2581${token}`,
    `##${token}`,
  ];
}
