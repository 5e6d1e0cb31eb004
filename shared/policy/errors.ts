import { type ErrorTable, StrongroomError } from '../errors.ts';

export const policyErrors = {
  POLICY_TOO_LARGE: {
    exit: 2,
    means: 'The policy document is larger than AWS stores.',
    action: 'Shorten the policy: a key policy has at most 32,768 bytes.',
  },
  POLICY_JSON: {
    exit: 2,
    means: 'The policy document is not strict JSON, so two parsers could read it differently.',
    action: 'Write plain JSON without repeated members, at the line that the message names.',
  },
  POLICY_VERSION: {
    exit: 2,
    means: 'The policy document names a version of the policy language that does not exist.',
    action: 'Use "Version": "2012-10-17".',
  },
  POLICY_ELEMENT: {
    exit: 2,
    means: 'A policy element is missing, unknown, or of the wrong type.',
    action: 'Spell the elements exactly as the IAM policy grammar does; names and Effect are case-sensitive.',
  },
  POLICY_PRINCIPAL: {
    exit: 2,
    means: 'A principal is not in a form that AWS accepts.',
    action: 'Name an account, role, user or session by its whole ARN; patterns belong in aws:PrincipalArn.',
  },
  POLICY_ACTION: {
    exit: 2,
    means: 'An action is not written as service:Name.',
    action: 'Write actions such as "kms:Decrypt"; wildcards may stand in the name, not in the service.',
  },
  POLICY_CONDITION: {
    exit: 2,
    means:
      'A condition uses an unknown operator, a key or an operator AWS refuses there, or a value of the wrong type.',
    action: 'Write conditions as {"Operator": {"key": "value"}} with operators from the IAM user guide.',
  },
  POLICY_WRITE: {
    exit: 2,
    means: 'KMS would not store this key policy today.',
    action: 'Change the statement that the message names, or expect MalformedPolicyDocumentException.',
  },
  POLICY_GRANT: {
    exit: 2,
    means: 'A grant is incomplete, or has a constraint that is not known here.',
    action: 'Pass grants as kms:ListGrants returns them.',
  },
  POLICY_REQUEST: {
    exit: 2,
    means: 'A request cannot be decided because its caller, action or key is not well formed.',
    action: 'Name the caller by a whole ARN, the action as kms:Name and the key by its key ARN.',
  },
} as const satisfies ErrorTable;

export type PolicyErrorCode = keyof typeof policyErrors;

export class PolicyError extends StrongroomError<PolicyErrorCode> {
  constructor(code: PolicyErrorCode, message: string, cause?: unknown) {
    super(policyErrors, code, message, cause);
  }
}
