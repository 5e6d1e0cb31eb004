import { parseArgs } from 'node:util';
import { type BucketPlan, type BucketWish, planBucket } from '../../review/bucket/plan.ts';
import type { BucketSnapshot } from '../../review/bucket/snapshot.ts';
import { parseKeyArn } from '../../shared/policy/arn.ts';
import { PolicyError } from '../../shared/policy/errors.ts';
import { applyStep } from '../bucket/apply.ts';
import { collectBucket } from '../bucket/collect.ts';
import { BUCKET_HELP, BUCKET_OPTIONS, openBucket } from '../bucket/options.ts';
import type { Command } from '../command.ts';
import { CommandError } from '../errors.ts';

export const command: Command = {
  name: 'bucket configure',
  summary: 'show what a bucket of sealed models lacks, and set it up with --apply',
  help: `
Usage: strongroom bucket configure BUCKET [--kms-key ARN] [OPTIONS]

Compares the bucket with what a bucket of sealed models should be, and shows each setting that differs: as it is, and
as it would be. Nothing is changed without --apply. Whatever else the bucket policy holds stays.

  public access block    all four settings on
  ownership              the bucket's owner, access control lists off
  versioning             on
  encryption             SSE-KMS with a bucket key, SSE-C blocked
  lifecycle              unfinished uploads end after seven days
  object lock            with --object-lock only: it cannot be turned off again
  policy                 requests without TLS, over an old TLS, or with other encryption headers are denied

      --kms-key ARN         the key for encryption at rest; default: the bucket's own. Not a key of models
      --tls 1.2|1.3         the oldest TLS that is let in; default: 1.2
      --object-lock MODE:DAYS   governance or compliance, for example governance:30
      --apply               make the changes, then look again
${BUCKET_HELP}

      --json                print the plan as JSON

Example:
  strongroom bucket configure example-models --kms-key arn:aws:kms:eu-central-1:111122223333:key/KEY --apply

Exit codes: 0 nothing to change or all changed, 1 changes are due or were refused, 2 usage or unreadable bucket, 3 a
setting could not be seen.
`,
  async run(args, io) {
    const { values, positionals } = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        ...BUCKET_OPTIONS,
        'kms-key': { type: 'string' },
        tls: { type: 'string', default: '1.2' },
        'object-lock': { type: 'string' },
        apply: { type: 'boolean', default: false },
        json: { type: 'boolean', default: false },
      },
    });
    using place = await openBucket('bucket configure', positionals, values);
    const { signal } = io;
    const look = (): Promise<BucketSnapshot> => collectBucket({ ...place, signal, objectsMax: 0 });
    const before = await look();
    const wish: BucketWish = {
      kmsKey: keyOf(values['kms-key'], before),
      tls: tlsOf(values.tls),
      ...lockOf(values['object-lock']),
    };
    const due = planFor(before, wish);
    if (!values.json) io.stdout.write(describe(due, before.bucket));
    let left = due;
    if (values.apply) {
      for (const step of due.steps) {
        await applyStep(step, { ...place, wish, signal });
        if (!values.json) io.stdout.write(`done: ${step.setting}\n`);
      }
      left = due.steps.length === 0 ? due : planFor(await look(), wish);
      if (!values.json && due.steps.length > 0) io.stdout.write(afterwards(left));
    }
    if (values.json)
      io.stdout.write(`${JSON.stringify({ bucket: before.bucket, applied: values.apply, due, left })}\n`);
    else if (!values.apply && due.steps.length > 0) io.stdout.write('nothing was changed; --apply does it\n');
    return left.steps.length > 0 ? 1 : left.unseen.length > 0 ? 3 : 0;
  },
};

function keyOf(given: string | undefined, { encryption, accountId }: BucketSnapshot): string {
  const key = given ?? (encryption.seen ? encryption.value.key : undefined);
  if (key === undefined) {
    throw new CommandError('USAGE', 'The bucket has no KMS key yet: name one with --kms-key ARN.');
  }
  const parsed = parseKeyArn(key);
  if (parsed === undefined) {
    throw new CommandError('USAGE', `--kms-key must be the ARN of a key, not ${JSON.stringify(key)}.`);
  }
  if (given === undefined || parsed.accountId === accountId) return key;
  throw new CommandError('USAGE', `--kms-key is of account ${parsed.accountId}, the bucket of ${accountId}.`);
}

function tlsOf(text: string): '1.2' | '1.3' {
  if (text === '1.2' || text === '1.3') return text;
  throw new CommandError('USAGE', `--tls must be 1.2 or 1.3, not ${JSON.stringify(text)}.`);
}

function lockOf(text: string | undefined): Pick<BucketWish, 'objectLock'> {
  if (text === undefined) return {};
  const [, mode, days] = /^(governance|compliance):([1-9][0-9]{0,4})$/.exec(text) ?? [];
  if (mode === undefined) {
    throw new CommandError(
      'USAGE',
      `--object-lock must be governance:DAYS or compliance:DAYS, not ${JSON.stringify(text)}.`,
    );
  }
  return { objectLock: { mode: mode === 'governance' ? 'GOVERNANCE' : 'COMPLIANCE', days: Number(days) } };
}

function planFor(snapshot: BucketSnapshot, wish: BucketWish): BucketPlan {
  try {
    return planBucket(snapshot, wish);
  } catch (error) {
    if (!(error instanceof PolicyError)) throw error;
    throw new CommandError('BUCKET_POLICY_UNCLEAR', `The bucket policy: ${error.message}`, error);
  }
}

function describe({ steps, unseen }: BucketPlan, bucket: string): string {
  const lines = steps.flatMap(({ setting, is, wouldBe, policy }) => [
    setting,
    `  - ${is}`,
    `  + ${wouldBe}`,
    ...(policy === undefined
      ? []
      : JSON.stringify(JSON.parse(policy), undefined, 2)
          .split('\n')
          .map((line) => `    ${line}`)),
  ]);
  lines.push(...unseen.map(({ setting, why }) => `${setting}: cannot be seen (${why})`));
  if (lines.length === 0) return `${bucket} is as it should be; nothing to change\n`;
  return `${lines.join('\n')}\n`;
}

function afterwards({ steps, unseen }: BucketPlan): string {
  if (steps.length > 0) return `still different: ${steps.map(({ setting }) => setting).join(', ')}\n`;
  return unseen.length > 0 ? 'the rest could not be seen\n' : 'looked again: as it should be\n';
}
