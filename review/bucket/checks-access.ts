/** Who may read and write: the public, other accounts, and lists of the time before policies. */

import { type AuditContext, withPolicy, withSeen } from './context.ts';
import type { Answer, Check } from './finding.ts';
import { fail, manual, pass, unknown, warn } from './finding.ts';
import { describeRequest, type Prober, type Question, type Witness } from './probes.ts';

const READING = [
  's3:GetObject',
  's3:GetObjectVersion',
  's3:ListBucket',
  's3:ListBucketVersions',
  's3:GetBucketPolicy',
];
const WRITING = [
  's3:PutObject',
  's3:DeleteObject',
  's3:DeleteObjectVersion',
  's3:PutObjectAcl',
  's3:PutBucketPolicy',
];
/** What Security Hub S3.6 names: with one of these another account takes the bucket over. */
const TAKING_OVER = [
  's3:DeleteBucketPolicy',
  's3:PutBucketAcl',
  's3:PutBucketPolicy',
  's3:PutEncryptionConfiguration',
  's3:PutObjectAcl',
];
/** Amazon S3 User Guide, "Amazon S3 predefined groups". */
const GROUPS = /\/groups\/global\/(AllUsers|AuthenticatedUsers)$/;
const SECURE = { 'aws:SecureTransport': 'true', 's3:TlsVersion': '1.3' };
/** From an address that no list of addresses holds (RFC 5737). */
const FROM_ANYWHERE = { ...SECURE, 'aws:SourceIp': '203.0.113.7' };
/** Amazon S3 User Guide, "The meaning of public": a statement that fixes one of these is not for the public. */
const NOT_PUBLIC = [
  'aws:PrincipalOrgID',
  'aws:PrincipalOrgPaths',
  'aws:ResourceOrgID',
  'aws:SourceAccount',
  'aws:SourceArn',
  'aws:SourceOrgID',
  'aws:SourceVpc',
  'aws:SourceVpce',
  's3:DataAccessPointAccount',
  's3:DataAccessPointArn',
];

export const accessChecks: readonly (Check & { judge(context: AuditContext): Answer })[] = [
  {
    id: 'bucket-public-access-block',
    title: 'All four settings of the public access block are on',
    severity: 'high',
    why: 'They hold whatever policy or list somebody writes tomorrow.',
    remedy: 'strongroom bucket configure turns them on.',
    securityHub: ['S3.8'],
    prowler: ['s3_bucket_level_public_access_block'],
    judge: ({ snapshot }) =>
      withSeen(snapshot.publicAccessBlock, (block) => {
        const off = Object.entries(block).filter(([, on]) => !on);
        return off.length === 0 ? pass('all on') : fail(`off: ${off.map(([name]) => name).join(', ')}`);
      }),
  },
  {
    id: 'account-public-access-block',
    title: 'The public access block of the account is on',
    severity: 'medium',
    why: 'It holds for buckets that somebody makes tomorrow.',
    remedy: 'aws s3control put-public-access-block --account-id ACCOUNT with all four settings true.',
    securityHub: ['S3.1'],
    prowler: ['s3_account_level_public_access_blocks'],
    judge: ({ snapshot }) =>
      manual(
        `not a setting of the bucket: aws s3control get-public-access-block --account-id ${snapshot.accountId}`,
      ),
  },
  {
    id: 'bucket-public-read',
    title: 'Nobody reads without being somebody',
    severity: 'high',
    why: 'Sealed weights stay sealed, but a public bucket gives away what there is, and all that is not sealed.',
    remedy: 'Remove the statement or grant, and turn the public access block on.',
    securityHub: ['S3.2'],
    prowler: [],
    judge: (context) => publicAccess(context, READING, /^(?:READ|FULL_CONTROL)/),
  },
  {
    id: 'bucket-public-write',
    title: 'Nobody writes without being somebody',
    severity: 'critical',
    why: 'Enclaves refuse what is not signed, so replaced models stop them; and the bucket serves what others put there.',
    remedy: 'Remove the statement or grant, and turn the public access block on.',
    securityHub: ['S3.3'],
    prowler: [],
    judge: (context) => publicAccess(context, WRITING, /^(?:WRITE|FULL_CONTROL)/),
  },
  {
    id: 'bucket-cross-account',
    title: 'Other accounts have no rights on the bucket that give it away',
    severity: 'high',
    why: 'Who may write the policy, the lists or the encryption of the bucket owns it, whosever it is.',
    remedy: 'Remove these actions from statements for other accounts; readers need s3:GetObject and no more.',
    securityHub: ['S3.6'],
    prowler: ['s3_bucket_cross_account_access'],
    judge: (context) => withPolicy(context, (prober) => crossAccount(prober, context.snapshot.accountId)),
  },
  {
    id: 'bucket-acl-off',
    title: 'Access control lists are off',
    severity: 'medium',
    why: 'A list on an object grants beside the policy, and an object that another account uploaded may not even be yours.',
    remedy: 'strongroom bucket configure sets the ownership to BucketOwnerEnforced.',
    securityHub: ['S3.12'],
    prowler: ['s3_bucket_acl_prohibited'],
    judge: ({ snapshot }) =>
      withSeen(snapshot.ownership, (ownership) =>
        ownership === 'BucketOwnerEnforced'
          ? pass(ownership)
          : fail(`ownership is ${ownership ?? 'not set'}`),
      ),
  },
  {
    id: 'bucket-access-points',
    title: 'Access points are as strict as the bucket',
    severity: 'low',
    why: 'An access point has a policy and a public access block of its own.',
    remedy: 'Block public access on each access point; delete those that nobody uses.',
    securityHub: ['S3.19', 'S3.24'],
    prowler: [],
    judge: ({ snapshot }) =>
      manual(
        `not a setting of the bucket: aws s3control list-access-points --account-id ${snapshot.accountId} --bucket ${snapshot.bucket}`,
      ),
  },
];

function publicAccess(context: AuditContext, actions: readonly string[], permissions: RegExp): Answer {
  const { acl, ownership, publicAccessBlock } = context.snapshot;
  return withPolicy(context, (prober) => {
    const witness = firstAllowed(prober, actions, {
      context: FROM_ANYWHERE,
      without: NOT_PUBLIC,
      callers: ['anonymous', prober.stranger()],
    });
    if (witness !== undefined) {
      const text = `allowed: ${describeRequest(witness.request)}`;
      const line = witness.evaluation.statements[0]?.line;
      const held = publicAccessBlock.seen && publicAccessBlock.value.restrictPublicBuckets;
      return held ? warn(`${text}; only restrictPublicBuckets holds it back`) : fail(text, line);
    }
    if (ownership.seen && ownership.value === 'BucketOwnerEnforced')
      return pass('no statement allows it, lists are off');
    if (!acl.seen)
      return unknown(`no statement allows it; the access control list could not be read: ${acl.why}`);
    const grant = acl.value.find(
      ({ grantee, permission }) => GROUPS.test(grantee) && permissions.test(permission),
    );
    if (grant === undefined) return pass('no statement and no grant allows it');
    const held = publicAccessBlock.seen && publicAccessBlock.value.ignorePublicAcls;
    const text = `granted by the list: ${grant.permission} to ${grant.grantee.split('/').at(-1)}`;
    return held ? warn(`${text}; only ignorePublicAcls holds it back`) : fail(text);
  });
}

function crossAccount(prober: Prober, accountId: string): Answer {
  const others = prober.named().filter((caller) => caller.accountId !== accountId);
  const context = SECURE;
  const witness = firstAllowed(prober, TAKING_OVER, { context, callers: [...others, prober.stranger()] });
  if (witness !== undefined) {
    return fail(`allowed: ${describeRequest(witness.request)}`, witness.evaluation.statements[0]?.line);
  }
  const reading = firstAllowed(prober, [...READING, ...WRITING], { context, callers: others });
  return reading === undefined
    ? pass('no statement allows another account anything that was asked')
    : warn(`allowed: ${describeRequest(reading.request)}; make sure that this account is meant`);
}

function firstAllowed(
  prober: Prober,
  actions: readonly string[],
  how: Omit<Question, 'action'>,
): Witness | undefined {
  for (const action of actions) {
    const witness = prober.allowed({ action, ...how });
    if (witness !== undefined) return witness;
  }
  return undefined;
}
