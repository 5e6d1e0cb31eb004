/** What was not there to be looked at, and what therefore was assumed. */
import type { Analysis } from './analysis.ts';
import type { NotSupplied } from './report.ts';
import type { PolicyReviewRequest } from './review.ts';
import type { Judgement } from './verdict.ts';

export function notSuppliedOf(
  { supplied, hostRoleArns = [], keyArn, reviewed }: PolicyReviewRequest,
  { world }: Analysis,
  { undecided }: Judgement,
): NotSupplied[] {
  const missing: NotSupplied[] = [];
  const add = (what: string, consequence: string) => missing.push({ what, consequence });
  if (reviewed.length === 0) add('image', 'No image was given, so no digest could be compared with it.');
  else {
    const registers = reviewed.flatMap((one) => Object.keys(one.registers));
    if (!registers.includes('pcr1') || !registers.includes('pcr2')) {
      add('image-registers', 'PCR1 and PCR2 of the image are not known; pins on them were not compared.');
    }
    if (!registers.includes('pcr16')) {
      add('deployment', 'Which deployment runs in the image (PCR16) was not checked.');
    }
  }
  if (hostRoleArns.length === 0) {
    add(
      'host-role',
      world.hostArns.length > 0
        ? `The host of the enclave was taken to be ${world.hostArns.join(', ')}, whom the policy lets in with a document.`
        : 'Which role the host of the enclave has is not known.',
    );
  }
  if (keyArn === undefined && supplied?.keyMetadata?.arn === undefined) {
    add('key-arn', `The key was taken to be in account ${world.accountId}.`);
  }
  if (supplied?.iamPolicies === undefined) {
    add(
      'iam-policies',
      'What IAM allows was not seen: wherever the policy leaves it to IAM, somebody is taken to be allowed.',
    );
  }
  if (supplied?.trustPolicies === undefined) {
    add('trust-policies', 'Who may assume the named roles was not seen.');
  }
  if (supplied?.grants === undefined)
    add('grants', 'Live grants were not seen; they carry no attestation condition.');
  if (supplied?.keyMetadata === undefined) {
    add(
      'key-metadata',
      'Origin, usage and kind of the key were not seen: it was taken for one that KMS made, to encrypt.',
    );
  }
  for (const { what, otherwise } of undecided)
    add(what, `Without it, the verdict could also be ${otherwise}.`);
  for (const name of supplied?.notUnderstood ?? []) {
    add(`context: ${name}`, 'This member of the context file is not known and was not used.');
  }
  add(
    'organisation',
    'Service and resource control policies, permissions boundaries, session and VPC endpoint policies were not seen; they can only narrow.',
  );
  return missing;
}
