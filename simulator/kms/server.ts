/**
 * KMS's wire: JSON 1.1 over HTTPS, one POST to / for each request (Smithy, "AWS JSON 1.1 protocol"). From bytes
 * to a call, from an answer or an error to bytes, and the faults that may befall either.
 */
import { randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { TLSSocket } from 'node:tls';
import { type AuditRecord, auditRecord } from './audit.ts';
import type { Answer, Call, Note, World } from './call.ts';
import { KmsException } from './exception.ts';
import type { Fault, Faults } from './faults.ts';
import { BODY_MAX_BYTES, Input } from './input.ts';
import { createAlias, deleteAlias, listAliases, updateAlias } from './operations/aliases.ts';
import {
  decrypt,
  encrypt,
  generateDataKey,
  generateDataKeyWithoutPlaintext,
  generateRandom,
} from './operations/cryptography.ts';
import { createGrant, listGrants, revokeGrant } from './operations/grants.ts';
import { createKey, describeKey, getKeyPolicy, putKeyPolicy } from './operations/keys.ts';
import { reEncrypt } from './operations/re-encrypt.ts';
import {
  disableKeyRotation,
  enableKeyRotation,
  getKeyRotationStatus,
  listKeyRotations,
  rotateKeyOnDemand,
} from './operations/rotation.ts';
import type { Caller } from './principals.ts';
import { expiredToken, verifySignature } from './signature.ts';

const OPERATIONS: ReadonlyMap<string, (call: Call) => Answer> = new Map([
  ['CreateKey', createKey],
  ['DescribeKey', describeKey],
  ['GetKeyPolicy', getKeyPolicy],
  ['PutKeyPolicy', putKeyPolicy],
  ['Encrypt', encrypt],
  ['Decrypt', decrypt],
  ['GenerateDataKey', generateDataKey],
  ['GenerateDataKeyWithoutPlaintext', generateDataKeyWithoutPlaintext],
  ['GenerateRandom', generateRandom],
  ['ReEncrypt', reEncrypt],
  ['EnableKeyRotation', enableKeyRotation],
  ['DisableKeyRotation', disableKeyRotation],
  ['GetKeyRotationStatus', getKeyRotationStatus],
  ['ListKeyRotations', listKeyRotations],
  ['RotateKeyOnDemand', rotateKeyOnDemand],
  ['CreateAlias', createAlias],
  ['UpdateAlias', updateAlias],
  ['DeleteAlias', deleteAlias],
  ['ListAliases', listAliases],
  ['CreateGrant', createGrant],
  ['ListGrants', listGrants],
  ['RevokeGrant', revokeGrant],
]);

/** Why a request was refused, in words. AWS sends no such header; the body stays as AWS's. */
export const EXPLANATION_HEADER = 'x-strongroom-explanation';
const EXPLANATION_MAX_CHARACTERS = 4000;
const TARGET = /^TrentService\.([A-Za-z]{1,64})$/;
const MEDIA_TYPE = 'application/x-amz-json-1.1';

export interface Wire {
  readonly world: World;
  readonly accountId: string;
  readonly callers: ReadonlyMap<string, Caller>;
  readonly now: () => Date;
  readonly faults: Faults;
  readonly audit: (record: AuditRecord) => void;
  /** The last successful body of each operation, for the fault `replay`. */
  readonly lastBodies: Map<string, string>;
}

export async function serve(wire: Wire, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const at = wire.now();
  const requestId = randomUUID();
  const operation = TARGET.exec(request.headers['x-amz-target']?.toString() ?? '')?.[1] ?? 'Unknown';
  const note: Note = { requestParameters: {}, explanation: [] };
  const fault = wire.faults.take(operation);
  let caller: Caller | undefined;
  let error: KmsException | undefined;
  let body = '';
  try {
    const bytes = await readBody(request);
    caller = authenticate(wire, request, bytes, at);
    if (fault?.kind === 'expired-credentials') throw expiredToken();
    if (fault?.kind === 'error') throw injected(fault);
    const operate = operationOf(request, operation);
    wire.world.keys.rotateDue(at);
    const call: Call = {
      world: wire.world,
      operation,
      caller,
      input: Input.parse(bytes),
      at,
      sourceIp: request.socket.remoteAddress ?? '',
      userAgent: request.headers['user-agent'] ?? '',
      alteredRegister: fault?.kind === 'alter-register' ? fault.index : undefined,
      note,
    };
    body = JSON.stringify(operate(call));
  } catch (cause) {
    error = cause instanceof KmsException ? cause : internal(cause);
    body = JSON.stringify({
      __type: error.name,
      ...(error.message === '' ? {} : { [error.textMember]: error.message }),
    });
  }
  const socket = request.socket as TLSSocket;
  wire.audit(
    auditRecord({
      requestId,
      operation,
      region: wire.world.region,
      accountId: caller?.identity.accountId ?? wire.accountId,
      at,
      caller,
      sourceIp: request.socket.remoteAddress ?? '',
      userAgent: request.headers['user-agent'] ?? '',
      tls: {
        version: socket.getProtocol() ?? '',
        cipher: socket.getCipher()?.standardName ?? '',
        host: request.headers.host ?? '',
      },
      note,
      error,
    }),
  );
  const last = wire.lastBodies.get(operation);
  if (error === undefined) wire.lastBodies.set(operation, body);
  const sent = error === undefined && fault?.kind === 'replay' && last !== undefined ? last : body;
  answer(response, { status: error?.status ?? 200, body: sent, requestId, at, error, fault });
}

function authenticate(wire: Wire, request: IncomingMessage, body: Uint8Array, now: Date): Caller {
  return verifySignature(
    { rawHeaders: request.rawHeaders, body },
    { region: wire.world.region, name: 'kms', now },
    (accessKeyId) => wire.callers.get(accessKeyId),
  );
}

function operationOf(request: IncomingMessage, operation: string): (call: Call) => Answer {
  const operate = OPERATIONS.get(operation);
  if (
    operate === undefined ||
    request.method !== 'POST' ||
    request.url !== '/' ||
    request.headers['content-type'] !== MEDIA_TYPE
  ) {
    throw new KmsException('UnknownOperationException', '', {
      explanation: [
        `The simulated KMS answers POST / with content type ${MEDIA_TYPE} and one of: ${[...OPERATIONS.keys()].join(', ')}.`,
      ],
    });
  }
  return operate;
}

async function readBody(request: IncomingMessage): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Uint8Array>) {
    size += chunk.length;
    if (size > BODY_MAX_BYTES) {
      throw new KmsException('RequestEntityTooLargeException', '', { status: 413 });
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

interface Outgoing {
  readonly status: number;
  readonly body: string;
  readonly requestId: string;
  readonly at: Date;
  readonly error: KmsException | undefined;
  readonly fault: Fault | undefined;
}

function answer(response: ServerResponse, outgoing: Outgoing): void {
  const { fault } = outgoing;
  switch (fault?.kind) {
    case 'hang':
      return;
    case 'reset':
      response.socket?.destroy();
      return;
    case 'delay':
      setTimeout(() => send(response, outgoing, outgoing.body), fault.ms).unref();
      return;
    case 'truncate':
      head(response, outgoing, outgoing.body);
      response.write(outgoing.body.slice(0, fault.bytes), () => response.socket?.destroy());
      return;
    case 'corrupt':
      send(response, outgoing, corrupted(outgoing.body, fault.member));
      return;
    default:
      send(response, outgoing, outgoing.body);
  }
}

function send(response: ServerResponse, outgoing: Outgoing, body: string): void {
  head(response, outgoing, body);
  response.end(body);
}

function head(response: ServerResponse, { status, requestId, at, error }: Outgoing, body: string): void {
  response.writeHead(status, {
    'x-amzn-RequestId': requestId,
    'Content-Type': MEDIA_TYPE,
    'Content-Length': Buffer.byteLength(body),
    'Cache-Control': 'no-cache, no-store, must-revalidate, private',
    Date: at.toUTCString(),
    ...(error === undefined || error.explanation.length === 0
      ? {}
      : { [EXPLANATION_HEADER]: headerText(error.explanation.join(' | ')) }),
  });
}

/** A header holds visible ASCII; policies may hold more. The record has the text as it is. */
function headerText(text: string): string {
  return text.replace(/[^\x20-\x7e]/g, '?').slice(0, EXPLANATION_MAX_CHARACTERS);
}

function corrupted(body: string, member: string): string {
  const answer = JSON.parse(body) as Record<string, unknown>;
  const value = answer[member];
  if (typeof value !== 'string') return body;
  const bytes = Buffer.from(value, 'base64');
  const middle = bytes.length >> 1;
  bytes[middle] = (bytes[middle] ?? 0) ^ 1;
  return JSON.stringify({ ...answer, [member]: bytes.toString('base64') });
}

const SERVER_FAULTS: ReadonlySet<string> = new Set([
  'KMSInternalException',
  'InternalFailure',
  'DependencyTimeoutException',
]);

function injected(fault: Fault & { readonly kind: 'error' }): KmsException {
  const usual =
    fault.name === 'ServiceUnavailableException' ? 503 : SERVER_FAULTS.has(fault.name) ? 500 : 400;
  return new KmsException(fault.name, fault.message ?? '', {
    status: fault.status ?? usual,
    explanation: ['An injected fault.'],
  });
}

function internal(cause: unknown): KmsException {
  const text = cause instanceof Error ? (cause.stack ?? cause.message) : String(cause);
  return new KmsException('KMSInternalException', '', {
    status: 500,
    explanation: [`The simulated KMS failed: ${text.replaceAll('\n', ' ')}`],
  });
}
