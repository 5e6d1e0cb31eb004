/** Who may ask over which connection, with which kind of signature. */

import { type AuditContext, withPolicy } from './context.ts';
import type { Answer, Check } from './finding.ts';
import { fail, pass, warn } from './finding.ts';
import { describeRequest, type Prober } from './probes.ts';

/** One of each kind: reading, writing, deleting, listing, and changing the rules. */
const ACTIONS = [
  's3:GetObject',
  's3:GetObjectVersion',
  's3:PutObject',
  's3:DeleteObject',
  's3:AbortMultipartUpload',
  's3:ListBucket',
  's3:GetBucketLocation',
  's3:PutBucketPolicy',
];

export const transportChecks: readonly (Check & { judge(context: AuditContext): Answer })[] = [
  {
    id: 'bucket-tls-only',
    title: 'Requests without TLS are denied',
    severity: 'high',
    why: 'Whoever is on the path of a plain request reads and changes it, its credentials included.',
    remedy:
      'strongroom bucket configure adds a Deny of s3:* for everybody on the bucket and its objects where aws:SecureTransport is false.',
    securityHub: ['S3.5'],
    prowler: ['s3_bucket_secure_transport_policy'],
    judge: (context) =>
      withPolicy(context, (prober) => {
        const witness = firstUndenied(prober, { 'aws:SecureTransport': 'false' }, ['s3:TlsVersion']);
        if (witness === undefined) return pass('every kind of request is denied over plain HTTP');
        return fail(`not denied: ${witness}${context.hasPolicy ? '' : '; the bucket has no policy'}`);
      }),
  },
  {
    id: 'bucket-tls-version',
    title: 'Requests over TLS 1.0 and 1.1 are denied',
    severity: 'medium',
    why: 'TLS before 1.2 has broken hashes and ciphers. S3 itself asks for 1.2 today; the policy keeps it so wherever the bucket is reached.',
    remedy:
      'strongroom bucket configure adds a Deny where s3:TlsVersion is less than 1.2 (--tls 1.3 for 1.3).',
    securityHub: [],
    prowler: [],
    judge: (context) =>
      withPolicy(context, (prober) => {
        for (const version of ['1.0', '1.1']) {
          const secure = { 'aws:SecureTransport': 'true', 's3:TlsVersion': version };
          const witness = firstUndenied(prober, secure);
          if (witness !== undefined) return fail(`not denied: ${witness}`);
        }
        const older = firstUndenied(prober, { 'aws:SecureTransport': 'true', 's3:TlsVersion': '1.2' });
        return pass(older === undefined ? 'denied up to TLS 1.2' : 'denied up to TLS 1.1');
      }),
  },
  {
    id: 'bucket-network',
    title: 'Requests from outside the expected networks or organization are denied',
    severity: 'low',
    why: 'Stolen credentials of a reader work from anywhere. The seal keeps the weights safe even then; the ciphertext would be copied.',
    remedy:
      'If all readers are in VPCs, add a Deny unless aws:SourceVpce is one of your endpoints, with an exemption for administrators: without one it locks out the console.',
    securityHub: [],
    prowler: [],
    judge: (context) =>
      withPolicy(context, (prober) => {
        const { request, evaluation } = prober.plainly({
          action: 's3:GetObject',
          context: { 'aws:SecureTransport': 'true', 's3:TlsVersion': '1.3' },
        });
        if (evaluation.effect === 'denied') return pass(`denied: ${describeRequest(request)}`);
        return warn('not restricted: credentials with s3:GetObject work from any network');
      }),
  },
  {
    id: 'bucket-presigned-urls',
    title: 'Presigned URLs do not live for days',
    severity: 'low',
    why: 'A presigned URL is a bearer token: whoever finds it in a log or a chat uses it, for up to seven days.',
    remedy:
      'Add a Deny where s3:signatureAge is greater than 600000 (ten minutes, in milliseconds), or where s3:authType is not REST-HEADER.',
    securityHub: [],
    prowler: [],
    judge: (context) =>
      withPolicy(context, (prober) => {
        const witness = prober.undenied({
          action: 's3:GetObject',
          context: {
            'aws:SecureTransport': 'true',
            's3:TlsVersion': '1.3',
            's3:signatureversion': 'AWS4-HMAC-SHA256',
            's3:authType': 'REST-QUERY-STRING',
            's3:signatureAge': '86400000',
          },
        });
        return witness === undefined
          ? pass('denied after a day')
          : warn('a URL that was signed a day ago is served');
      }),
  },
];

function firstUndenied(
  prober: Prober,
  context: Readonly<Record<string, string>>,
  without: readonly string[] = [],
): string | undefined {
  for (const action of ACTIONS) {
    const witness = prober.undenied({ action, context, without });
    if (witness !== undefined) return describeRequest(witness.request);
  }
  return undefined;
}
