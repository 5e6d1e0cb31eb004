/** ListObjectsV2 (Amazon S3 API Reference): keys in the order of their UTF-8 bytes, page by page. */
import type { Refusal } from './refusals.ts';
import type { S3Call } from './state.ts';
import { answerXml, element } from './xml.ts';

const KEYS_MAX = 1000;

export async function listObjects({ response, state, bucket, query }: S3Call): Promise<Refusal | undefined> {
  const prefix = query.get('prefix') ?? '';
  const after = query.get('continuation-token') ?? query.get('start-after') ?? '';
  const limit = Math.min(Number(query.get('max-keys') ?? KEYS_MAX), KEYS_MAX);
  const found = [...state.objects]
    .filter(([place]) => place.startsWith(`${bucket}/${prefix}`))
    .map(([place, object]) => ({ key: place.slice(bucket.length + 1), object }))
    .toSorted((a, b) => Buffer.compare(Buffer.from(a.key), Buffer.from(b.key)))
    .filter(({ key }) => key > after);
  const shown = found.slice(0, limit);
  const truncated = shown.length < found.length;
  answerXml(response, 'ListBucketResult', [
    element('Name', bucket),
    element('Prefix', prefix),
    element('KeyCount', shown.length),
    element('MaxKeys', limit),
    element('IsTruncated', String(truncated)),
    ...(truncated ? [element('NextContinuationToken', shown.at(-1)?.key ?? '')] : []),
    ...shown.map(({ key, object }) =>
      element('Contents', [
        element('Key', key),
        element('LastModified', object.lastModified.toISOString()),
        element('ETag', object.etag),
        element('Size', object.bytes.length),
        element('StorageClass', 'STANDARD'),
      ]),
    ),
  ]);
  return undefined;
}
