/**
 * Uploads in parts (Amazon S3 User Guide, "Uploading and copying objects using multipart upload"): parts of at least
 * 5 MiB but the last, in any order, replaceable until the upload is completed. Nothing is visible before that.
 */
import { createHash, randomUUID } from 'node:crypto';
import { faultOfBody, readBody } from './body.ts';
import { etagOf, newObject, type StoredObject } from './objects.ts';
import type { Refusal } from './refusals.ts';
import { encryptionOf, placeOf, type S3Call, type Upload } from './state.ts';
import { faultOfConditions, md5 } from './writes.ts';
import { answerXml, element, innerOf, textOf } from './xml.ts';

const PART_MIN_BYTES = 5 * 1024 * 1024;
const PARTS_MAX = 10_000;
const PARTS_LISTED_MAX = 1000;

export async function createUpload(call: S3Call): Promise<Refusal | undefined> {
  const { request, response, state, now, bucket, key } = call;
  await readBody(request);
  const uploadId = randomUUID();
  state.uploads.set(uploadId, {
    place: placeOf(call),
    initiated: now,
    encryption: encryptionOf(call),
    sha256: request.headers['x-amz-checksum-algorithm'] === 'SHA256',
    parts: new Map(),
  });
  answerXml(response, 'InitiateMultipartUploadResult', [
    element('Bucket', bucket),
    element('Key', key),
    element('UploadId', uploadId),
  ]);
  return undefined;
}

export async function uploadPart(call: S3Call): Promise<Refusal | undefined> {
  const { request, response, query, now } = call;
  const body = await readBody(request);
  const upload = uploadOf(call);
  const number = Number(query.get('partNumber'));
  if (upload === undefined) return 'NoSuchUpload';
  if (!Number.isInteger(number) || number < 1 || number > PARTS_MAX) return 'InvalidArgument';
  const fault = faultOfBody(request.headers, body);
  if (fault !== undefined) return fault;
  const checksum = request.headers['x-amz-checksum-sha256'];
  // S3 refuses parts without the checksum that the upload was created with.
  if (upload.sha256 && checksum === undefined) return 'InvalidRequest';
  const part = newObject(body, now, {
    ...(checksum !== undefined && { checksumSha256: String(checksum) }),
    ...(upload.encryption !== undefined && { encryption: upload.encryption }),
  });
  upload.parts.set(number, part);
  response.writeHead(200, {
    etag: part.etag,
    'content-length': 0,
    ...(checksum !== undefined && { 'x-amz-checksum-sha256': checksum }),
  });
  response.end();
  return undefined;
}

export async function listParts(call: S3Call): Promise<Refusal | undefined> {
  const { response, query, bucket, key } = call;
  const upload = uploadOf(call);
  if (upload === undefined) return 'NoSuchUpload';
  const after = Number(query.get('part-number-marker') ?? 0);
  const all = [...upload.parts].toSorted(([a], [b]) => a - b).filter(([number]) => number > after);
  const limit = Math.min(Number(query.get('max-parts') ?? PARTS_LISTED_MAX), PARTS_LISTED_MAX);
  const shown = all.slice(0, limit);
  answerXml(response, 'ListPartsResult', [
    element('Bucket', bucket),
    element('Key', key),
    element('UploadId', query.get('uploadId') ?? ''),
    element('IsTruncated', String(shown.length < all.length)),
    element('NextPartNumberMarker', shown.at(-1)?.[0] ?? 0),
    ...(upload.sha256 ? [element('ChecksumAlgorithm', 'SHA256'), element('ChecksumType', 'COMPOSITE')] : []),
    ...shown.map(([number, part]) =>
      element('Part', [
        element('PartNumber', number),
        element('ETag', part.etag),
        element('Size', part.bytes.length),
        element('LastModified', part.lastModified.toISOString()),
        ...(part.checksumSha256 === undefined ? [] : [element('ChecksumSHA256', part.checksumSha256)]),
      ]),
    ),
  ]);
  return undefined;
}

export async function listUploads({ response, state, bucket, query }: S3Call): Promise<undefined> {
  const prefix = `${bucket}/${query.get('prefix') ?? ''}`;
  const found = [...state.uploads].filter(([, { place }]) => place.startsWith(prefix));
  answerXml(response, 'ListMultipartUploadsResult', [
    element('Bucket', bucket),
    element('IsTruncated', 'false'),
    ...found.map(([uploadId, { place, initiated, sha256 }]) =>
      element('Upload', [
        element('Key', place.slice(bucket.length + 1)),
        element('UploadId', uploadId),
        element('Initiated', initiated.toISOString()),
        ...(sha256 ? [element('ChecksumAlgorithm', 'SHA256')] : []),
      ]),
    ),
  ]);
  return undefined;
}

export async function abortUpload(call: S3Call): Promise<Refusal | undefined> {
  if (uploadOf(call) === undefined) return 'NoSuchUpload';
  call.state.uploads.delete(call.query.get('uploadId') ?? '');
  call.response.writeHead(204).end();
  return undefined;
}

export async function completeUpload(call: S3Call): Promise<Refusal | undefined> {
  const { request, response, state, now, bucket, key, query } = call;
  const body = Buffer.from(await readBody(request)).toString();
  const upload = uploadOf(call);
  if (upload === undefined) return 'NoSuchUpload';
  const fault = faultOfConditions(call);
  if (fault !== undefined) return fault;
  const listed = innerOf(body, 'Part').map((part) => ({
    number: Number(textOf(part, 'PartNumber')),
    etag: textOf(part, 'ETag') ?? '',
    checksum: textOf(part, 'ChecksumSHA256'),
  }));
  if (listed.length === 0) return 'MalformedXML';
  if (listed.some(({ number }, index) => number <= (listed[index - 1]?.number ?? 0)))
    return 'InvalidPartOrder';
  const parts: StoredObject[] = [];
  for (const { number, etag, checksum } of listed) {
    const part = upload.parts.get(number);
    if (part === undefined || unquoted(part.etag) !== unquoted(etag)) return 'InvalidPart';
    if (upload.sha256 && checksum !== part.checksumSha256) return 'InvalidPart';
    parts.push(part);
  }
  if (parts.slice(0, -1).some(({ bytes }) => bytes.length < PART_MIN_BYTES)) return 'EntityTooSmall';
  const bytes = Buffer.concat(parts.map((part) => part.bytes));
  const announced = request.headers['x-amz-mp-object-size'];
  if (announced !== undefined && Number(announced) !== bytes.length) return 'InvalidRequest';
  const object = joined(parts, bytes, upload, now);
  state.objects.set(placeOf(call), object);
  state.uploads.delete(query.get('uploadId') ?? '');
  answerXml(response, 'CompleteMultipartUploadResult', [
    element('Bucket', bucket),
    element('Key', key),
    element('ETag', object.etag),
    ...(object.checksumSha256 === undefined
      ? []
      : [element('ChecksumSHA256', object.checksumSha256), element('ChecksumType', 'COMPOSITE')]),
  ]);
  return undefined;
}

/** ETag and checksum of a whole are those of its parts' digests, one after the other. */
function joined(
  parts: readonly StoredObject[],
  bytes: Uint8Array,
  { sha256, encryption }: Upload,
  lastModified: Date,
): StoredObject {
  const sums = parts.map(({ checksumSha256 }) => Buffer.from(checksumSha256 ?? '', 'base64'));
  const composite = createHash('sha256').update(Buffer.concat(sums)).digest('base64');
  const digests = Buffer.concat(parts.map((part) => md5(part.bytes)));
  return {
    bytes,
    etag: etagOf(md5(digests), encryption, `-${parts.length}`),
    lastModified,
    ...(sha256 && { checksumSha256: `${composite}-${parts.length}` }),
    ...(encryption !== undefined && { encryption }),
  };
}

function uploadOf(call: S3Call): Upload | undefined {
  const upload = call.state.uploads.get(call.query.get('uploadId') ?? '');
  return upload?.place === placeOf(call) ? upload : undefined;
}

const unquoted = (etag: string): string => etag.replaceAll('"', '');
