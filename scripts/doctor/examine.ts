/** Runs the checks in order, one after the other: the first finding is usually the cause of the next. */
import { allocatorGroup } from './allocator.ts';
import type { Check, CheckGroup, Known, Result } from './check.ts';
import { messageOf, skipped, undecided } from './check.ts';
import { clockGroup } from './clock.ts';
import { configurationGroup } from './configuration.ts';
import { credentialsGroup } from './credentials.ts';
import { denyListGroup } from './deny-list.ts';
import { hostGroup } from './host.ts';
import { kmsGroup } from './kms.ts';
import { modelsGroup } from './models.ts';
import { nitroGroup } from './nitro.ts';
import { portsGroup } from './ports.ts';
import { sizeGroup } from './size.ts';
import { vsockGroup } from './vsock.ts';
import type { World } from './world.ts';

const GROUPS: readonly CheckGroup[] = [
  hostGroup,
  configurationGroup,
  nitroGroup,
  allocatorGroup,
  vsockGroup,
  credentialsGroup,
  modelsGroup,
  denyListGroup,
  sizeGroup,
  kmsGroup,
  clockGroup,
  portsGroup,
];

export interface Finding extends Result {
  readonly id: string;
  readonly group: string;
  readonly why: string;
}

export async function* examine(world: World): AsyncGenerator<Finding> {
  const known: Known = {};
  const results = new Map<string, Result>();
  for (const { title, checks } of GROUPS) {
    for (const check of checks(world, known)) {
      const result = await runCheck(check, results);
      results.set(check.id, result);
      yield { id: check.id, group: title, why: check.why, ...result };
    }
  }
}

async function runCheck(check: Check, results: ReadonlyMap<string, Result>): Promise<Result> {
  const missing = check.needs?.find((id) => isMissing(results.get(id)));
  if (missing !== undefined) return skipped(`It needs ${missing}.`);
  try {
    return await check.run();
  } catch (error) {
    return undecided(`It could not be told: ${messageOf(error)}`);
  }
}

/** What nobody could tell does not stop the checks behind it. */
function isMissing(result: Result | undefined): boolean {
  if (result === undefined || result.outcome === 'problem') return true;
  return result.outcome === 'skipped' && result.undecided !== true;
}

/** 1 with a problem, 3 when one could be hidden behind a check that could not tell, else 0. */
export function exitCodeOf(findings: readonly Finding[]): 0 | 1 | 3 {
  if (findings.some(({ outcome }) => outcome === 'problem')) return 1;
  return findings.some((finding) => finding.undecided === true) ? 3 : 0;
}
