import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type BucketWish, planBucket } from '../../../review/bucket/plan.ts';
import { mergePolicy, ownStatements } from '../../../review/bucket/policy-statements.ts';
import { ARN, goodBucket, KEY, outcomeOf, seen, unseen, WISH } from './fixtures.ts';

const WANTED: BucketWish = { kmsKey: KEY, tls: '1.2', objectLock: { mode: 'COMPLIANCE', days: 30 } };
const YOURS = {
  Sid: 'Readers',
  Effect: 'Allow',
  Principal: { AWS: 'arn:aws:iam::111122223333:role/Host' },
  Action: 's3:GetObject',
  Resource: `${ARN}/*`,
};
const statementsOf = (policy: string | undefined): object[] => JSON.parse(policy ?? '{}').Statement;

describe('the plan', () => {
  it('is empty for a bucket that is as it should be', () => {
    expect(planBucket(goodBucket(), WANTED)).toEqual({ steps: [], unseen: [] });
  });

  it.each([
    ['publicAccessBlock', { publicAccessBlock: seen({ ...goodBlock(), ignorePublicAcls: false }) }],
    ['ownership', { ownership: seen('ObjectWriter') }],
    ['versioning', { versioning: seen({ enabled: false, mfaDelete: false }) }],
    [
      'encryption',
      { encryption: seen({ algorithm: 'AES256', key: undefined, bucketKey: false, blocked: [] }) },
    ],
    ['encryption', { encryption: seen({ algorithm: 'aws:kms', key: KEY, bucketKey: true, blocked: [] }) }],
    ['lifecycle', { lifecycle: seen([]) }],
    ['objectLock', { objectLock: seen({ mode: 'GOVERNANCE', retention: '30 days' }) }],
    ['policy', { policy: seen(undefined) }],
  ])('has one step for %s', (setting, changes) => {
    expect(planBucket(goodBucket(changes), WANTED).steps.map((step) => step.setting)).toEqual([setting]);
  });

  it('leaves Object Lock alone unless it is asked for', () => {
    const { objectLock: _, ...wish } = WANTED;
    expect(planBucket(goodBucket({ objectLock: seen(undefined) }), wish).steps).toEqual([]);
  });

  it('plans nothing for what could not be seen, and says so', () => {
    const plan = planBucket(goodBucket({ policy: unseen('denied') }), WANTED);
    expect(plan).toEqual({ steps: [], unseen: [{ setting: 'policy', why: 'denied' }] });
  });

  it('turns versioning on before Object Lock, and writes the policy last', () => {
    const bare = goodBucket({
      publicAccessBlock: seen({ ...goodBlock(), blockPublicAcls: false }),
      versioning: seen({ enabled: false, mfaDelete: false }),
      objectLock: seen(undefined),
      policy: seen(undefined),
    });
    const settings = planBucket(bare, WANTED).steps.map(({ setting }) => setting);
    expect(settings).toEqual(['publicAccessBlock', 'versioning', 'objectLock', 'policy']);
  });
});

describe('our statements in a policy', () => {
  it('pass every check of the audit that asks the policy', () => {
    for (const tls of ['1.2', '1.3'] as const) {
      const { policy } = mergePolicy(undefined, { ...WISH, tls });
      for (const id of [
        'tls-only',
        'tls-version',
        'upload-encryption',
        'upload-key',
        'upload-guard',
        'customer-keys',
      ]) {
        const encryption = seen({ algorithm: 'aws:kms', key: KEY, bucketKey: true, blocked: [] });
        expect([id, outcomeOf(`bucket-${id}`, { policy: seen(policy), encryption })]).toEqual([id, 'PASS']);
      }
    }
  });

  it('join those of others, which stay as they are and where they are', () => {
    const existing = JSON.stringify({ Version: '2008-10-17', Id: 'mine', Statement: YOURS });
    const { policy, added, kept } = mergePolicy(existing, WISH);
    expect({ added: added.length, kept }).toEqual({ added: 5, kept: 1 });
    expect(JSON.parse(policy ?? '')).toMatchObject({ Version: '2008-10-17', Id: 'mine' });
    expect(statementsOf(policy)[0]).toEqual(YOURS);
  });

  it('take the place of those with the same Sid', () => {
    const [first, ...rest] = ownStatements(WISH);
    const weaker = { ...first, Action: 's3:GetObject' };
    const existing = JSON.stringify({ Version: '2012-10-17', Statement: [weaker, YOURS, ...rest, weaker] });
    const { policy, replaced, kept } = mergePolicy(existing, WISH);
    expect({ replaced, kept }).toEqual({ replaced: ['StrongroomTlsOnly'], kept: 1 });
    expect(statementsOf(policy)).toEqual([first, YOURS, ...rest]);
  });

  it('are known again however S3 writes them', () => {
    const rewritten = ownStatements(WISH).map((statement) => {
      const { Resource, Principal: _, ...others } = statement;
      const reversed = Array.isArray(Resource) ? [...Resource].reverse() : [Resource];
      return { Resource: reversed, Principal: { AWS: '*' }, ...others };
    });
    const existing = JSON.stringify({ Statement: rewritten, Version: '2012-10-17' });
    expect(mergePolicy(existing, WISH).policy).toBeUndefined();
  });

  it('are not put into a policy that cannot be understood', () => {
    const existing = '{"Version":"2012-10-17","Statement":[],"Statement":[]}';
    expect(() => mergePolicy(existing, WISH)).toThrow(expect.objectContaining({ code: 'POLICY_JSON' }));
  });

  it('merge once, whatever was there: nothing is lost, and a second time changes nothing', () => {
    const sid = fc.constantFrom('StrongroomTlsOnly', 'StrongroomUploadKey', 'A', 'B', undefined);
    const statement = fc
      .record({ sid, action: fc.constantFrom('s3:GetObject', 's3:*', 's3:Put*') })
      .map(({ sid: Sid, action: Action }) => ({
        ...(Sid !== undefined && { Sid }),
        ...YOURS,
        Action,
        ...(Sid === undefined ? { Sid: '' } : { Sid }),
      }));
    fc.assert(
      fc.property(fc.array(statement, { minLength: 1, maxLength: 6 }), (Statement) => {
        const existing = JSON.stringify({ Version: '2012-10-17', Statement });
        const merged = mergePolicy(existing, WISH).policy ?? existing;
        const foreign = Statement.filter(({ Sid }) => !Sid.startsWith('Strongroom'));
        expect(
          statementsOf(merged).filter(
            (one) => !String((one as { Sid?: string }).Sid).startsWith('Strongroom'),
          ),
        ).toEqual(foreign);
        expect(mergePolicy(merged, WISH).policy).toBeUndefined();
      }),
      { numRuns: 100 },
    );
  });
});

function goodBlock() {
  return {
    blockPublicAcls: true,
    ignorePublicAcls: true,
    blockPublicPolicy: true,
    restrictPublicBuckets: true,
  };
}
