/**
 * What is checked of a model, in the order in which it is shown, with the section that states the rule: of
 * docs/sealed-model.md, or of docs/legacy.md for the last group. A check that fails does not keep the others from
 * being made, as far as they can be: whoever looks at a damaged model wants to know all of it.
 */
import { StrongroomError } from '../../shared/errors.ts';

const SEALED_CHECKS = [
  { id: 'head', section: '2', step: 'well formed', what: 'head follows the format' },
  { id: 'payload-size', section: '2.2', step: 'well formed', what: 'payload is as long as the head says' },
  { id: 'manifest', section: '8.3', step: 'well formed', what: 'manifest follows the format' },
  {
    id: 'same-model',
    section: '8.3',
    step: 'well formed',
    what: 'manifest states this content id, name, version and files',
  },
  {
    id: 'key-file',
    section: '8.2',
    step: 'well formed',
    what: 'key.json follows the format, for this model',
  },
  { id: 'content-id', section: '1.2', step: 'vouched for', what: 'content id is the one that was given' },
  { id: 'signature', section: '8.3', step: 'vouched for', what: 'manifest is signed by the given key' },
  { id: 'oms', section: '12', step: 'vouched for', what: 'Model Signing bundle is signed by the given key' },
  {
    id: 'oms-files',
    section: '12',
    step: 'vouched for',
    what: 'Model Signing bundle states these files, and no other is there',
  },
  { id: 'key', section: '8', step: 'opened by the key', what: 'the data key can be had' },
  {
    id: 'commitment',
    section: '6.2',
    step: 'opened by the key',
    what: 'the data key is the one that the head commits to',
  },
  { id: 'mac', section: '6.3', step: 'opened by the key', what: 'head is as it was sealed' },
  { id: 'digests', section: '7.2', step: 'unaltered', what: 'every segment has the digest in the head' },
  { id: 'tags', section: '7.1', step: 'unaltered', what: 'every chunk is authentic under the key' },
  { id: 'gaps', section: '3.5', step: 'unaltered', what: 'zeros between the files' },
  { id: 'files', section: '8.3', step: 'unaltered', what: 'every file has the SHA-256 in the manifest' },
] as const;

const LEGACY_CHECKS = [
  { id: 'layout', section: '2', step: 'well formed', what: 'file follows its layout' },
  { id: 'tag', section: '5.1', step: 'unaltered', what: 'the message is authentic under the key' },
  { id: 'plaintext', section: '5.1', step: 'unaltered', what: 'the plaintext has the SHA-256 in the file' },
] as const;

export const CHECKS = { sealed: SEALED_CHECKS, legacy: LEGACY_CHECKS } as const;

export type Kind = keyof typeof CHECKS;
type Check = (typeof SEALED_CHECKS)[number] | (typeof LEGACY_CHECKS)[number];
export type CheckId = Check['id'];

export interface CheckResult extends Pick<Check, 'section' | 'step' | 'what'> {
  readonly check: CheckId;
  readonly outcome: 'passed' | 'failed' | 'not-reached' | 'not-asked';
  /** What was found, or why the check failed. */
  readonly detail: string;
}

/** Collects outcomes while a model is verified. */
export class Findings {
  readonly #asked: ReadonlySet<CheckId>;
  readonly #kind: Kind;
  readonly #outcomes = new Map<CheckId, { outcome: 'passed' | 'failed'; detail: string }>();
  #error: StrongroomError | undefined;

  constructor(kind: Kind, asked: Iterable<CheckId>) {
    this.#kind = kind;
    this.#asked = new Set(asked);
  }

  passed(check: CheckId, detail: string): void {
    this.#outcomes.set(check, { outcome: 'passed', detail });
  }

  /** Errors that are not about the model (a bug, a disk that fails) are thrown on. */
  failed(check: CheckId, error: unknown): void {
    if (!(error instanceof StrongroomError)) throw error;
    this.#error ??= error;
    this.#outcomes.set(check, { outcome: 'failed', detail: error.message });
  }

  /** Resolves to what `make` resolves to, or undefined after a failure that is noted. */
  async try<T>(
    check: CheckId,
    make: () => Promise<T> | T,
    detail: (made: T) => string,
  ): Promise<T | undefined> {
    try {
      const made = await make();
      this.passed(check, detail(made));
      return made;
    } catch (error) {
      this.failed(check, error);
      return undefined;
    }
  }

  has(check: CheckId): boolean {
    return this.#outcomes.get(check)?.outcome === 'passed';
  }

  /** The first failure. */
  get error(): StrongroomError | undefined {
    return this.#error;
  }

  results(): readonly CheckResult[] {
    return CHECKS[this.#kind].map(({ id, section, step, what }) => {
      const found = this.#outcomes.get(id);
      const otherwise = this.#asked.has(id) ? 'not-reached' : 'not-asked';
      return {
        check: id,
        section,
        step,
        what,
        outcome: found?.outcome ?? otherwise,
        detail: found?.detail ?? '',
      };
    });
  }
}
