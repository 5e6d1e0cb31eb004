/**
 * `FAIL`: wrong, and shown to be. `WARNING`: weaker than it could be, or a choice that somebody must stand behind.
 * `MANUAL`: cannot be seen from the bucket; says where to look. `UNKNOWN`: could be seen, but not with what was
 * supplied, so nothing is said about it.
 */
export type Outcome = 'PASS' | 'FAIL' | 'WARNING' | 'MANUAL' | 'UNKNOWN';
export type Severity = 'critical' | 'high' | 'medium' | 'low';

/** A question that is asked of every bucket. */
export interface Check {
  /** Stable: for suppression, for dashboards, for rule ids of SARIF. */
  readonly id: string;
  readonly title: string;
  readonly severity: Severity;
  /** What somebody could do where it fails. */
  readonly why: string;
  readonly remedy: string;
  /** Controls of AWS Security Hub that ask the same. */
  readonly securityHub: readonly string[];
  /** Checks of Prowler that ask the same. */
  readonly prowler: readonly string[];
}

export interface Answer {
  readonly outcome: Outcome;
  /** What was seen. */
  readonly found: string;
  /** Line of the bucket policy that it is about. */
  readonly line?: number;
  /** Keys of the objects that it is about. */
  readonly objects?: readonly string[];
}

export interface Finding extends Check, Answer {}

export const pass = (found: string): Answer => ({ outcome: 'PASS', found });
export const fail = (found: string, line?: number): Answer => ({
  outcome: 'FAIL',
  found,
  ...(line !== undefined && { line }),
});
export const warn = (found: string): Answer => ({ outcome: 'WARNING', found });
export const manual = (found: string): Answer => ({ outcome: 'MANUAL', found });
export const unknown = (found: string): Answer => ({ outcome: 'UNKNOWN', found });
