/**
 * Loads, replaces and unloads models while the enclave serves (docs/serving.md section 9). The parent says when; which
 * models, by whose signature and from which version on is the deployment's, and a model never goes back to an older
 * version in the life of this enclave.
 */
import type { ModelPin } from '../../shared/deployment/deployment.ts';
import { StrongroomError } from '../../shared/errors.ts';
import type { CheckedModel } from '../model.ts';
import { ModelsError } from './errors.ts';
import type { ServedModel } from './model-set.ts';
import type { ModelRegistry } from './registry.ts';

/** What the control port tells of a model: nothing that evidence would not tell any caller. */
export interface ModelStatus {
  readonly name: string;
  /** Of what serves now; null if it is not loaded. */
  readonly version: number | null;
  readonly contentId: string | null;
  readonly loading: boolean;
  /** The code of what the last attempt to load it failed with. */
  readonly failure: string | null;
  /** Copies in memory: more than one while old connections are still served by an older version. */
  readonly inMemory: number;
}

export interface LifecycleOptions {
  readonly pins: readonly ModelPin[];
  readonly registry: ModelRegistry;
  /** Checks what the parent offers under the pin's name. Nothing is asked of KMS yet. */
  readonly check: (pin: ModelPin) => Promise<CheckedModel>;
  readonly load: (model: CheckedModel) => Promise<ServedModel>;
}

export class ModelLifecycle {
  readonly #options: LifecycleOptions;
  /** The newest version that has served, by name. */
  readonly #newest = new Map<string, number>();
  readonly #failures = new Map<string, string>();
  #loading: string | undefined;

  constructor(options: LifecycleOptions) {
    this.#options = options;
    for (const { name, version } of options.registry.current.models) this.#newest.set(name, version);
  }

  status(): readonly ModelStatus[] {
    const { pins, registry } = this.#options;
    return pins.map(({ name }) => {
      const served = registry.current.find(name);
      return {
        name,
        version: served?.version ?? null,
        contentId: served?.contentId ?? null,
        loading: this.#loading === name,
        failure: this.#failures.get(name) ?? null,
        inMemory: registry.inMemory.filter((model) => model.name === name).length,
      };
    });
  }

  /**
   * Begins to load what the parent offers under the name, in the place of what serves now. Throws ModelsError
   * MODELS_UNKNOWN or MODELS_BUSY; how it ends is told by `status`.
   */
  load(name: string): void {
    const pin = this.#pin(name);
    if (this.#loading !== undefined) {
      throw new ModelsError('MODELS_BUSY', `Expected no model to be loading, found ${this.#loading}.`);
    }
    this.#loading = name;
    this.#failures.delete(name);
    this.#replace(pin)
      .catch((error: unknown) => this.#failures.set(name, codeOf(error)))
      .finally(() => {
        this.#loading = undefined;
      });
  }

  /** Throws ModelsError MODELS_UNKNOWN, or MODELS_LAST. Connections that are served by it keep it until they end. */
  unload(name: string): void {
    this.#pin(name);
    const { registry } = this.#options;
    const { models } = registry.current;
    if (models.length === 1 && models[0]?.name === name) {
      throw new ModelsError('MODELS_LAST', `Expected another model beside ${name}, found none.`);
    }
    registry.remove(name);
  }

  async #replace(pin: ModelPin): Promise<void> {
    const { registry, check, load } = this.#options;
    const checked = await check(pin);
    this.#requireNewer(checked);
    const served = await load(checked);
    this.#newest.set(served.name, served.version);
    registry.put(served);
  }

  /** What was unloaded may come back as it was; what serves is replaced by something newer only. */
  #requireNewer({ name, version }: CheckedModel): void {
    const newest = this.#newest.get(name) ?? 0;
    const serves = this.#options.registry.current.find(name) !== undefined;
    if (serves ? version > newest : version >= newest) return;
    throw new ModelsError(
      'MODELS_NOT_NEWER',
      `Expected ${serves ? 'a newer version than' : 'at least version'} ${newest} of ${name}, found ${version}.`,
    );
  }

  #pin(name: string): ModelPin {
    const pin = this.#options.pins.find((candidate) => candidate.name === name);
    if (pin !== undefined) return pin;
    throw new ModelsError('MODELS_UNKNOWN', 'Expected the name of a model of the deployment.');
  }
}

/** Never a message: the control port is the parent's. */
function codeOf(error: unknown): string {
  return error instanceof StrongroomError ? error.code : 'INTERNAL';
}
