/** What a check of `strongroom doctor` is, and the results that it can have. */
import type { ParentConfig } from '../../parent/config/config.ts';
import type { Deployment } from '../../shared/deployment/deployment.ts';
import type { World } from './world.ts';

export type Outcome = 'ok' | 'warning' | 'problem' | 'skipped';

export interface Result {
  readonly outcome: Outcome;
  /** What was found; for a skipped check, why it was skipped. */
  readonly found: string;
  /** What to do about a warning or a problem. */
  readonly action?: string;
  /** Skipped because nobody could tell, and not because it does not apply. */
  readonly undecided?: true;
}

export interface Check {
  /** Stable, for example `nitro.device`. */
  readonly id: string;
  /** What goes wrong without it. */
  readonly why: string;
  /** Checks without which this one says nothing new. */
  readonly needs?: readonly string[];
  run(): Promise<Result>;
}

/** What earlier checks have found out, for later ones. */
export interface Known {
  config?: ParentConfig;
  deployment?: Deployment;
  /** This host's clock minus that of KMS. */
  clockOffsetMs?: number;
}

export interface CheckGroup {
  readonly title: string;
  /** Asked when its turn has come, so that there can be one check for each thing that was found before. */
  checks(world: World, known: Known): readonly Check[];
}

export function ok(found: string): Result {
  return { outcome: 'ok', found };
}

export function warning(found: string, action: string): Result {
  return { outcome: 'warning', found, action };
}

export function problem(found: string, action: string): Result {
  return { outcome: 'problem', found, action };
}

export function skipped(found: string): Result {
  return { outcome: 'skipped', found };
}

export function undecided(found: string): Result {
  return { outcome: 'skipped', found, undecided: true };
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
