/**
 * Which connections have evidence, and of which models. What evidence named is what serves the connection, until it
 * ends or asks for evidence again (docs/evidence.md section 3).
 */
import type { Duplex } from 'node:stream';
import type { ModelSet } from '../models/model-set.ts';
import type { ModelRegistry } from '../models/registry.ts';

interface Held {
  readonly models: ModelSet;
  readonly hold: Disposable;
}

export class Evidenced {
  readonly #registry: ModelRegistry;
  readonly #held = new Map<Duplex, Held>();

  constructor(registry: ModelRegistry) {
    this.#registry = registry;
  }

  /** Undefined for a connection without evidence. */
  modelsOf(connection: Duplex): ModelSet | undefined {
    return this.#held.get(connection)?.models;
  }

  /** Whether the models have changed since: such a connection finishes its request and is closed. */
  isOutdated(connection: Duplex): boolean {
    const models = this.modelsOf(connection);
    return models !== undefined && models !== this.#registry.current;
  }

  gave(connection: Duplex, models: ModelSet): void {
    if (connection.destroyed) return;
    const before = this.#held.get(connection);
    this.#held.set(connection, { models, hold: this.#registry.hold(models) });
    if (before === undefined) connection.once('close', () => this.#forget(connection));
    // Requests that are open keep what they began with.
    else before.hold[Symbol.dispose]();
  }

  #forget(connection: Duplex): void {
    this.#held.get(connection)?.hold[Symbol.dispose]();
    this.#held.delete(connection);
  }
}
