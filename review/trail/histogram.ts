/**
 * How often what happened when, in bounded memory, without knowing beforehand how long a time it is: as soon as there
 * are too many slots, each becomes twice as long.
 */
const SLOTS_MAX = 4096;
const FIRST_SLOT_MS = 1000;

export interface HistogramData {
  readonly slotMs: number;
  /** By number of the slot since 1970: the count of each row. */
  readonly slots: ReadonlyMap<number, readonly number[]>;
}

export class Histogram {
  #slotMs = FIRST_SLOT_MS;
  #slots = new Map<number, number[]>();

  get data(): HistogramData {
    return { slotMs: this.#slotMs, slots: this.#slots };
  }

  add(atMs: number, row: number, count: number): void {
    const slot = Math.floor(atMs / this.#slotMs);
    let counts = this.#slots.get(slot);
    if (counts === undefined) {
      counts = [];
      this.#slots.set(slot, counts);
    }
    counts[row] = (counts[row] ?? 0) + count;
    while (this.#slots.size > SLOTS_MAX) this.#coarsen();
  }

  /** `rows`: which row of this one each row of the other is. */
  addAll({ slotMs, slots }: HistogramData, rows: readonly number[]): void {
    while (this.#slotMs < slotMs) this.#coarsen();
    for (const [slot, counts] of slots) {
      for (const [row, count] of counts.entries()) {
        if ((count ?? 0) > 0) this.add(slot * slotMs, rows[row] as number, count);
      }
    }
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

/** In order: the start of a slot in milliseconds since 1970, and the count of each row in it. */
export function slotsOf({ slotMs, slots }: HistogramData): {
  readonly slotMs: number;
  readonly slots: readonly (readonly [startMs: number, counts: readonly number[]])[];
} {
  return {
    slotMs,
    slots: [...slots]
      .toSorted(([a], [b]) => a - b)
      .map(([slot, counts]) => [slot * slotMs, Array.from(counts, (count) => count ?? 0)]),
  };
}
