/**
 * An S3 for one simulation: HeadObject, GetObject and PutObject of whole objects in memory, path-style
 * (`/BUCKET/KEY`), on this machine. Requests must carry a Signature Version 4 of a known access
 * key for this region with its session token; the signature itself is not computed, and no policy is evaluated.
 */
import { randomUUID } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { answerObject, newObject, type StoredObject } from './objects.ts';

export interface S3Principal {
  readonly accessKeyId: string;
  readonly sessionToken: string;
}

export interface SimulatedS3Options {
  readonly region: string;
  readonly buckets: readonly string[];
  readonly principals: readonly S3Principal[];
  readonly now: () => Date;
  /** PEM; plain HTTP without. */
  readonly tls?: { readonly cert: string; readonly key: string };
}

export interface SimulatedS3 {
  /** `http://127.0.0.1:PORT`, or `https://`. */
  readonly endpoint: string;
  /** By `BUCKET/KEY`. */
  readonly objects: Map<string, StoredObject>;
  /** Sees each request first and may answer in place of S3; true if it did. */
  intercept: (request: IncomingMessage, response: ServerResponse) => boolean;
  close(): Promise<void>;
}

const OBJECT_MAX_BYTES = 256 * 1024 * 1024;
/** `/BUCKET/KEY`, with the operation's name that the SDK adds. */
const TARGET = /^\/([a-z0-9.-]{3,63})\/([^?]{1,1024})(?:\?x-id=[A-Za-z]{1,64})?$/;
const AUTHORIZATION =
  /^AWS4-HMAC-SHA256 Credential=(\w{4,128})\/[0-9]{8}\/([a-z0-9-]{1,64})\/s3\/aws4_request, ?SignedHeaders=([a-z0-9;-]+), ?Signature=[0-9a-f]{64}$/;
/** What requests are refused with (Amazon S3 API Reference, "Error responses"). */
const STATUS = {
  AccessDenied: 403,
  InvalidAccessKeyId: 403,
  InvalidToken: 400,
  AuthorizationHeaderMalformed: 400,
  NoSuchBucket: 404,
  NoSuchKey: 404,
  MethodNotAllowed: 405,
  PreconditionFailed: 412,
  InvalidRange: 416,
  NotImplemented: 501,
} as const;
type Code = keyof typeof STATUS;

export async function startSimulatedS3(options: SimulatedS3Options): Promise<SimulatedS3> {
  const objects = new Map<string, StoredObject>();
  const { tls } = options;
  const answer = (request: IncomingMessage, response: ServerResponse): void => {
    if (s3.intercept(request, response)) return;
    serve(request, response, objects, options).then(
      (refused) => refused !== undefined && refuse(request, response, refused),
      () => response.destroy(),
    );
  };
  const server = tls === undefined ? createServer(answer) : createTlsServer(tls, answer);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const s3: SimulatedS3 = {
    endpoint: `${tls === undefined ? 'http' : 'https'}://127.0.0.1:${(server.address() as AddressInfo).port}`,
    objects,
    intercept: () => false,
    close: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  return s3;
}

async function serve(
  request: IncomingMessage,
  response: ServerResponse,
  objects: Map<string, StoredObject>,
  { region, buckets, principals, now }: SimulatedS3Options,
): Promise<Code | undefined> {
  const denied = authenticate(request, region, principals);
  if (denied !== undefined) return denied;
  const [, bucket = '', key = ''] = TARGET.exec(request.url ?? '') ?? [];
  if (key === '') return 'NotImplemented';
  if (!buckets.includes(bucket)) return 'NoSuchBucket';
  const place = `${bucket}/${decodeURIComponent(key)}`;
  if (request.method === 'PUT') {
    const object = newObject(await readBody(request), now());
    objects.set(place, object);
    response.writeHead(200, { etag: object.etag, 'content-length': 0 }).end();
    return undefined;
  }
  if (request.method !== 'GET' && request.method !== 'HEAD') return 'MethodNotAllowed';
  const object = objects.get(place);
  return object === undefined ? 'NoSuchKey' : answerObject(request, response, object);
}

function authenticate(
  { headers }: IncomingMessage,
  region: string,
  principals: readonly S3Principal[],
): Code | undefined {
  if (headers.authorization === undefined) return 'AccessDenied';
  const [, accessKeyId, scope, names = ''] = AUTHORIZATION.exec(headers.authorization) ?? [];
  const signed = names.split(';');
  const needed = ['host', 'x-amz-content-sha256', 'x-amz-date', 'x-amz-security-token'];
  if (scope !== region || !needed.every((name) => signed.includes(name)))
    return 'AuthorizationHeaderMalformed';
  const principal = principals.find((known) => known.accessKeyId === accessKeyId);
  if (principal === undefined) return 'InvalidAccessKeyId';
  return headers['x-amz-security-token'] === principal.sessionToken ? undefined : 'InvalidToken';
}

function refuse(request: IncomingMessage, response: ServerResponse, code: Code): void {
  const requestId = randomUUID();
  const text = `<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>${code}</Code><Message>${code}</Message><RequestId>${requestId}</RequestId></Error>`;
  response.writeHead(STATUS[code], {
    'x-amz-request-id': requestId,
    'content-type': 'application/xml',
    'content-length': Buffer.byteLength(text),
  });
  response.end(request.method === 'HEAD' ? undefined : text);
}

/** A body as it is; the SDK sends it so when it is asked for no checksum (`requestChecksumCalculation`). */
async function readBody(request: IncomingMessage): Promise<Uint8Array> {
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    sizeBytes += chunk.length;
    if (sizeBytes > OBJECT_MAX_BYTES) throw new RangeError('object too large');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}
