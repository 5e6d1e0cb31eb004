/** `--role`: the role of the parent instance, the same for every command that takes one. */
import { isRoleArn } from '../shared/policy/arn.ts';
import { CommandError } from './errors.ts';

/** PCR3 is made of the text, so a text that is not the ARN of a role measures to a register that never occurs. Throws USAGE. */
export function expectRole(arn: string): void {
  if (!isRoleArn(arn)) {
    throw new CommandError(
      'USAGE',
      `--role takes the whole ARN of an IAM role, such as arn:aws:iam::111122223333:role/EnclaveHost, not ${JSON.stringify(arn)}.`,
    );
  }
}
