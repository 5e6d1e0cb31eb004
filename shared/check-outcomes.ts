/** Of checks that are made in order and end with the first that fails, the outcome of each, for a person to follow. */
import type { StrongroomError } from './errors.ts';

interface Check {
  readonly id: string;
  readonly section: string;
  readonly step: string;
  readonly what: string;
}

interface CheckOutcome<C extends Check> {
  readonly check: C['id'];
  readonly section: C['section'];
  readonly step: C['step'];
  readonly what: C['what'];
  readonly outcome: 'passed' | 'failed' | 'not-reached' | 'not-asked';
  /** What was found, or why the check failed; empty if not reached. */
  readonly detail: string;
}

/** `error` belongs to the first check that was asked for and is not among those that passed. */
export function outcomesOf<C extends Check>(
  checks: readonly C[],
  passed: ReadonlyMap<C['id'], string>,
  error: StrongroomError | undefined,
  isAsked: (check: C) => boolean,
): CheckOutcome<C>[] {
  let failed = false;
  return checks.map((check) => {
    const { id, section, step, what } = check;
    const result = (outcome: CheckOutcome<C>['outcome'], detail: string): CheckOutcome<C> => ({
      check: id,
      section,
      step,
      what,
      outcome,
      detail,
    });
    const found = passed.get(id);
    if (found !== undefined) return result('passed', found);
    if (!isAsked(check)) return result('not-asked', '');
    if (error === undefined || failed) return result('not-reached', '');
    failed = true;
    return result('failed', error.message);
  });
}
