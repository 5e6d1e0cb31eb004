/** What `strongroom rewrap` says: what became of each wrap, and what must happen before a new one is of use. */
import type { RewrapResult, WrapOutcome } from '../owner/key-life/rewrap.ts';
import type { RewrapReport } from '../owner/key-life/rewrap-all.ts';
import type { DeploymentVerdict } from '../owner/key-life/stranding.ts';

export function describeRewrap(result: RewrapResult): string {
  const { folder, name, version, contentId, changed, wraps, deployments } = result;
  return lines([
    changed
      ? `rewrapped ${name} version ${version}: ${folder}/key.json was replaced`
      : `${name} version ${version} needs nothing: ${folder}/key.json is as it was`,
    `content id ${contentId}, as before`,
    ...wraps.map((wrap) => `  ${describeWrap(wrap)}`),
    ...describeDeployments(deployments, wraps),
  ]);
}

function describeWrap({ keyArn, outcome, fromMaterial, toMaterial }: WrapOutcome): string {
  const sameMaterial = fromMaterial !== undefined && fromMaterial === toMaterial;
  const detail =
    outcome === 'renewed' && sameMaterial
      ? ` (its material ${toMaterial} was the newest already)`
      : outcome === 'renewed' && toMaterial !== undefined
        ? ` (material ${fromMaterial} to ${toMaterial})`
        : outcome === 'current'
          ? ' (of the newest material, by its label)'
          : '';
  return `${outcome.padEnd(8)} ${keyArn}${detail}`;
}

function describeDeployments(
  deployments: readonly DeploymentVerdict[],
  wraps: readonly WrapOutcome[],
): readonly string[] {
  const added = wraps.filter(({ outcome }) => outcome === 'added').map(({ keyArn }) => keyArn);
  if (deployments.length === 0 && added.length > 0) {
    return [
      'No deployment was given, so none was checked. One that lists the new key needs nothing but this key.json;',
      'for any other, using the new key takes a new deployment (--deployment FILE tells which).',
    ];
  }
  return deployments.flatMap((verdict) => {
    const { deployment } = verdict;
    if (!verdict.concerns) return [`${deployment}: ${verdict.why}; not concerned`];
    const { opensWith, openedWith, unused } = verdict;
    const first =
      openedWith === opensWith || openedWith === undefined
        ? `${deployment}: key.json alone suffices; it opens with ${opensWith}`
        : `${deployment}: key.json alone suffices; it now opens with ${opensWith}, whose policy must allow this image and PCR16`;
    if (unused.length === 0) return [first];
    return [
      `${deployment}: goes on opening with ${opensWith}`,
      `  it does not list ${unused.join(', ')}: using that takes a new deployment, hence a new PCR16, a new`,
      `  statement in that key's policy ("strongroom policy generate") and a new expectation of its callers`,
    ];
  });
}

export interface RewrapSummary {
  readonly done: number;
  readonly current: number;
  readonly refused: number;
  readonly unreachable: number;
  readonly notReached: number;
}

export function summaryOf(reports: readonly RewrapReport[]): RewrapSummary {
  const count = (outcome: RewrapReport['outcome']): number =>
    reports.filter((report) => report.outcome === outcome).length;
  return {
    done: count('done'),
    current: count('current'),
    refused: count('refused'),
    unreachable: count('unreachable'),
    notReached: count('not-reached'),
  };
}

export function describeReport(reports: readonly RewrapReport[]): string {
  const { done, current, refused, unreachable, notReached } = summaryOf(reports);
  return lines([
    ...reports.map((report) => {
      const line = `${report.outcome.padEnd(11)}  ${report.folder}`;
      return 'error' in report ? `${line}  ${report.error.code}: ${report.error.message}` : line;
    }),
    `${done} rewrapped, ${current} needed nothing, ${refused} refused, ${unreachable} without an answer, ${notReached} not reached`,
    ...(refused + unreachable + notReached > 0
      ? ['Run it again for the rest; what is done is recognised.']
      : []),
  ]);
}

/** What was refused needs somebody; what got no answer needs another run. */
export function exitOfReports(reports: readonly RewrapReport[]): number {
  if (reports.some(({ outcome }) => outcome === 'refused')) return 1;
  return reports.some((report) => 'error' in report) ? 3 : 0;
}

function lines(all: readonly string[]): string {
  return `${all.join('\n')}\n`;
}
