/**
 * The model's own chat template, a Jinja program that comes with its file, rendered by llama.cpp's interpreter.
 *
 * The template must not be able to confuse what it wrote with what a caller wrote. So it gets each character of a
 * message, white space apart, as one of Unicode's private use characters, which no template looks at or writes; what
 * comes out as such a character is the caller's, and the rest is the template's.
 */
import type { ChatMessage } from '../text.ts';
import type { JinjaRenderer, Llama } from './binding.ts';
import { Rejected } from './rejected.ts';
import type { PromptPiece } from './vocabulary.ts';

/** Plane 15, whose characters stand for one UTF-16 unit each: U+F0000 and on. */
const DISGUISE = 0xf0000;
const DISGUISED = /[\u{f0000}-\u{fffff}]+/gu;
/** Left as it is, because templates trim. */
const WHITE_SPACE = new Set(' \t\r\n');
/** Characters that a template may write around its messages; it may write these twice. */
const MAX_TEMPLATE_OUTPUT = 256 * 1024;

export class ChatTemplate {
  readonly #renderer: JinjaRenderer;
  readonly #variables: { readonly bos_token: string; readonly eos_token: string };

  /** Throws if the template is not one, or cannot even render a greeting. */
  constructor(
    llama: Llama,
    source: string,
    variables: { readonly bos_token: string; readonly eos_token: string },
  ) {
    this.#renderer = new llama.AddonJinjaRenderer(source);
    this.#variables = variables;
    this.render([{ role: 'user', content: 'Hello' }]);
  }

  /** The prompt for the next message of the assistant. Throws Rejected, with the template's own words if it has any. */
  render(messages: readonly ChatMessage[]): PromptPiece[] {
    const disguised = messages.map(({ role, content }) => ({ role, content: disguise(content) }));
    const given = disguised.reduce((sum, { content }) => sum + content.length, 0);
    let rendered: string;
    try {
      rendered = this.#renderer.render({
        messages: disguised,
        add_generation_prompt: true,
        ...this.#variables,
      });
    } catch (error) {
      throw new Rejected(`the model's chat template refuses these messages: ${(error as Error).message}`);
    }
    if (rendered.length > MAX_TEMPLATE_OUTPUT + given * 2) {
      throw new Rejected("the model's chat template writes more than a conversation");
    }
    return piecesOf(rendered);
  }
}

function disguise(content: string): string {
  let disguised = '';
  for (let index = 0; index < content.length; index += 1) {
    const unit = content.charAt(index);
    disguised += WHITE_SPACE.has(unit) ? unit : String.fromCodePoint(DISGUISE + unit.charCodeAt(0));
  }
  return disguised;
}

function piecesOf(rendered: string): PromptPiece[] {
  const pieces: PromptPiece[] = [];
  let end = 0;
  const addTrusted = (until: number): void => {
    const text = rendered.slice(end, until);
    if (text !== '') pieces.push({ text, trusted: true });
  };
  for (const match of rendered.matchAll(DISGUISED)) {
    addTrusted(match.index);
    const units = Array.from(match[0], (character) => (character.codePointAt(0) ?? 0) - DISGUISE);
    pieces.push({ text: units.map((unit) => String.fromCharCode(unit)).join(''), trusted: false });
    end = match.index + match[0].length;
  }
  addTrusted(rendered.length);
  return pieces;
}
