import { type ErrorTable, StrongroomError } from '../shared/errors.ts';

export const parentErrors = {
  PARENT_CONFIG_INVALID: {
    exit: 2,
    means: "The parent's configuration is not the strict JSON that this version reads.",
    action: 'Correct the named member; docs/link.md lists every member with its bounds.',
  },
  PARENT_LISTEN_FAILED: {
    exit: 2,
    means: 'The parent cannot listen for callers on the configured address.',
    action: 'Free the port or configure another; port 0 takes any free one.',
  },
  PARENT_RELOAD_REFUSED: {
    exit: 2,
    means: 'The new configuration changes something that a running parent cannot change.',
    action:
      'Restart the parent for changes of link or ingress; egress, deployment, models and credentials reload.',
  },
  PARENT_CREDENTIALS_UNAVAILABLE: {
    exit: 3,
    means: 'The parent has no AWS credentials to hand to the enclave.',
    action:
      'Check the credentials file, or that the instance has a role and its metadata service answers IMDSv2.',
  },
  PARENT_EGRESS_DENIED: {
    exit: 1,
    means: 'The enclave asked for a destination that the operator does not allow.',
    action:
      'If the destination is right, add its exact host and port to egress; nothing else is ever reachable.',
  },
  PARENT_EGRESS_FAILED: {
    exit: 3,
    means: 'An allowed destination could not be resolved or reached.',
    action: 'Check DNS, routes and security groups of the host for this destination.',
  },
} as const satisfies ErrorTable;

export class ParentError extends StrongroomError<keyof typeof parentErrors> {
  constructor(code: keyof typeof parentErrors, message: string, cause?: unknown) {
    super(parentErrors, code, message, cause);
  }
}
