/** The sealed models that a bucket holds, by their heads: a model without one does not count (docs/publishing.md 1.3). */
import { ListObjectsV2Command, type S3Client } from '@aws-sdk/client-s3';
import { storeFailure } from './bucket-store.ts';
import { expectNotStopped } from './errors.ts';

const HEAD = '.sealed/head';

/**
 * The prefix of each model, `team/iris.sealed`, in order: those below `prefix`, or, if nothing is below it, those that
 * begin so (`team/iris-`). Throws PublishError.
 */
export async function listPublishedModels(
  client: S3Client,
  bucket: string,
  prefix: string,
  signal: AbortSignal | undefined,
): Promise<readonly string[]> {
  const found: string[] = [];
  for (let next: string | undefined, first = true; first || next !== undefined; first = false) {
    expectNotStopped(signal);
    const page = await client
      .send(new ListObjectsV2Command({ Bucket: bucket, Prefix: prefix, ContinuationToken: next }), {
        ...(signal !== undefined && { abortSignal: signal }),
      })
      .catch((cause: unknown) => {
        throw storeFailure('ListObjectsV2', `s3://${bucket}/${prefix}`, cause, signal);
      });
    for (const { Key } of page.Contents ?? []) {
      if (Key?.endsWith(HEAD) === true) found.push(Key.slice(0, -'/head'.length));
    }
    next = page.IsTruncated === true ? page.NextContinuationToken : undefined;
  }
  const below = prefix === '' || prefix.endsWith('/') ? prefix : `${prefix}/`;
  const inside = found.filter((model) => `${model}/`.startsWith(below));
  return inside.length > 0 ? inside : found;
}
