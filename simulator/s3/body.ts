/** Bodies of requests, and whether they are what their headers say. */
import { createHash } from 'node:crypto';
import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import { crc32 } from 'node:zlib';
import type { Refusal } from './refusals.ts';

const OBJECT_MAX_BYTES = 256 * 1024 * 1024;

/** A body as it is; the SDK sends it so when it is asked for no trailing checksum. */
export async function readBody(request: IncomingMessage): Promise<Uint8Array> {
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    sizeBytes += chunk.length;
    if (sizeBytes > OBJECT_MAX_BYTES) throw new RangeError('object too large');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** Each digest that a header names is computed (Amazon S3 User Guide, "Checking object integrity"). */
export function faultOfBody(headers: IncomingHttpHeaders, body: Uint8Array): Refusal | undefined {
  const signed = headers['x-amz-content-sha256'];
  if (
    typeof signed === 'string' &&
    /^[0-9a-f]{64}$/.test(signed) &&
    signed !== digest(body, 'sha256', 'hex')
  ) {
    return 'XAmzContentSHA256Mismatch';
  }
  const crc = Buffer.alloc(4);
  crc.writeUInt32BE(crc32(body));
  const expected: Readonly<Record<string, string>> = {
    'content-md5': digest(body, 'md5', 'base64'),
    'x-amz-checksum-sha256': digest(body, 'sha256', 'base64'),
    'x-amz-checksum-crc32': crc.toString('base64'),
  };
  const wrong = Object.entries(expected).some(
    ([name, value]) => headers[name] !== undefined && headers[name] !== value,
  );
  return wrong ? 'BadDigest' : undefined;
}

function digest(bytes: Uint8Array, algorithm: string, encoding: 'hex' | 'base64'): string {
  return createHash(algorithm).update(bytes).digest(encoding);
}
