/** Whether what is there stays there, and whether anybody can tell afterwards who did what. */

import { type AuditContext, withSeen } from './context.ts';
import type { Answer, Check } from './finding.ts';
import { fail, manual, pass, warn } from './finding.ts';

export const keepingChecks: readonly (Check & { judge(context: AuditContext): Answer })[] = [
  {
    id: 'bucket-versioning',
    title: 'Versioning is on',
    severity: 'medium',
    why: 'A replaced or deleted model can be brought back, and what an enclave loaded last month can still be looked at.',
    remedy: 'strongroom bucket configure turns it on.',
    securityHub: ['S3.14'],
    prowler: ['s3_bucket_object_versioning'],
    judge: ({ snapshot }) =>
      withSeen(snapshot.versioning, ({ enabled }) => (enabled ? pass('on') : fail('off or suspended'))),
  },
  {
    id: 'bucket-mfa-delete',
    title: 'Deleting versions takes a second factor',
    severity: 'low',
    why: "Without it, or Object Lock, whoever holds an administrator's credentials deletes every version.",
    remedy: 'Use Object Lock, or turn MFA delete on as the root user.',
    securityHub: ['S3.20'],
    prowler: ['s3_bucket_no_mfa_delete'],
    judge: ({ snapshot }) =>
      withSeen(snapshot.versioning, ({ mfaDelete }) => {
        if (mfaDelete) return pass('on');
        const locked = snapshot.objectLock.seen && snapshot.objectLock.value?.mode === 'COMPLIANCE';
        return locked ? pass('off; Object Lock in compliance mode holds instead') : warn('off');
      }),
  },
  {
    id: 'bucket-object-lock',
    title: 'Published versions are locked',
    severity: 'low',
    why: 'A locked version cannot be overwritten or deleted until its time is over, by nobody in compliance mode.',
    remedy:
      'strongroom bucket configure --object-lock compliance:DAYS, if nothing in the bucket must go earlier.',
    securityHub: ['S3.15'],
    prowler: ['s3_bucket_object_lock'],
    judge: ({ snapshot }) =>
      withSeen(snapshot.objectLock, (lock) => {
        if (lock === undefined) return warn('Object Lock is off');
        return lock.mode === undefined
          ? warn('Object Lock is on, without a default retention')
          : pass(`${lock.mode.toLowerCase()} mode, ${lock.retention}`);
      }),
  },
  {
    id: 'bucket-logging',
    title: 'Access is logged',
    severity: 'medium',
    why: 'Afterwards somebody will ask who fetched which model when.',
    remedy: 'Turn on server access logging to another bucket, or CloudTrail data events for this one.',
    securityHub: ['S3.9'],
    prowler: ['s3_bucket_server_access_logging_enabled'],
    judge: ({ snapshot }) =>
      withSeen(snapshot.logging, (target) => {
        if (target === undefined)
          return warn('no server access logging; CloudTrail data events would do instead');
        return target === snapshot.bucket
          ? warn('logs go into the bucket itself')
          : pass(`logs go to ${target}`);
      }),
  },
  {
    id: 'bucket-object-events',
    title: 'CloudTrail records reads and writes of objects',
    severity: 'low',
    why: 'Server access logs are best effort; CloudTrail names the session.',
    remedy: 'Add a trail with S3 data events, read and write, for this bucket.',
    securityHub: ['S3.11', 'S3.22', 'S3.23'],
    prowler: [],
    judge: () => manual('not a setting of the bucket: aws cloudtrail get-event-selectors for each trail'),
  },
  {
    id: 'bucket-lifecycle',
    title: 'Unfinished uploads end by themselves',
    severity: 'low',
    why: 'Parts of an upload that nobody completes are stored and paid for, and no listing of objects shows them.',
    remedy: 'strongroom bucket configure adds a rule that ends uploads after seven days.',
    securityHub: ['S3.10', 'S3.13'],
    prowler: [],
    judge: ({ snapshot }) =>
      withSeen(snapshot.lifecycle, (rules) => {
        const live = rules.filter(({ enabled }) => enabled);
        const aborting = live.find(({ abortsUploadsAfterDays, prefix }) => {
          return abortsUploadsAfterDays !== undefined && prefix === '';
        });
        const expiring = live.filter(({ expires }) => expires);
        if (expiring.length > 0) {
          return warn(`rules delete current objects: ${expiring.map(({ name }) => name).join(', ')}`);
        }
        return aborting === undefined
          ? warn('no rule ends unfinished uploads')
          : pass(`uploads end after ${aborting.abortsUploadsAfterDays} days`);
      }),
  },
  {
    id: 'bucket-replication',
    title: 'Copies of the bucket are as safe as the bucket',
    severity: 'low',
    why: 'Replication writes to buckets with rules of their own.',
    remedy: 'Audit each destination in the same way.',
    securityHub: ['S3.7'],
    prowler: [],
    judge: ({ snapshot }) =>
      withSeen(snapshot.replication, (destinations) =>
        destinations.length === 0
          ? pass('nothing is replicated')
          : warn(`audit these too: ${destinations.join(', ')}`),
      ),
  },
];
