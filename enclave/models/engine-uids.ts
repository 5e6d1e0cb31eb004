/**
 * Each engine has a uid of its own. A process can be looked into by others of its uid until it has closed itself
 * off: an engine that was taken over would wait for another to start, and open its weights.
 */
export class EngineUids {
  readonly #first: number | undefined;
  readonly #taken = new Set<number>();

  /** `first` and those below it; undefined where this process may not change uids. */
  constructor(first: number | undefined) {
    this.#first = first;
  }

  take(): { readonly value: number | undefined; giveBack(): void } {
    if (this.#first === undefined) return { value: undefined, giveBack: () => {} };
    let value = this.#first;
    while (this.#taken.has(value)) value -= 1;
    this.#taken.add(value);
    return { value, giveBack: () => void this.#taken.delete(value) };
  }
}
