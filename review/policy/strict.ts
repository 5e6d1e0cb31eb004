/** `--profile strict`: only the shape that `strongroom policy generate` writes, for the values that are in it. */
import { readGeneratedPolicy } from './describe.ts';
import { KeyPolicyError } from './errors.ts';
import type { FindingContext } from './findings/access.ts';

export function strictFindings({ findings, remedies, analysis }: FindingContext, policyText: string): void {
  const remedy = remedies.none('Generate the policy with `strongroom policy generate`.');
  try {
    const { releases } = readGeneratedPolicy(policyText);
    const reviewed = analysis.world.reviewed.map(({ registers }) => registers);
    const known = releases.every(({ pcr0, pcr16 }) =>
      reviewed.some((own) => own.pcr0 === pcr0 && (own.pcr16 === undefined || own.pcr16 === pcr16)),
    );
    if (known) return;
    findings.add('not-generated', 'high', undefined, {
      why: 'It is a generated policy, for other releases or deployments than the reviewed ones.',
      remedy,
    });
  } catch (error) {
    if (!(error instanceof KeyPolicyError)) throw error;
    findings.add('not-generated', 'high', undefined, { why: `${error.message}.`, remedy });
  }
}
