import { X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { Agent } from 'node:https';
import { checkServerIdentity } from 'node:tls';
import type { KMSClient } from '@aws-sdk/client-kms';
import { CommandError } from './errors.ts';

const CONNECTION_TIMEOUT_MS = 10_000;
const REQUEST_TIMEOUT_MS = 30_000;

/** Another KMS than AWS's own, such as the simulated one: `--kms-endpoint` and `--kms-ca`. */
export interface KmsPlace {
  readonly endpoint: string | undefined;
  readonly caFile: string | undefined;
}

/** The AWS SDK with the credentials of the standard AWS environment. Throws CommandError USAGE. */
export async function kmsClient(region: string, { endpoint, caFile }: KmsPlace): Promise<KMSClient> {
  if (endpoint !== undefined && !(URL.canParse(endpoint) && new URL(endpoint).protocol === 'https:')) {
    throw new CommandError(
      'USAGE',
      `--kms-endpoint must be an https:// URL, not ${JSON.stringify(endpoint)}.`,
    );
  }
  const { KMSClient } = await import('@aws-sdk/client-kms');
  const { NodeHttpHandler } = await import('@smithy/node-http-handler');
  return new KMSClient({
    region,
    ...(endpoint === undefined ? {} : { endpoint }),
    requestHandler: new NodeHttpHandler({
      connectionTimeout: CONNECTION_TIMEOUT_MS,
      requestTimeout: REQUEST_TIMEOUT_MS,
      throwOnRequestTimeout: true,
      ...(caFile === undefined ? {} : { httpsAgent: await agentFor(region, caFile) }),
    }),
  });
}

/** The simulated KMS is reached at 127.0.0.1 and shows a certificate for the name that enclaves know it by. */
async function agentFor(region: string, caFile: string): Promise<Agent> {
  const kmsHost = `kms.${region}.amazonaws.com`;
  return new Agent({
    ca: await readCertificate(caFile),
    checkServerIdentity: (host, certificate) => {
      const fault = checkServerIdentity(host, certificate);
      return fault !== undefined && checkServerIdentity(kmsHost, certificate) === undefined
        ? undefined
        : fault;
    },
  });
}

async function readCertificate(path: string): Promise<Buffer> {
  const pem = await readFile(path);
  try {
    new X509Certificate(pem);
    return pem;
  } catch (cause) {
    throw new CommandError('USAGE', `--kms-ca must be a certificate in PEM; ${path} is none.`, cause);
  }
}
