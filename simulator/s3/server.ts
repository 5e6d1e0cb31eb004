/**
 * An S3 for one simulation: objects in memory, whole or uploaded in parts, and the configuration of their buckets,
 * path-style (`/BUCKET/KEY`), on this machine. Requests must carry a Signature Version 4 of a known access
 * key for this region with its session token; the signature itself is not computed, and no policy is evaluated.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { configure, subresourceOf } from './configuration.ts';
import { listObjects } from './listing.ts';
import {
  abortUpload,
  completeUpload,
  createUpload,
  listParts,
  listUploads,
  uploadPart,
} from './multipart.ts';
import { answerObject } from './objects.ts';
import { type Refusal, refuse } from './refusals.ts';
import { placeOf, type S3Call, type S3State } from './state.ts';
import { deleteObject, putObject } from './writes.ts';

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

export interface SimulatedS3 extends S3State {
  /** `http://127.0.0.1:PORT`, or `https://`. */
  readonly endpoint: string;
  /** Sees each request first and may answer in place of S3; true if it did. */
  intercept: (request: IncomingMessage, response: ServerResponse) => boolean;
  close(): Promise<void>;
}

/** `/BUCKET` or `/BUCKET/KEY`, and a query. */
const TARGET = /^\/([a-z0-9.-]{3,63})(?:\/([^?]{0,3072}))?(?:\?(.*))?$/;
const AUTHORIZATION =
  /^AWS4-HMAC-SHA256 Credential=(\w{4,128})\/[0-9]{8}\/([a-z0-9-]{1,64})\/s3\/aws4_request, ?SignedHeaders=([a-z0-9;-]+), ?Signature=[0-9a-f]{64}$/;

export async function startSimulatedS3(options: SimulatedS3Options): Promise<SimulatedS3> {
  const state: S3State = {
    objects: new Map(),
    uploads: new Map(),
    configurations: new Map(options.buckets.map((bucket) => [bucket, new Map<string, string>()])),
  };
  const { tls } = options;
  const answer = (request: IncomingMessage, response: ServerResponse): void => {
    if (s3.intercept(request, response)) return;
    serve(request, response, state, options).then(
      (refused) => refused !== undefined && refuse(request, response, refused),
      () => response.destroy(),
    );
  };
  const server = tls === undefined ? createServer(answer) : createTlsServer(tls, answer);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const s3: SimulatedS3 = {
    endpoint: `${tls === undefined ? 'http' : 'https'}://127.0.0.1:${(server.address() as AddressInfo).port}`,
    ...state,
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
  state: S3State,
  { region, principals, now }: SimulatedS3Options,
): Promise<Refusal | undefined> {
  const denied = authenticate(request, region, principals);
  if (denied !== undefined) return denied;
  const [, bucket = '', key = '', query = ''] = TARGET.exec(request.url ?? '') ?? [];
  if (bucket === '') return 'NotImplemented';
  if (!state.configurations.has(bucket)) return 'NoSuchBucket';
  const call: S3Call = {
    request,
    response,
    bucket,
    key: decodeURIComponent(key),
    query: new URLSearchParams(query),
    state,
    now: now(),
  };
  return key === '' ? serveBucket(call) : serveObject(call);
}

async function serveBucket(call: S3Call): Promise<Refusal | undefined> {
  const subresource = subresourceOf(call);
  if (subresource !== undefined) return configure(call, subresource);
  const { request, response, query } = call;
  if (request.method === 'HEAD') return void response.writeHead(200, { 'content-length': 0 }).end();
  if (request.method !== 'GET') return 'MethodNotAllowed';
  if (query.has('uploads')) return listUploads(call);
  return query.get('list-type') === '2' ? listObjects(call) : 'NotImplemented';
}

async function serveObject(call: S3Call): Promise<Refusal | undefined> {
  const { request, response, query, state } = call;
  const inUpload = query.has('uploadId');
  switch (request.method) {
    case 'POST':
      return query.has('uploads') ? createUpload(call) : inUpload ? completeUpload(call) : 'NotImplemented';
    case 'PUT':
      return inUpload ? uploadPart(call) : putObject(call);
    case 'DELETE':
      return inUpload ? abortUpload(call) : deleteObject(call);
    case 'GET':
    case 'HEAD': {
      if (inUpload) return listParts(call);
      const object = state.objects.get(placeOf(call));
      return object === undefined ? 'NoSuchKey' : answerObject(request, response, object);
    }
    default:
      return 'MethodNotAllowed';
  }
}

function authenticate(
  { headers }: IncomingMessage,
  region: string,
  principals: readonly S3Principal[],
): Refusal | undefined {
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
