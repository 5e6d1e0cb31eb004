/**
 * The AWS SDK's KMS client with every choice made here (docs/flow.md, step 5).
 *
 * Left to itself the SDK reads AWS_* variables, shared configuration files, proxies and provider chains, and in
 * an enclave all of those belong to the host. So each setting is given, the endpoint is computed from the key's
 * ARN, and the only way out is one CONNECT through the parent to that host, with TLS ending in this process.
 */
import { Agent } from 'node:https';
import type { Duplex } from 'node:stream';
import { connect, type TLSSocket } from 'node:tls';
import { KMSClient } from '@aws-sdk/client-kms';
import { NodeHttpHandler } from '@smithy/node-http-handler';
import type { KmsKey } from '../../shared/deployment/kms-key.ts';
import { TLS_PROFILE } from '../../shared/tls-profile.ts';
import type { HostService } from '../host/host-service.ts';

export interface KmsConnection {
  readonly host: Pick<HostService, 'connect' | 'fetchCredentials'>;
  /** The PEM certificates that TLS to KMS may lead to. Nothing else is trusted. */
  readonly roots: readonly string[];
}

const CONNECT_TIMEOUT_MS = 10_000;
const REQUEST_TIMEOUT_MS = 20_000;
const ATTEMPTS = 3;

/** One client for one key's regional endpoint. The caller destroys it when the data key is there. */
export function createKmsClient(key: KmsKey, connection: KmsConnection): KMSClient {
  return new KMSClient({
    region: key.region,
    endpoint: `https://${key.host}`,
    credentials: async () => {
      const { accessKeyId, secretAccessKey, sessionToken, expiration } =
        await connection.host.fetchCredentials();
      return { accessKeyId, secretAccessKey, sessionToken, expiration };
    },
    requestHandler: new NodeHttpHandler({
      httpsAgent: new TunnelAgent(key.host, connection),
      connectionTimeout: CONNECT_TIMEOUT_MS,
      requestTimeout: REQUEST_TIMEOUT_MS,
      throwOnRequestTimeout: true,
    }),
    maxAttempts: ATTEMPTS,
    retryMode: 'standard',
    defaultsMode: 'standard',
    useDualstackEndpoint: false,
    useFipsEndpoint: false,
    userAgentAppId: 'strongroom',
    // The SDK's own would describe the environment to KMS.
    defaultUserAgentProvider: async () => [['strongroom']],
    authSchemePreference: ['aws.auth#sigv4'],
    // The clock is checked against the NSM's; and left open, this setting is looked for in the shared files.
    disableClockSkewCorrection: true,
    profile: 'none',
    logger: { trace() {}, debug() {}, info() {}, warn() {}, error() {} },
  });
}

type OnConnection = (error: Error | null, socket: Duplex) => void;

/** An https agent whose connections are tunnels through the parent to one host, and to no other. */
class TunnelAgent extends Agent {
  readonly #host: string;
  readonly #connection: KmsConnection;

  constructor(host: string, connection: KmsConnection) {
    super({ keepAlive: false, maxCachedSessions: 0 });
    this.#host = host;
    this.#connection = connection;
  }

  // The signature is node:http's; a socket that comes later is handed to the callback.
  override createConnection(_options: unknown, callback?: OnConnection): undefined {
    this.#open().then(
      (socket) => callback?.(null, socket),
      (error: Error) => (callback as ((error: Error) => void) | undefined)?.(error),
    );
    return undefined;
  }

  async #open(): Promise<TLSSocket> {
    const tunnel = await this.#connection.host.connect(this.#host, 443, CONNECT_TIMEOUT_MS);
    const secure = connect({
      ...TLS_PROFILE,
      socket: tunnel,
      servername: this.#host,
      ca: [...this.#connection.roots],
      rejectUnauthorized: true,
      ALPNProtocols: ['http/1.1'],
    });
    await new Promise<void>((resolve, reject) => {
      const deadline = setTimeout(
        () => secure.destroy(new Error(`TLS with ${this.#host} took more than ${CONNECT_TIMEOUT_MS} ms`)),
        CONNECT_TIMEOUT_MS,
      );
      secure.once('secureConnect', () => {
        clearTimeout(deadline);
        resolve();
      });
      secure.once('error', (error) => {
        clearTimeout(deadline);
        reject(error);
      });
    });
    // The SDK's own deadline ends with the headers of an answer. This connection serves one exchange.
    const exchange = setTimeout(
      () => secure.destroy(new Error(`${this.#host} took more than ${REQUEST_TIMEOUT_MS} ms`)),
      REQUEST_TIMEOUT_MS,
    );
    secure.once('close', () => clearTimeout(exchange));
    return secure;
  }
}
