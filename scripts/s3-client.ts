import { Agent } from 'node:http';
import { Agent as TlsAgent } from 'node:https';
import { S3Client } from '@aws-sdk/client-s3';
import { NodeHttpHandler } from '@smithy/node-http-handler';
import { loadTls } from '../parent/load-tls.ts';
import { isLoopbackUrl } from '../parent/loopback.ts';
import { CommandError } from './errors.ts';

const CONNECTION_TIMEOUT_MS = 10_000;
/** Of silence: how long a part takes depends on the line. */
const SOCKET_TIMEOUT_MS = 60_000;
const ATTEMPTS = 5;

/** For `parseArgs`. */
export const S3_PLACE_OPTIONS = {
  region: { type: 'string' },
  endpoint: { type: 'string' },
  ca: { type: 'string' },
} as const;

export const S3_PLACE_HELP = `
S3 is reached with your standard AWS environment. Also:
      --region REGION       the bucket's region, if your AWS environment names none
      --endpoint URL        another server that speaks S3's protocol, https://HOST[:PORT]
      --ca FILE             whose certificates it may have (PEM); default: the public roots
`.trim();

export interface S3Place {
  readonly region?: string | undefined;
  readonly endpoint?: string | undefined;
  readonly ca?: string | undefined;
}

export interface OwnS3Client extends Disposable {
  readonly client: S3Client;
  readonly region: string;
}

/**
 * The AWS SDK with the credentials of the standard AWS environment, over TLS 1.3. Buckets of other servers rarely
 * have a name of their own, so with `endpoint` they stand in the path. Throws CommandError USAGE.
 */
export async function s3Client({ region: given, endpoint, ca }: S3Place, lanes = 1): Promise<OwnS3Client> {
  if (endpoint !== undefined) expectEndpoint(endpoint);
  const region = given ?? (await regionOfEnvironment());
  const { context: secureContext } = loadTls(ca === undefined ? {} : { ca });
  const connections = { keepAlive: true, maxSockets: lanes + 4 };
  const httpsAgent = new TlsAgent({ ...connections, secureContext, maxCachedSessions: 0 });
  const httpAgent = new Agent(connections);
  const client = new S3Client({
    region,
    endpoint: endpoint ?? `https://s3.${region}.amazonaws.com`,
    forcePathStyle: endpoint !== undefined,
    maxAttempts: ATTEMPTS,
    // Publishing says itself what the SHA-256 of a body is; the SDK adds checksums only where S3 demands one.
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    followRegionRedirects: false,
    requestHandler: new NodeHttpHandler({
      httpsAgent,
      httpAgent,
      connectionTimeout: CONNECTION_TIMEOUT_MS,
      socketTimeout: SOCKET_TIMEOUT_MS,
    }),
  });
  return {
    client,
    region,
    [Symbol.dispose]() {
      client.destroy();
    },
  };
}

async function regionOfEnvironment(): Promise<string> {
  try {
    return await new S3Client({}).config.region();
  } catch (cause) {
    throw new CommandError('USAGE', 'Which region? Give --region, or set AWS_REGION.', cause);
  }
}

/** Plain HTTP only to an address of this machine. */
function expectEndpoint(endpoint: string): void {
  const url = URL.canParse(endpoint) ? new URL(endpoint) : undefined;
  const isOrigin = url !== undefined && `${url.protocol}//${url.host}` === endpoint.toLowerCase();
  if (isOrigin && (url.protocol === 'https:' || (url.protocol === 'http:' && isLoopbackUrl(url)))) return;
  throw new CommandError(
    'USAGE',
    `--endpoint must be https://HOST[:PORT], or http:// with a loopback address, not ${JSON.stringify(endpoint)}.`,
  );
}
