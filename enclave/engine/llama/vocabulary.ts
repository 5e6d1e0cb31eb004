/**
 * Between text and tokens, with one promise: text that a caller gave never becomes a control token, however it is
 * spelled. llama.cpp keeps that promise only partly when it is asked to (`parse_special` off): merges may still add up
 * to the spelling of a control token, and tokens that a chat template uses as markers are not always control tokens.
 */
import { type Model, TOKEN } from './binding.ts';
import { Rejected } from './rejected.ts';

/** A piece of a prompt: written by the model's template, or by somebody who asks. */
export interface PromptPiece {
  readonly text: string;
  readonly trusted: boolean;
}

export interface VocabularyOptions {
  /** `tokenizer.ggml.model`. */
  readonly tokenizer: string;
  readonly tokens: number;
  /** Whether the model wants a space before the text that follows a control token (SentencePiece). */
  readonly spacePrefix: boolean;
  readonly chatTemplate: string | undefined;
}

interface Marker {
  readonly token: number;
  readonly start: number;
  readonly end: number;
}

/** U+2581, which stands for a space in a SentencePiece vocabulary. */
const LOWER_BLOCK = '\u2581';
const REGEXP_SYNTAX = /[\\^$.*+?()[\]{}|/-]/g;

export class Vocabulary {
  readonly bos: string;
  readonly eos: string;
  readonly #model: Model;
  readonly #options: VocabularyOptions;
  /** Tokens that only a template may put into a prompt, by their spelling. */
  readonly #markers = new Map<string, number>();
  /** Any of these spellings, the longest first. */
  readonly #marker: RegExp;
  readonly #bytes = new Map<number, Uint8Array>();

  constructor(model: Model, options: VocabularyOptions) {
    this.#model = model;
    this.#options = options;
    for (let token = 0; token < options.tokens; token += 1) {
      const attributes = model.getTokenAttributes(token);
      if ((attributes & (TOKEN.control | TOKEN.unknown | TOKEN.userDefined)) === 0) continue;
      const text = model.getTokenString(token) ?? '';
      const control = (attributes & TOKEN.userDefined) === 0;
      if (text.trim() !== '' && (control || options.chatTemplate?.includes(text) === true)) {
        this.#markers.set(text, token);
      }
    }
    const spellings = [...this.#markers.keys()]
      .sort((a, b) => b.length - a.length)
      .map((spelling) => spelling.replaceAll(REGEXP_SYNTAX, '\\$&'));
    this.#marker = new RegExp(spellings.length === 0 ? '(?!)' : spellings.join('|'), 'gu');
    // Models without them are common, and asking for the text of no token ends the process.
    const textOf = (token: number): string => (token < 0 ? '' : (model.getTokenString(token) ?? ''));
    this.bos = textOf(model.tokenBos());
    this.eos = textOf(model.tokenEos());
  }

  /** Spellings that only a template may use. */
  get markers(): readonly string[] {
    return [...this.#markers.keys()];
  }

  /** Of a prompt, BOS included where the model wants one. Throws Rejected. */
  tokensOf(pieces: readonly PromptPiece[]): Uint32Array {
    const text = pieces.map((piece) => piece.text).join('');
    const tokens: number[] = [];
    let end = 0;
    let stripLeft = false;
    const addText = (until: number, stripRight: boolean): void => {
      let between = text.slice(end, until);
      if (stripLeft) between = between.trimStart();
      if (stripRight) between = between.trimEnd();
      this.#addText(tokens, between);
    };
    for (const marker of this.#trustedMarkers(pieces)) {
      const attributes = this.#model.getTokenAttributes(marker.token);
      addText(marker.start, (attributes & TOKEN.stripLeft) !== 0);
      tokens.push(marker.token);
      end = marker.end;
      stripLeft = (attributes & TOKEN.stripRight) !== 0;
    }
    addText(text.length, false);
    const bos = this.#model.tokenBos();
    if (bos >= 0 && this.#model.shouldPrependBosToken() && tokens[0] !== bos) tokens.unshift(bos);
    return Uint32Array.from(tokens);
  }

  /** What a token adds to a text: nothing for control tokens, and perhaps a part of a character. */
  bytesOf(token: number): Uint8Array {
    let bytes = this.#bytes.get(token);
    if (bytes === undefined) {
      bytes = this.#decode(token);
      this.#bytes.set(token, bytes);
    }
    return bytes;
  }

  /** Markers that stand wholly in what the template wrote. */
  #trustedMarkers(pieces: readonly PromptPiece[]): Marker[] {
    const markers: Marker[] = [];
    let offset = 0;
    for (const { text, trusted } of pieces) {
      for (const match of trusted ? text.matchAll(this.#marker) : []) {
        const token = this.#markers.get(match[0]) ?? 0;
        const start = offset + match.index;
        markers.push({ token, start, end: start + match[0].length });
      }
      offset += text.length;
    }
    return markers;
  }

  /** Every marker that is spelled in here is cut in two, so that no rule of the tokenizer can put it together. */
  #addText(tokens: number[], text: string): void {
    if (text === '') return;
    const whole = this.#options.spacePrefix ? ` ${text}` : text;
    let from = 0;
    const add = (until: number): void => {
      for (const token of this.#model.tokenize(whole.slice(from, until), false)) {
        if ((this.#model.getTokenAttributes(token) & TOKEN.control) !== 0) {
          throw new Rejected('the text cannot be told from control tokens of this model');
        }
        tokens.push(token);
      }
      from = until;
    };
    this.#marker.lastIndex = 0;
    for (let match = this.#marker.exec(whole); match !== null; match = this.#marker.exec(whole)) {
      const first = String.fromCodePoint(match[0].codePointAt(0) ?? 0);
      add(match.index + first.length);
      this.#marker.lastIndex = match.index + first.length;
    }
    add(whole.length);
  }

  /** As llama_token_to_piece does it, but for tokens that are no text, which become nothing. */
  #decode(token: number): Uint8Array {
    const attributes = this.#model.getTokenAttributes(token);
    const text = this.#model.getTokenString(token) ?? '';
    const utf8 = new TextEncoder();
    if ((attributes & (TOKEN.control | TOKEN.unknown)) !== 0) return new Uint8Array(0);
    if ((attributes & TOKEN.userDefined) !== 0) return utf8.encode(text);
    if (this.#options.tokenizer === 'gpt2') return bytesOfBpe(text);
    const byte = (attributes & TOKEN.byte) === 0 ? null : /^<0x([0-9A-F]{2})>$/.exec(text);
    if (byte !== null) return Uint8Array.of(Number.parseInt(byte[1] ?? '', 16));
    return utf8.encode(text.replaceAll(LOWER_BLOCK, ' '));
  }
}

/**
 * Byte-level BPE spells each byte as a printable character: those that are printable as themselves, the others in
 * order from U+0100 on (bytes_to_unicode of GPT-2's encoder.py).
 */
const BPE_BYTES: ReadonlyMap<string, number> = (() => {
  const printable = (byte: number): boolean =>
    (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte !== 0xad);
  const bytes = new Map<string, number>();
  let next = 0x100;
  for (let byte = 0; byte < 256; byte += 1) {
    bytes.set(String.fromCharCode(printable(byte) ? byte : next), byte);
    if (!printable(byte)) next += 1;
  }
  return bytes;
})();

function bytesOfBpe(text: string): Uint8Array {
  const utf8 = new TextEncoder();
  return Uint8Array.from(
    [...text].flatMap((character) => {
      const byte = BPE_BYTES.get(character);
      return byte === undefined ? [...utf8.encode(character)] : [byte];
    }),
  );
}
