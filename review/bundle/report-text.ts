/** What the verification of a bundle says, for people and as JSON. */
import type { CheckResult } from './checks.ts';
import type { BundleVerification } from './verify.ts';

const MARKS: Readonly<Record<CheckResult['outcome'], string>> = {
  passed: '[x]',
  failed: '[!]',
  undecided: '[?]',
  'not-asked': '[-]',
  'not-reached': '[ ]',
};

/** The verdict first, then every check as a person would tick it off, then what nobody vouches for. */
export function bundleText(verification: BundleVerification): string {
  const { checks, error, verdict, sentence, registers, release, models } = verification;
  const lines = [conclusionOf(verification)];
  if (error !== undefined) lines.push(`  code: ${error.code}`, `  next: ${error.action}`);
  let step = '';
  for (const check of checks) {
    if (check.step !== step) lines.push('', `Is it ${check.step}?`);
    step = check.step;
    lines.push(`  ${MARKS[check.outcome]} ${check.section.padEnd(4)} ${check.what}`);
    if (check.detail !== '') lines.push(`           ${check.detail}`);
  }
  lines.push('', 'What it is of:');
  if (release !== undefined) lines.push(`  release   ${release}`);
  for (const [name, value] of Object.entries(registers)) lines.push(`  ${name.padEnd(9)} ${value}`);
  for (const { name, version } of models) lines.push(`  model     ${name} version ${version}`);
  if (verdict !== undefined) lines.push(`  policy    ${verdict}: ${sentence}`);
  lines.push('', 'Not proven:', ...notProven(verification).map((line) => `  - ${line}`));
  return `${lines.join('\n')}\n`;
}

export function conclusionOf({ error, at, trust, sentence }: BundleVerification): string {
  if (error !== undefined) return `${error.exitCode === 3 ? 'Cannot decide' : 'Refused'}: ${error.message}`;
  const simulated = trust === 'simulation' ? ', IN SIMULATION' : '';
  return `In order at ${at?.toISOString()}${simulated}: image, deployment, attestation and key policy belong together. ${sentence}`;
}

/** What whoever relies on the bundle has to know from elsewhere. */
export function notProven({ checks, index, trust }: BundleVerification): string[] {
  const outcome = (id: CheckResult['check']) => checks.find(({ check }) => check === id)?.outcome;
  const lines: string[] = [];
  if (outcome('signature') !== 'passed') {
    lines.push(
      `who made this bundle: it says strongroom ${index.toolVersion} on ${index.made.toISOString()}, and nobody vouches for that`,
    );
  }
  if (outcome('image-file') !== 'passed')
    lines.push('that the registers are those of an image you have: give --image to measure it');
  if (outcome('models') !== 'passed') lines.push('which models were loaded: no model manifest was checked');
  if (trust === 'simulation')
    lines.push('anything about hardware: the attestation is under the root of a simulation');
  lines.push('that this policy is the one in force: compare with kms:GetKeyPolicy, and read the trail');
  return lines;
}

/** docs/evidence-bundle.md section 8 documents every member. */
export function bundleJson(verification: BundleVerification): object {
  const { checks, error, index, at, trust, registers, release, models, verdict, sentence } = verification;
  return {
    schema: { name: 'strongroom-evidence-verification', version: 1 },
    inOrder: error === undefined,
    code: error?.code ?? null,
    message: error?.message ?? null,
    action: error?.action ?? null,
    at: at?.toISOString() ?? null,
    trust: trust ?? null,
    made: index.made.toISOString(),
    toolVersion: index.toolVersion,
    hostRole: index.hostRoleArn ?? null,
    key: index.keyArn ?? null,
    release: release ?? null,
    registers,
    models: models.map(({ name, version, contentId }) => ({ name, version, contentId })),
    verdict: verdict ?? null,
    sentence: sentence ?? null,
    checks,
    notProven: notProven(verification),
  };
}
