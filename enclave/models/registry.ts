/**
 * Which models the enclave has now, and which it still has because somebody is being served by them.
 *
 * A model that was replaced or removed is closed when the last connection whose evidence named it has ended, so
 * replacing drops no request, and no connection is ever served by a model that its evidence did not name.
 */
import { Lease } from '../lease.ts';
import { ModelSet, type ServedModel } from './model-set.ts';

export class ModelRegistry {
  #current: ModelSet;
  /** How many connections hold each set; the current one is kept even if nobody does. */
  readonly #holders = new Map<ModelSet, number>();
  readonly #closing = new Set<Promise<void>>();
  #closed = false;

  constructor(models: readonly ServedModel[]) {
    this.#current = new ModelSet(models);
  }

  get current(): ModelSet {
    return this.#current;
  }

  /** Whether every model of the moment can be asked. */
  get ready(): boolean {
    return !this.#closed && this.#current.models.every(({ engine }) => engine.ready);
  }

  /** Every model that is still in memory, those that only old connections are served by included. */
  get inMemory(): readonly ServedModel[] {
    return [...new Set([this.#current, ...this.#holders.keys()].flatMap(({ models }) => models))];
  }

  /** Adds a model, or puts it in the place of the one of its name. */
  put(model: ServedModel): void {
    this.#change(this.#current.with(model));
  }

  remove(name: string): void {
    this.#change(this.#current.without(name));
  }

  /** Keeps the models of a set until disposed. */
  hold(set: ModelSet): Disposable {
    this.#holders.set(set, (this.#holders.get(set) ?? 0) + 1);
    return new Lease(() => this.#letGo(set));
  }

  #letGo(set: ModelSet): void {
    const left = (this.#holders.get(set) ?? 1) - 1;
    if (left > 0) {
      this.#holders.set(set, left);
      return;
    }
    const before = this.inMemory;
    this.#holders.delete(set);
    this.#closeUnused(before);
  }

  /** Closes all models, held or not. */
  async close(): Promise<void> {
    this.#closed = true;
    const models = this.inMemory;
    this.#current = new ModelSet([]);
    this.#holders.clear();
    this.#closeUnused(models);
    await Promise.all(this.#closing);
  }

  #change(next: ModelSet): void {
    const before = this.inMemory;
    this.#current = next;
    this.#closeUnused(before);
  }

  #closeUnused(before: readonly ServedModel[]): void {
    const kept = new Set(this.inMemory);
    for (const model of before) {
      if (kept.has(model)) continue;
      const closing = model.close().finally(() => this.#closing.delete(closing));
      this.#closing.add(closing);
    }
  }
}
