import type { LogLevel } from './log-events.ts';

/** One thing that happened, for the operator's log: names and numbers, never bytes of a connection. */
export interface ParentEvent {
  /** One of log-events.ts; the log leaves out what is not listed there. */
  readonly event: string;
  /** In place of the event's own level. */
  readonly level?: LogLevel;
  readonly [field: string]: string | number;
}

export type Observe = (event: ParentEvent) => void;

/** Totals since the start, by name; gauges go up and down. */
export class Counters {
  readonly #values = new Map<string, number>();

  add(name: string, amount = 1): void {
    this.#values.set(name, (this.#values.get(name) ?? 0) + amount);
  }

  get(name: string): number {
    return this.#values.get(name) ?? 0;
  }

  snapshot(): Readonly<Record<string, number>> {
    return Object.fromEntries([...this.#values].sort(([a], [b]) => (a < b ? -1 : 1)));
  }
}
