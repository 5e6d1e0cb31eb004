/**
 * Sealed models in S3: `s3://BUCKET/PREFIX/NAME.sealed/FILE`, by the AWS SDK with every choice made here.
 *
 * Left to itself the SDK reads AWS_* variables, shared configuration files and provider chains. Here the
 * credentials are those that the parent hands to its enclave, and all else comes from the parent's configuration.
 * Trying again is left to remote.ts, which also continues bodies: the SDK makes one attempt.
 */
import { Agent } from 'node:http';
import { Agent as TlsAgent } from 'node:https';
import type { Readable } from 'node:stream';
import { GetObjectCommand, HeadObjectCommand, S3Client, S3ServiceException } from '@aws-sdk/client-s3';
import { codeOf } from '../../shared/errors.ts';
import type { S3ModelsConfig } from '../config/models.ts';
import type { CredentialsProvider } from '../credentials/provider.ts';
import type { LoadedTls } from '../load-tls.ts';
import type { WatchedTls } from '../tls-files.ts';
import { AGENT_OPTIONS, closeIdle } from './connections.ts';
import { changed, failureOfStatus, malformed, unavailable } from './failure.ts';
import type { Remote } from './remote.ts';

const ERROR_MAX_BYTES = 64 * 1024;

export function s3Remote(config: S3ModelsConfig, credentials: CredentialsProvider, tls: WatchedTls): Remote {
  const httpAgent = new Agent(AGENT_OPTIONS);
  const connect = (from: LoadedTls) => {
    const httpsAgent = new TlsAgent({ ...AGENT_OPTIONS, secureContext: from.context });
    return { from, httpsAgent, client: createClient(config, credentials, { httpsAgent, httpAgent }) };
  };
  let connected = connect(tls.current());
  /** Connections made with an older CA are not used again; what is being read over them finishes. */
  const currentClient = (): S3Client => {
    const now = tls.current();
    if (now !== connected.from) {
      closeIdle(connected.httpsAgent);
      connected = connect(now);
    }
    return connected.client;
  };
  const place = (path: string) => ({
    Bucket: config.bucket,
    Key: config.prefix === undefined ? path : `${config.prefix}/${path}`,
  });

  return {
    look: async (path, abortSignal) => {
      try {
        const found = await currentClient().send(new HeadObjectCommand(place(path)), { abortSignal });
        if (found.ETag === undefined || !Number.isSafeInteger(found.ContentLength)) {
          throw malformed('no-length', 'HeadObject without a length or an ETag.');
        }
        return { sizeBytes: Number(found.ContentLength), etag: found.ETag };
      } catch (error) {
        if (statusOf(error) === 404) return undefined;
        throw failureOf(error);
      }
    },
    fetch: async (path, { sizeBytes, etag }, { first, last }, abortSignal) => {
      const command = new GetObjectCommand({
        ...place(path),
        Range: `bytes=${first}-${last}`,
        IfMatch: String(etag),
      });
      try {
        const answer = await currentClient().send(command, { abortSignal });
        const body = answer.Body as Readable;
        try {
          if (answer.$metadata.httpStatusCode !== 206)
            throw malformed('range-ignored', 'The range was ignored.');
          if (answer.ETag !== etag) throw changed();
          if (
            answer.ContentRange !== `bytes ${first}-${last}/${sizeBytes}` ||
            answer.ContentLength !== last - first + 1
          ) {
            throw malformed('wrong-range', 'Another range than the one asked for.');
          }
          return body;
        } catch (error) {
          body.destroy();
          throw error;
        }
      } catch (error) {
        if (statusOf(error) === 404) throw changed();
        throw failureOf(error);
      }
    },
    close: () => closeIdle(connected.httpsAgent, httpAgent),
  };
}

function createClient(
  { region, endpoint }: S3ModelsConfig,
  credentials: CredentialsProvider,
  agents: { readonly httpsAgent: TlsAgent; readonly httpAgent: Agent },
): S3Client {
  return new S3Client({
    region,
    // Given always: without it the SDK looks for AWS_ENDPOINT_URL. Of AWS's it makes BUCKET.s3.REGION; other
    // servers rarely have a name for each bucket.
    endpoint: endpoint ?? `https://s3.${region}.amazonaws.com`,
    forcePathStyle: endpoint !== undefined,
    credentials: async () => {
      const { accessKeyId, secretAccessKey, sessionToken, expiration } = await credentials.provide();
      return { accessKeyId, secretAccessKey, sessionToken, expiration };
    },
    // Deadlines are the caller's, by its signal.
    requestHandler: { ...agents, connectionTimeout: 0, requestTimeout: 0, socketTimeout: 0 },
    streamCollector: collectBounded,
    maxAttempts: 1,
    retryMode: 'standard',
    defaultsMode: 'standard',
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    useDualstackEndpoint: false,
    useFipsEndpoint: false,
    useArnRegion: false,
    disableMultiregionAccessPoints: true,
    disableS3ExpressSessionAuth: true,
    followRegionRedirects: false,
    sigv4aSigningRegionSet: [region],
    authSchemePreference: ['aws.auth#sigv4'],
    disableClockSkewCorrection: true,
    userAgentAppId: 'strongroom',
    defaultUserAgentProvider: async () => [['strongroom']],
    profile: 'none',
    logger: { trace() {}, debug() {}, info() {}, warn() {}, error() {} },
  });
}

/** The text of an error; the SDK would take one of any length. */
async function collectBounded(stream: Readable): Promise<Uint8Array> {
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    sizeBytes += chunk.length;
    if (sizeBytes > ERROR_MAX_BYTES) throw malformed('too-long', 'An error with too much text.');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

function failureOf(error: unknown): unknown {
  if (codeOf(error) === 'PARENT_CREDENTIALS_UNAVAILABLE') {
    return unavailable('no-credentials', 'There are no credentials to ask S3 with.');
  }
  const status = statusOf(error);
  return status === undefined ? error : failureOfStatus(status);
}

/** The status of an answer that the SDK took for an error. */
function statusOf(error: unknown): number | undefined {
  return error instanceof S3ServiceException ? error.$metadata.httpStatusCode : undefined;
}
