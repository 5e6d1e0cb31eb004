/**
 * The enclave's side of the host service (docs/link.md section 3): everything that the enclave takes from its
 * parent. The parent is hostile. What comes back here is bounded and has the shape that was asked for, and
 * nothing more is known about it: the deployment is measured, model files are authenticated, and tunnels carry
 * TLS that ends inside.
 */
import type { Duplex } from 'node:stream';
import { LinkError } from '../../link/errors.ts';
import { HTTP_LIMITS, type HttpClient, type HttpLimits, httpOverLink } from '../../link/http-client.ts';
import type { Link } from '../../link/link.ts';
import { HOST_SERVICE_PORT } from '../../link/ports.ts';
import {
  type AwsCredentials,
  CREDENTIALS_MAX_BYTES,
  parseAwsCredentials,
} from '../../shared/credentials/aws-credentials.ts';
import { DENY_LIST_MAX_BYTES } from '../../shared/deny-list/deny-list.ts';
import { DEPLOYMENT_MAX_BYTES } from '../../shared/deployment/deployment.ts';
import type { PayloadSource } from '../../shared/sealed-model/source.ts';
import type { TelemetryLine } from '../../shared/telemetry.ts';
import { HostError } from './errors.ts';
import { payloadOverHttp } from './payload.ts';
import { telemetryQueue } from './telemetry.ts';

export type ModelFile = 'head' | 'key.json' | 'manifest.json';

export interface HostService {
  /** The deployment document's bytes, at most 64 KiB. */
  fetchDeployment(): Promise<Uint8Array>;
  /** A signed deny list's bytes, at most 512 KiB. */
  fetchDenyList(): Promise<Uint8Array>;
  fetchModelFile(model: string, file: ModelFile, maxBytes: number): Promise<Uint8Array>;
  /** The payload by ranges; reads run in parallel over pooled connections. */
  payloadSource(model: string, sizeBytes: number): PayloadSource;
  fetchCredentials(): Promise<AwsCredentials>;
  /** A raw stream to host:port through the parent's allow-list. */
  connect(host: string, port: number, timeoutMs: number): Promise<Duplex>;
  /** Fire and forget. */
  sendTelemetry(lines: readonly TelemetryLine[]): void;
  /** Ends the pooled connections. */
  close(): void;
}

export function hostService(link: Link, limits: HttpLimits = HTTP_LIMITS): HostService {
  const http = httpOverLink(link, HOST_SERVICE_PORT, limits);
  const telemetry = telemetryQueue(http);
  return {
    fetchDeployment: () => fetchWhole(http, '/deployment', DEPLOYMENT_MAX_BYTES),
    fetchDenyList: () => fetchWhole(http, '/deny-list', DENY_LIST_MAX_BYTES),
    fetchModelFile: async (model, file, maxBytes) => fetchWhole(http, modelPath(model, file), maxBytes),
    payloadSource: (model, sizeBytes) => payloadOverHttp(http, modelPath(model, 'payload'), sizeBytes),
    fetchCredentials: async () =>
      parseAwsCredentials(await fetchWhole(http, '/credentials', CREDENTIALS_MAX_BYTES)),
    connect: (host, port, timeoutMs) => http.tunnel(`${host}:${port}`, timeoutMs),
    sendTelemetry: (lines) => telemetry.send(lines),
    close: () => http.close(),
  };
}

function fetchWhole(http: HttpClient, path: string, maxBytes: number): Promise<Uint8Array> {
  return http.exchange({
    method: 'GET',
    path,
    status: 200,
    receive: (sizeBytes, contentRange) => {
      if (contentRange !== undefined) {
        throw new LinkError('LINK_ANSWER_MALFORMED', `GET ${path}: expected the whole, found a range.`);
      }
      if (sizeBytes > maxBytes) {
        throw new LinkError(
          'LINK_ANSWER_TOO_LARGE',
          `GET ${path}: expected at most ${maxBytes} bytes, found ${sizeBytes}.`,
        );
      }
      return new Uint8Array(new ArrayBuffer(sizeBytes));
    },
  });
}

/** The deployment's alphabet for model names (docs/deployment.md): nothing that a path gives a meaning to. */
const MODEL_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

function modelPath(model: string, file: ModelFile | 'payload'): string {
  if (!MODEL_NAME.test(model)) {
    throw new HostError('HOST_MODEL_NAME_INVALID', `Expected a model name, found ${JSON.stringify(model)}.`);
  }
  return `/models/${model}/${file}`;
}
