import type { LoadedModel } from '../../shared/evidence/evidence.ts';
import type { Engine } from '../engine/engine.ts';

/** A model that is open and has an engine. */
export interface ServedModel extends LoadedModel {
  readonly engine: Engine;
  /** When it was loaded, in enclave time. */
  readonly loadedAt: Date;
  /** Ends the engine and gives the memory of the weights back. */
  close(): Promise<void>;
}

/**
 * The models of one moment. Evidence names all of a set, and a connection is served by the set that its evidence
 * named and by no other (docs/evidence.md section 3).
 */
export class ModelSet {
  readonly #models: ReadonlyMap<string, ServedModel>;

  constructor(models: readonly ServedModel[]) {
    this.#models = new Map(models.map((model) => [model.name, model]));
  }

  get models(): readonly ServedModel[] {
    return [...this.#models.values()];
  }

  find(name: string): ServedModel | undefined {
    return this.#models.get(name);
  }

  /** The same models and this one, in the place of the one of its name. */
  with(model: ServedModel): ModelSet {
    return new ModelSet([...new Map(this.#models).set(model.name, model).values()]);
  }

  without(name: string): ModelSet {
    return new ModelSet(this.models.filter((model) => model.name !== name));
  }
}
