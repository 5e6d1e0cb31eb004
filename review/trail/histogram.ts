/**
 * How often what happened when, in bounded memory, without knowing beforehand how long a time it is: as soon as there
 * are too many slots, each becomes twice as long.
 */
const SLOTS_MAX = 4096;

export interface Slots {
  readonly slotMs: number;
  /** Start of a slot in milliseconds since 1970, and the count of each row in it; ordered. */
  readonly slots: readonly (readonly [startMs: number, counts: readonly number[]])[];
}

export class Histogram {
  #slotMs = 1000;
  #slots = new Map<number, number[]>();

  add(atMs: number, row: number): void {
    const slot = Math.floor(atMs / this.#slotMs);
    let counts = this.#slots.get(slot);
    if (counts === undefined) {
      counts = [];
      this.#slots.set(slot, counts);
    }
    counts[row] = (counts[row] ?? 0) + 1;
    while (this.#slots.size > SLOTS_MAX) this.#coarsen();
  }

  slots(): Slots {
    const slots = [...this.#slots].toSorted(([a], [b]) => a - b);
    return {
      slotMs: this.#slotMs,
      slots: slots.map(([slot, counts]) => [slot * this.#slotMs, Array.from(counts, (count) => count ?? 0)]),
    };
  }

  #coarsen(): void {
    this.#slotMs *= 2;
    const coarser = new Map<number, number[]>();
    for (const [slot, counts] of this.#slots) {
      const target = Math.floor(slot / 2);
      const sum = coarser.get(target);
      if (sum === undefined) coarser.set(target, counts);
      else for (const [row, count] of counts.entries()) sum[row] = (sum[row] ?? 0) + (count ?? 0);
    }
    this.#slots = coarser;
  }
}
