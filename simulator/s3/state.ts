import type { IncomingMessage, ServerResponse } from 'node:http';
import type { ObjectEncryption, StoredObject } from './objects.ts';
import { textOf } from './xml.ts';

/** Everything that one simulated S3 holds. */
export interface S3State {
  /** By `BUCKET/KEY`. */
  readonly objects: Map<string, StoredObject>;
  readonly uploads: Map<string, Upload>;
  /** By bucket: the subresources that were put, by name, as they were put. */
  readonly configurations: ReadonlyMap<string, Map<string, string>>;
}

/** An upload in parts that is not complete. */
export interface Upload {
  readonly place: string;
  readonly initiated: Date;
  readonly encryption: ObjectEncryption | undefined;
  readonly sha256: boolean;
  readonly parts: Map<number, StoredObject>;
}

/** One request that was let in. */
export interface S3Call {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly bucket: string;
  /** Empty for requests to the bucket itself. */
  readonly key: string;
  readonly query: URLSearchParams;
  readonly state: S3State;
  readonly now: Date;
}

export const placeOf = ({ bucket, key }: Pick<S3Call, 'bucket' | 'key'>): string => `${bucket}/${key}`;

/** What the request asks for, else what the bucket does by default. */
export function encryptionOf({ request, state, bucket }: S3Call): ObjectEncryption | undefined {
  const header = (name: string) => request.headers[name] as string | undefined;
  const asked = header('x-amz-server-side-encryption');
  if (asked !== undefined) {
    return encryption(asked, header('x-amz-server-side-encryption-aws-kms-key-id'));
  }
  const configured = state.configurations.get(bucket)?.get('encryption') ?? '';
  return encryption(textOf(configured, 'SSEAlgorithm'), textOf(configured, 'KMSMasterKeyID'));
}

function encryption(algorithm: string | undefined, keyArn: string | undefined): ObjectEncryption | undefined {
  if (algorithm === undefined || algorithm === 'AES256') return undefined;
  return { algorithm, ...(keyArn !== undefined && { keyArn }) };
}
