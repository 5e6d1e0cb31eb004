/** Of checks that are all made as far as they can be, the outcome of each: one that fails keeps no other from being made. */
import { StrongroomError } from './errors.ts';

interface Check {
  readonly id: string;
  readonly section: string;
  readonly step: string;
  readonly what: string;
}

export interface Tick<C extends Check> {
  readonly check: C['id'];
  readonly section: C['section'];
  readonly step: C['step'];
  readonly what: C['what'];
  /** `not-asked`: there is nothing to check it with; `not-reached`: something before it failed. */
  readonly outcome: 'passed' | 'failed' | 'undecided' | 'not-asked' | 'not-reached';
  /** What was found, or why it failed. */
  readonly detail: string;
  readonly code: string | null;
}

/** Collects outcomes; `results` has them in the order of the checks, whenever they were made. */
export class Ticks<C extends Check> {
  readonly #checks: readonly C[];
  readonly #settled = new Map<C['id'], Pick<Tick<C>, 'outcome' | 'detail' | 'code'>>();
  /** Of the first check that failed; else of the first that could not be decided. */
  #failed: StrongroomError | undefined;
  #undecided: StrongroomError | undefined;

  constructor(checks: readonly C[]) {
    this.#checks = checks;
  }

  passed(check: C['id'], detail: string): void {
    this.#settled.set(check, { outcome: 'passed', detail, code: null });
  }

  /** Errors that are no refusal (a bug, a disk that fails) are thrown on. */
  failed(check: C['id'], error: unknown): void {
    if (!(error instanceof StrongroomError)) throw error;
    const undecided = error.exitCode === 3;
    if (undecided) this.#undecided ??= error;
    else this.#failed ??= error;
    const outcome = undecided ? 'undecided' : 'failed';
    this.#settled.set(check, { outcome, detail: error.message, code: error.code });
  }

  notAsked(check: C['id'], why: string): void {
    this.#settled.set(check, { outcome: 'not-asked', detail: why, code: null });
  }

  /** Makes the check, and gives what it found; undefined if it failed. */
  make<T>(check: C['id'], body: () => T, detail: (found: T) => string): T | undefined {
    try {
      const found = body();
      this.passed(check, detail(found));
      return found;
    } catch (error) {
      this.failed(check, error);
      return undefined;
    }
  }

  async makeAsync<T>(
    check: C['id'],
    body: () => Promise<T> | T,
    detail: (found: T) => string,
  ): Promise<T | undefined> {
    try {
      const found = await body();
      this.passed(check, detail(found));
      return found;
    } catch (error) {
      this.failed(check, error);
      return undefined;
    }
  }

  has(check: C['id']): boolean {
    return this.#settled.get(check)?.outcome === 'passed';
  }

  get error(): StrongroomError | undefined {
    return this.#failed ?? this.#undecided;
  }

  results(): Tick<C>[] {
    return this.#checks.map(({ id, section, step, what }) => ({
      check: id,
      section,
      step,
      what,
      ...(this.#settled.get(id) ?? { outcome: 'not-reached', detail: '', code: null }),
    }));
  }
}
