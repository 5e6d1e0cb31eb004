import { type ErrorTable, StrongroomError } from '../errors.ts';

export const deploymentErrors = {
  DEPLOYMENT_MALFORMED: {
    exit: 2,
    means: 'The deployment document is not the strict JSON that this version reads.',
    action: 'Correct the named member; docs/deployment.md lists every member with its bounds.',
  },
  KMS_KEY_ARN_INVALID: {
    exit: 2,
    means: 'A KMS key is not named by its full key ARN.',
    action: 'Use arn:aws:kms:REGION:ACCOUNT:key/ID; aliases and bare ids can be redirected and are refused.',
  },
} as const satisfies ErrorTable;

export class DeploymentError extends StrongroomError<keyof typeof deploymentErrors> {
  constructor(code: keyof typeof deploymentErrors, message: string, cause?: unknown) {
    super(deploymentErrors, code, message, cause);
  }
}
