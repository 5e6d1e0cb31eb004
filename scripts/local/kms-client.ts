import { Agent } from 'node:https';
import { KMSClient } from '@aws-sdk/client-kms';
import { NodeHttpHandler } from '@smithy/node-http-handler';
import { REGION, type RoleName } from '../../simulator/account.ts';
import type { LocalStack } from '../../simulator/local-stack.ts';

/** The real AWS SDK, talking to the local stack's KMS as one of its roles. */
export function localKmsClient(stack: Pick<LocalStack, 'kms' | 'credentials'>, role: RoleName): KMSClient {
  const { host, port, caCertificatePem } = stack.kms;
  return new KMSClient({
    region: REGION,
    endpoint: `https://${host}:${port}`,
    // A copy: the SDK writes into the object that it is given.
    credentials: { ...stack.credentials(role) },
    maxAttempts: 2,
    requestHandler: new NodeHttpHandler({
      httpsAgent: new Agent({
        ca: caCertificatePem,
        keepAlive: false,
        // The name stays the real one, in the certificate and in the signature; only the address is local.
        lookup: (_name, { all }, done) =>
          all === true ? done(null, [{ address: '127.0.0.1', family: 4 }]) : done(null, '127.0.0.1', 4),
      }),
    }),
  });
}
