import { shortened } from '../local/why-denied.ts';

export interface Refusal {
  readonly code: string;
  readonly message: string;
  /** Where KMS refused: what AWS would keep to itself. */
  readonly why?: string;
}

/** Tells a story to a person: numbered steps with their times, plain when it is not a terminal. */
export class Narrator {
  readonly #out: NodeJS.WritableStream;
  readonly #colour: boolean;
  readonly #startedAtMs = performance.now();
  #stepNumber = 0;

  constructor(out: NodeJS.WritableStream & { readonly isTTY?: boolean }) {
    this.#out = out;
    this.#colour = out.isTTY === true && process.env.NO_COLOR === undefined;
  }

  title(text: string): void {
    this.#line(`\n${this.#paint('1', text)}\n`);
  }

  /** Runs one step of the story and prints its headline with the time that it took. */
  async step<T>(headline: string, act: () => Promise<T> | T): Promise<T> {
    const number = `${++this.#stepNumber}`.padStart(2);
    const startedAtMs = performance.now();
    const result = await act();
    const took = `${((performance.now() - startedAtMs) / 1000).toFixed(2)} s`;
    this.#line(`${this.#paint('36', number)}  ${this.#paint('1', headline)}  ${this.#paint('2', took)}`);
    return result;
  }

  /** One fact under the last step. */
  fact(name: string, value: string): void {
    this.#line(`    ${this.#paint('2', name.padEnd(22))} ${value}`);
  }

  text(value: string): void {
    this.#line(`    ${value}`);
  }

  /** One attack and what met it; the word "refused" stands in every such line. */
  refused(attack: string, { code, message, why }: Refusal): void {
    this.#line(`    ${attack}`);
    this.#line(`      ${this.#paint('32', 'refused')} ${code}: ${shortened(message)}`);
    if (why !== undefined) {
      this.#line(`      ${this.#paint('2', `why (only the simulated KMS tells): ${why}`)}`);
    }
  }

  get elapsedSeconds(): number {
    return (performance.now() - this.#startedAtMs) / 1000;
  }

  #line(text: string): void {
    this.#out.write(`${text}\n`);
  }

  #paint(code: string, text: string): string {
    return this.#colour ? `\u001b[${code}m${text}\u001b[0m` : text;
  }
}
