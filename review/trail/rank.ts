import { SEVERITIES, type Severity } from './codes.ts';

/** Smaller is worse. */
export function rank(severity: Severity): number {
  return SEVERITIES.indexOf(severity);
}
