/** PutObject and DeleteObject (Amazon S3 API Reference). */
import { createHash } from 'node:crypto';
import { faultOfBody, readBody } from './body.ts';
import { encryptionHeaders, newObject, type StoredObject } from './objects.ts';
import type { Refusal } from './refusals.ts';
import { encryptionOf, placeOf, type S3Call } from './state.ts';

export async function putObject(call: S3Call): Promise<Refusal | undefined> {
  const { request, response, state, now } = call;
  const body = await readBody(request);
  const fault = faultOfBody(request.headers, body) ?? faultOfConditions(call);
  if (fault !== undefined) return fault;
  const encryption = encryptionOf(call);
  const checksumSha256 = request.headers['x-amz-checksum-sha256'];
  const object = newObject(body, now, {
    ...(checksumSha256 !== undefined && { checksumSha256: String(checksumSha256) }),
    ...(encryption !== undefined && { encryption }),
  });
  state.objects.set(placeOf(call), object);
  response.writeHead(200, {
    etag: object.etag,
    'content-length': 0,
    ...encryptionHeaders(encryption),
    ...(checksumSha256 !== undefined && { 'x-amz-checksum-sha256': checksumSha256 }),
  });
  response.end();
  return undefined;
}

/** "Conditional writes": `If-None-Match: *` writes only what is not there, `If-Match` only over this very object. */
export function faultOfConditions(call: S3Call): Refusal | undefined {
  const { 'if-none-match': ifNoneMatch, 'if-match': ifMatch } = call.request.headers;
  const found: StoredObject | undefined = call.state.objects.get(placeOf(call));
  if (ifNoneMatch === '*' && found !== undefined) return 'PreconditionFailed';
  if (ifMatch === undefined) return undefined;
  if (found === undefined) return 'NoSuchKey';
  return ifMatch === found.etag ? undefined : 'PreconditionFailed';
}

export async function deleteObject(call: S3Call): Promise<Refusal | undefined> {
  const { request, response, state } = call;
  await readBody(request);
  const { 'if-match': ifMatch } = request.headers;
  if (ifMatch !== undefined && ifMatch !== state.objects.get(placeOf(call))?.etag)
    return 'PreconditionFailed';
  state.objects.delete(placeOf(call));
  response.writeHead(204).end();
  return undefined;
}

export function md5(bytes: Uint8Array): Buffer {
  return createHash('md5').update(bytes).digest();
}
