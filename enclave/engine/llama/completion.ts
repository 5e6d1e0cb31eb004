/** From the bytes of tokens to text: whole characters, and nothing of a stop string or after it. */
import type { GeneratedToken } from '../text.ts';

export interface Emitted {
  readonly text: string;
  /** Tokens whose text has been emitted by now. */
  readonly tokens: readonly GeneratedToken[];
  /** Whether a stop string was reached. */
  readonly stopped: boolean;
}

interface Held {
  readonly token: GeneratedToken;
  /** Where its text begins and ends, in characters of the whole completion. */
  readonly start: number;
  readonly end: number;
}

export class Completion {
  readonly #stop: readonly string[];
  readonly #decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  /** What may be the beginning of a stop string. */
  #text = '';
  #emittedLength = 0;
  #tokens: Held[] = [];

  constructor(stop: readonly string[]) {
    this.#stop = stop;
  }

  push(bytes: Uint8Array, token?: GeneratedToken): Emitted {
    return this.#add(this.#decoder.decode(bytes, { stream: true }), token);
  }

  /** What is left when generation has ended in another way than by a stop string. */
  finish(): Emitted {
    const last = this.#add(this.#decoder.decode());
    if (last.stopped) return last;
    const rest = this.#emit(this.#text.length, false);
    return { ...rest, text: last.text + rest.text, tokens: [...last.tokens, ...rest.tokens] };
  }

  #add(text: string, token?: GeneratedToken): Emitted {
    const start = this.#emittedLength + this.#text.length;
    if (token !== undefined) this.#tokens.push({ token, start, end: start + text.length });
    this.#text += text;
    const stop = this.#firstStop();
    if (stop !== undefined) return this.#emit(stop, true);
    return this.#emit(this.#text.length - this.#possibleStop(), false);
  }

  #emit(length: number, stopped: boolean): Emitted {
    const text = this.#text.slice(0, length);
    this.#text = stopped ? '' : this.#text.slice(length);
    this.#emittedLength += length;
    const isOut = ({ start, end }: Held): boolean =>
      end <= this.#emittedLength || start < this.#emittedLength;
    const tokens = this.#tokens.filter(isOut).map((held) => held.token);
    this.#tokens = stopped ? [] : this.#tokens.filter((held) => !isOut(held));
    return { text, tokens, stopped };
  }

  /** Where the stop string begins that is complete first: it is the same one however the text comes in pieces. */
  #firstStop(): number | undefined {
    let first: { start: number; end: number } | undefined;
    for (const stop of this.#stop) {
      const start = this.#text.indexOf(stop);
      const end = start + stop.length;
      if (start < 0) continue;
      if (first === undefined || end < first.end || (end === first.end && start < first.start)) {
        first = { start, end };
      }
    }
    return first?.start;
  }

  /** The length of the longest end of the text that begins a stop string. */
  #possibleStop(): number {
    let longest = 0;
    for (const stop of this.#stop) {
      for (let length = Math.min(stop.length - 1, this.#text.length); length > longest; length -= 1) {
        if (this.#text.endsWith(stop.slice(0, length))) longest = length;
      }
    }
    return longest;
  }
}
