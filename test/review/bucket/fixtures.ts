import { auditBucket } from '../../../review/bucket/audit.ts';
import type { Outcome } from '../../../review/bucket/finding.ts';
import { ownStatements } from '../../../review/bucket/policy-statements.ts';
import type { BucketSnapshot, ObjectSample, Seen } from '../../../review/bucket/snapshot.ts';
import { encodeKeyFile } from '../../../shared/sealed-model/key-file-write.ts';

export const BUCKET = 'sealed-models';
export const ACCOUNT = '111122223333';
export const KEY = `arn:aws:kms:eu-central-1:${ACCOUNT}:key/0b0c4e70-0000-4000-8000-000000000001`;
export const MODEL_KEY = `arn:aws:kms:eu-central-1:${ACCOUNT}:key/5ea1ed00-0000-4000-8000-000000000002`;
export const WISH = { bucket: BUCKET, kmsKey: KEY, tls: '1.2' } as const;
export const ARN = `arn:aws:s3:::${BUCKET}`;

export const seen = <T>(value: T): Seen<T> => ({ seen: true, value });
export const unseen = (why: string): Seen<never> => ({ seen: false, why });

export function policyOf(...statements: readonly object[]): Seen<string> {
  return seen(JSON.stringify({ Version: '2012-10-17', Statement: statements }));
}

/** The policy that configure writes, without some statements and with others. */
export function ownPolicy({ without = [] as string[], more = [] as object[] } = {}): Seen<string> {
  return policyOf(...ownStatements(WISH).filter(({ Sid }) => !without.includes(String(Sid))), ...more);
}

const HEAD = Buffer.concat([Buffer.from('8953524d0d0a1a0a', 'hex'), Buffer.alloc(56)]);
HEAD.writeBigUInt64BE(4096n, 32);

export function sample(key: string, begin: Uint8Array | string, sizeBytes = begin.length): ObjectSample {
  return { key, sizeBytes, begin: seen(typeof begin === 'string' ? Buffer.from(begin, 'latin1') : begin) };
}

export function keyJson(keyArn: string): Uint8Array {
  const wraps = [{ kind: 'aws-kms' as const, keyArn, ciphertextBlob: new Uint8Array(64) }];
  return encodeKeyFile({ context: new Uint8Array(32), wraps });
}

export function iris(): ObjectSample[] {
  return [
    sample('team/iris.sealed/head', HEAD, 9000),
    sample('team/iris.sealed/payload', Buffer.alloc(96, 0xa5), 4096),
    sample('team/iris.sealed/key.json', keyJson(MODEL_KEY)),
    sample('team/iris.sealed/manifest.json', '{"payload":""}'),
  ];
}

/** As `bucket configure --object-lock compliance:30` leaves a bucket that also logs, with one model in it. */
export function goodBucket(changes: Partial<BucketSnapshot> = {}): BucketSnapshot {
  return {
    bucket: BUCKET,
    accountId: ACCOUNT,
    policy: ownPolicy(),
    encryption: seen({ algorithm: 'aws:kms', key: KEY, bucketKey: true, blocked: ['SSE-C'] }),
    publicAccessBlock: seen({
      blockPublicAcls: true,
      ignorePublicAcls: true,
      blockPublicPolicy: true,
      restrictPublicBuckets: true,
    }),
    ownership: seen('BucketOwnerEnforced'),
    acl: seen([{ grantee: 'owner', isOwner: true, permission: 'FULL_CONTROL' }]),
    versioning: seen({ enabled: true, mfaDelete: false }),
    objectLock: seen({ mode: 'COMPLIANCE', retention: '30 days' }),
    logging: seen('the-logs'),
    lifecycle: seen([
      { name: 'abort', enabled: true, prefix: '', abortsUploadsAfterDays: 7, expires: false },
    ]),
    replication: seen([]),
    objects: seen({ complete: true, objects: iris() }),
    ...changes,
  };
}

export function outcomeOf(id: string, changes: Partial<BucketSnapshot>): Outcome {
  return findingOf(id, changes).outcome;
}

export function findingOf(id: string, changes: Partial<BucketSnapshot>) {
  const finding = auditBucket(goodBucket(changes)).findings.find((one) => one.id === id);
  if (finding === undefined) throw new Error(`there is no check ${id}`);
  return finding;
}
