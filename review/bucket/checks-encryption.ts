/** How objects are encrypted at rest, and whether an upload can ask for less. */
import { parseKeyArn } from '../../shared/policy/arn.ts';
import { type AuditContext, withPolicy, withSeen } from './context.ts';
import type { Answer, Check } from './finding.ts';
import { fail, pass, unknown, warn } from './finding.ts';
import { describeRequest } from './probes.ts';
import type { DefaultEncryption } from './snapshot.ts';

const SSE = 's3:x-amz-server-side-encryption';
const SSE_KEY = 's3:x-amz-server-side-encryption-aws-kms-key-id';
const SSE_C = 's3:x-amz-server-side-encryption-customer-algorithm';
const ALL = [SSE, SSE_KEY, SSE_C];
const SECURE = { 'aws:SecureTransport': 'true', 's3:TlsVersion': '1.3' };
const OTHER_KEY = 'arn:aws:kms:us-east-1:999999999999:key/00000000-0000-4000-8000-000000000000';

const isKms = ({ algorithm }: DefaultEncryption): boolean => algorithm.startsWith('aws:kms');

export const encryptionChecks: readonly (Check & { judge(context: AuditContext): Answer })[] = [
  {
    id: 'bucket-default-encryption',
    title: 'Objects are encrypted with a KMS key by default',
    severity: 'medium',
    why: 'With SSE-KMS, reading takes kms:Decrypt beside s3:GetObject, so that a slip in one policy is no leak, and CloudTrail records each use of the key.',
    remedy: 'strongroom bucket configure --kms-key ARN sets SSE-KMS with that key as the default.',
    securityHub: ['S3.17'],
    prowler: ['s3_bucket_default_encryption', 's3_bucket_kms_encryption'],
    judge: ({ snapshot }) =>
      withSeen(snapshot.encryption, (encryption) => {
        const { algorithm, key } = encryption;
        if (!isKms(encryption)) return fail(`the default is ${algorithm}`);
        if (key === undefined || key.endsWith('alias/aws/s3')) {
          return warn(`${algorithm} with the account's own key for S3, whose policy nobody can change`);
        }
        const parsed = parseKeyArn(key);
        if (parsed === undefined) {
          return warn(
            `${algorithm} with ${key}: an id or alias is looked up in the account of whoever uploads; name the ARN`,
          );
        }
        if (parsed.accountId !== snapshot.accountId) {
          return warn(`${algorithm} with ${key}, a key of account ${parsed.accountId}`);
        }
        return pass(`${algorithm} with ${key}`);
      }),
  },
  {
    id: 'bucket-key',
    title: 'A bucket key is used',
    severity: 'low',
    why: 'Without it every part of every model costs calls to KMS. With it the encryption context is the ARN of the bucket, not of the object: conditions on object ARNs in the policy of that key stop matching.',
    remedy: 'strongroom bucket configure turns it on.',
    securityHub: [],
    prowler: [],
    judge: ({ snapshot }) =>
      withSeen(snapshot.encryption, (encryption) => {
        if (!isKms(encryption)) return pass(`not needed with ${encryption.algorithm}`);
        if (encryption.algorithm === 'aws:kms:dsse') return pass('not available with aws:kms:dsse');
        return encryption.bucketKey ? pass('on') : warn('off');
      }),
  },
  {
    id: 'bucket-upload-encryption',
    title: 'Uploads cannot ask for another kind of encryption',
    severity: 'medium',
    why: 'A header of the upload overrides the default: the object would lie there without the KMS key.',
    remedy:
      'strongroom bucket configure adds a Deny of s3:PutObject with that header unless it is aws:kms, guarded by Null so that uploads without the header get the default.',
    securityHub: [],
    prowler: [],
    judge: (context) =>
      withPolicy(context, (prober) => {
        const asked = { action: 's3:PutObject', without: ALL };
        const witness = prober.undenied({ ...asked, context: { ...SECURE, [SSE]: 'AES256' } });
        if (witness !== undefined) return fail(`not denied: ${describeRequest(witness.request)}`);
        return pass('uploads that ask for AES256 are denied');
      }),
  },
  {
    id: 'bucket-upload-key',
    title: 'Uploads cannot name another KMS key',
    severity: 'medium',
    why: "Under a key of somebody else, that somebody decides who reads the object, and can make it unreadable. A header aws:kms without a key means the account's own key for S3, and not the key of the bucket.",
    remedy:
      'strongroom bucket configure adds a Deny of its own: two headers in one Deny would have to be wrong both at once.',
    securityHub: [],
    prowler: [],
    judge: (context) =>
      withPolicy(context, (prober) => {
        const kms = { ...SECURE, [SSE]: 'aws:kms' };
        for (const headers of [{ ...kms, [SSE_KEY]: OTHER_KEY }, kms]) {
          const witness = prober.undenied({ action: 's3:PutObject', without: ALL, context: headers });
          if (witness !== undefined) return fail(`not denied: ${describeRequest(witness.request)}`);
        }
        return pass('uploads with another key, or with aws:kms and no key, are denied');
      }),
  },
  {
    id: 'bucket-upload-guard',
    title: 'Uploads as they should be are not denied',
    severity: 'medium',
    why: 'A Deny by "is not aws:kms" also denies uploads without the header, which the default would have encrypted. A policy that denies honest uploads gets removed, with all that it held.',
    remedy:
      'strongroom bucket configure writes the condition with its guard: "Null": {"s3:x-amz-server-side-encryption": "false"}.',
    securityHub: [],
    prowler: [],
    judge: (context) =>
      withPolicy(context, (prober) => {
        const { encryption } = context.snapshot;
        if (!encryption.seen) return unknown(`the default encryption could not be read: ${encryption.why}`);
        const { key } = encryption.value;
        const ask = (headers: Readonly<Record<string, string>>) =>
          prober.plainly({ action: 's3:PutObject', context: { ...SECURE, ...headers } });
        const named = ask({ [SSE]: 'aws:kms', ...(key !== undefined && { [SSE_KEY]: key }) });
        if (named.evaluation.effect === 'denied') {
          return fail(`denied: ${describeRequest(named.request)}`, named.evaluation.statements[0]?.line);
        }
        const bare = ask({});
        if (bare.evaluation.effect !== 'denied') {
          return isKms(encryption.value)
            ? pass(
                'uploads with the right headers and without any are not denied, and the default covers the latter',
              )
            : fail('uploads without headers are not denied, and the default encryption does not cover them');
        }
        return warn(
          `uploads without headers are denied, although the default is ${encryption.value.algorithm}: every client has to send them`,
        );
      }),
  },
  {
    id: 'bucket-customer-keys',
    title: 'Uploads with keys of the uploader (SSE-C) are denied',
    severity: 'medium',
    why: 'Whoever may write can encrypt every object under a key that only they know, and ask for money.',
    remedy:
      'strongroom bucket configure blocks SSE-C in the default encryption and denies the header in the policy.',
    securityHub: [],
    prowler: [],
    judge: (context) => {
      const { encryption } = context.snapshot;
      if (encryption.seen && encryption.value.blocked.includes('SSE-C')) return pass('blocked by the bucket');
      return withPolicy(context, (prober) => {
        const headers = { ...SECURE, [SSE_C]: 'AES256' };
        const witness = prober.undenied({ action: 's3:PutObject', without: ALL, context: headers });
        if (witness === undefined) return pass('denied by the policy');
        return encryption.seen
          ? fail(`not denied: ${describeRequest(witness.request)}`)
          : unknown(
              `not denied by the policy, and the default encryption could not be read: ${encryption.why}`,
            );
      });
    },
  },
];
