/**
 * Something held until it is given back, once. A class, because it is made for every request: an object literal with a
 * computed member name takes V8 several times as long.
 */
export class Lease implements Disposable {
  #giveBack: (() => void) | undefined;

  constructor(giveBack: () => void) {
    this.#giveBack = giveBack;
  }

  [Symbol.dispose](): void {
    const giveBack = this.#giveBack;
    this.#giveBack = undefined;
    giveBack?.();
  }
}
