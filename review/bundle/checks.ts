/**
 * What is checked of a bundle, in the order in which it is shown, with its section in docs/evidence-bundle.md. A check
 * that fails does not keep the others from being made, as far as they can be: whoever holds a release wants to know all.
 */
import { StrongroomError } from '../../shared/errors.ts';

export const CHECKS = [
  {
    id: 'digests',
    section: '3.1',
    step: 'whole',
    what: 'every member is as the index says, and no other is there',
  },
  { id: 'signature', section: '3.2', step: 'whole', what: 'the index is signed by the given key' },
  {
    id: 'image',
    section: '4.1',
    step: 'of one image',
    what: 'PCR0, PCR1 and PCR2 are measured, not those of debug mode',
  },
  { id: 'image-file', section: '4.2', step: 'of one image', what: 'the image file measures to the same' },
  {
    id: 'release',
    section: '4.3',
    step: 'of one image',
    what: 'the release manifest names this image, and was not withdrawn',
  },
  {
    id: 'deployment',
    section: '5.1',
    step: 'of one deployment',
    what: 'the deployment document is one that an enclave accepts',
  },
  {
    id: 'release-deployment',
    section: '5.2',
    step: 'of one deployment',
    what: 'the release manifest names this deployment',
  },
  {
    id: 'models',
    section: '5.3',
    step: 'of one deployment',
    what: 'each model manifest is the one that the deployment asks for',
  },
  {
    id: 'attestation',
    section: '6.1',
    step: 'attested',
    what: 'the attestation document is genuine at the given time',
  },
  { id: 'attested-image', section: '6.2', step: 'attested', what: "its PCR0, PCR1 and PCR2 are the image's" },
  { id: 'attested-deployment', section: '6.3', step: 'attested', what: "its PCR16 is the deployment's" },
  { id: 'attested-host', section: '6.4', step: 'attested', what: "its PCR3 is the host role's" },
  {
    id: 'review',
    section: '7.1',
    step: 'locked to it',
    what: 'reviewed again, the key policy gets the same verdict',
  },
  {
    id: 'verdict',
    section: '7.2',
    step: 'locked to it',
    what: 'the verdict is a yes: only the reviewed image gets the key',
  },
] as const;

export type CheckId = (typeof CHECKS)[number]['id'];

export interface CheckResult {
  readonly check: CheckId;
  readonly section: string;
  readonly step: string;
  readonly what: string;
  /** `not-asked`: there is nothing to check it with; `not-reached`: something before it failed. */
  readonly outcome: 'passed' | 'failed' | 'undecided' | 'not-asked' | 'not-reached';
  /** What was found, or why it failed. */
  readonly detail: string;
  readonly code: string | null;
}

type Settled = Pick<CheckResult, 'outcome' | 'detail' | 'code'>;

/** The outcomes so far. */
export class Ticks {
  readonly #settled = new Map<CheckId, Settled>();
  /** Of the first check that failed; else of the first that could not be decided. */
  #failed: StrongroomError | undefined;
  #undecided: StrongroomError | undefined;

  /** Makes the check, and gives what it found; undefined if it failed. Errors that are no refusal (a bug) are thrown. */
  make<T>(check: CheckId, body: () => T, detail: (found: T) => string): T | undefined {
    try {
      const found = body();
      this.#settled.set(check, { outcome: 'passed', detail: detail(found), code: null });
      return found;
    } catch (error) {
      if (!(error instanceof StrongroomError)) throw error;
      const undecided = error.exitCode === 3;
      if (undecided) this.#undecided ??= error;
      else this.#failed ??= error;
      const outcome = undecided ? 'undecided' : 'failed';
      this.#settled.set(check, { outcome, detail: error.message, code: error.code });
      return undefined;
    }
  }

  notAsked(check: CheckId, why: string): void {
    this.#settled.set(check, { outcome: 'not-asked', detail: why, code: null });
  }

  get error(): StrongroomError | undefined {
    return this.#failed ?? this.#undecided;
  }

  results(): CheckResult[] {
    return CHECKS.map(({ id, ...check }) => ({
      check: id,
      ...check,
      ...(this.#settled.get(id) ?? { outcome: 'not-reached', detail: '', code: null }),
    }));
  }
}
