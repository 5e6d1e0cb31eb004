import { type ErrorTable, StrongroomError } from '../shared/errors.ts';

export const parentErrors = {
  PARENT_CONFIG_INVALID: {
    exit: 2,
    means: "The parent's configuration is not the strict JSON that this version reads.",
    action: 'Correct the named member; docs/link.md lists every member with its bounds.',
  },
  PARENT_LISTEN_FAILED: {
    exit: 2,
    means: 'The parent cannot listen on a configured address.',
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
  PARENT_MODELS_UNAVAILABLE: {
    exit: 3,
    means: 'The store of sealed models could not be reached, failed, or fell silent, also when tried again.',
    action:
      'Check the network path to the store (routes, security groups, VPC endpoint) and its state; the enclave asks again at its next start.',
  },
  PARENT_MODELS_REFUSED: {
    exit: 1,
    means: 'The store of sealed models does not let this parent read.',
    action:
      'For S3 give the role s3:GetObject on the prefix, and s3:ListBucket so that an absent file is told apart; for a registry check the client certificate and its permissions.',
  },
  PARENT_MODELS_CHANGED: {
    exit: 3,
    means: 'A file of a sealed model was replaced or removed while it was being read.',
    action: 'Publish a new version under a name of its own, then start the enclave again.',
  },
  PARENT_MODELS_MALFORMED: {
    exit: 1,
    means: 'The store of sealed models did not answer with exactly the bytes that were asked for.',
    action:
      'Use a server that answers HEAD with a Content-Length and GET with single ranges, without redirects and compression; for S3 check bucket, region and endpoint.',
  },
  PARENT_MODELS_TLS: {
    exit: 1,
    means:
      'TLS 1.3 with the store of sealed models failed, or one side did not accept the other certificate.',
    action:
      'Check, by the reason in the log, the CA file, the name and the dates of the server certificate, that the server speaks TLS 1.3, and that it accepts the client certificate.',
  },
  PARENT_TLS_FILES_UNUSABLE: {
    exit: 2,
    means: 'The CA, certificate or key file of a TLS connection is missing, or they do not belong together.',
    action:
      'Give PEM files: the CA certificates, the chain with the leaf first, and its unencrypted private key; replace all of them, then reload.',
  },
} as const satisfies ErrorTable;

export type ParentErrorCode = keyof typeof parentErrors;

export class ParentError extends StrongroomError<ParentErrorCode> {
  constructor(code: ParentErrorCode, message: string, cause?: unknown) {
    super(parentErrors, code, message, cause);
  }
}
