import { describe, expect, it } from 'vitest';
import { auditBucket, BUCKET_CHECKS, exitCodeOf } from '../../../review/bucket/audit.ts';
import type { Outcome } from '../../../review/bucket/finding.ts';
import { auditSarif } from '../../../review/bucket/report-sarif.ts';
import { auditText } from '../../../review/bucket/report-text.ts';
import type { BucketSnapshot } from '../../../review/bucket/snapshot.ts';
import { sarifFaults } from '../../support/sarif-schema.ts';
import {
  ACCOUNT,
  ARN,
  BUCKET,
  findingOf,
  goodBucket,
  iris,
  KEY,
  keyJson,
  outcomeOf,
  ownPolicy,
  policyOf,
  sample,
  seen,
  unseen,
} from './fixtures.ts';

const NO_TLS = { Bool: { 'aws:SecureTransport': 'false' } };
const BOTH = [ARN, `${ARN}/*`];
const tls = (changes: object): object => ({
  Effect: 'Deny',
  Principal: '*',
  Action: 's3:*',
  Resource: BOTH,
  Condition: NO_TLS,
  ...changes,
});

describe('a bucket as configure leaves it', () => {
  it('fails nothing, and leaves nothing undecided', () => {
    const report = auditBucket(goodBucket());
    const rest = report.findings.filter(({ outcome }) => outcome !== 'PASS');
    expect(rest.map(({ id, outcome }) => `${outcome} ${id}`)).toEqual([
      'WARNING bucket-network',
      'WARNING bucket-presigned-urls',
      'MANUAL account-public-access-block',
      'MANUAL bucket-access-points',
      'MANUAL bucket-object-events',
      'MANUAL kms-key-policy',
    ]);
    expect([exitCodeOf(report, false), exitCodeOf(report, true)]).toEqual([0, 1]);
  });

  it('names the controls of Security Hub and Prowler, each check once', () => {
    const ids = BUCKET_CHECKS.flatMap(({ securityHub }) => securityHub);
    const s3 = [1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 17, 19, 20, 22, 23, 24].map(
      (id) => `S3.${id}`,
    );
    expect(ids.toSorted()).toEqual([...s3, 'KMS.1', 'KMS.2', 'KMS.3', 'KMS.4', 'KMS.5'].toSorted());
    expect(new Set(BUCKET_CHECKS.map(({ id }) => id)).size).toBe(BUCKET_CHECKS.length);
  });
});

describe('TLS only is what the policy does, not how it looks', () => {
  it.each<[string, object[], Outcome]>([
    ['for everybody, on bucket and objects', [tls({})], 'PASS'],
    ['in two statements', [tls({ Resource: ARN }), tls({ Resource: `${ARN}/*` })], 'PASS'],
    ['on every resource', [tls({ Resource: '*' })], 'PASS'],
    ['with IfExists', [tls({ Condition: { BoolIfExists: { 'aws:SecureTransport': 'false' } } })], 'PASS'],
    ['without quotes', [tls({ Condition: { Bool: { 'aws:SecureTransport': false } } })], 'PASS'],
    [
      'as "unless true"',
      [tls({ Condition: { StringNotEquals: { 'aws:SecureTransport': 'true' } } })],
      'PASS',
    ],
    ['for everybody by AWS', [tls({ Principal: { AWS: '*' } })], 'PASS'],
    ['for one role', [tls({ Principal: { AWS: `arn:aws:iam::${ACCOUNT}:role/Host` } })], 'FAIL'],
    ['for the own account', [tls({ Principal: { AWS: ACCOUNT } })], 'FAIL'],
    ['on objects alone', [tls({ Resource: `${ARN}/*` })], 'FAIL'],
    ['on the bucket alone', [tls({ Resource: ARN })], 'FAIL'],
    ['on one prefix', [tls({ Resource: [ARN, `${ARN}/models/*`] })], 'FAIL'],
    ['of another bucket', [tls({ Resource: ['arn:aws:s3:::other', 'arn:aws:s3:::other/*'] })], 'FAIL'],
    ['for reading alone', [tls({ Action: 's3:GetObject' })], 'FAIL'],
    ['for all but listing', [tls({ Action: undefined, NotAction: 's3:ListBucket' })], 'FAIL'],
    ['for all but one path', [tls({ Resource: undefined, NotResource: `${ARN}/open/*` })], 'FAIL'],
    [
      'as Allow with TLS',
      [tls({ Effect: 'Allow', Condition: { Bool: { 'aws:SecureTransport': 'true' } } })],
      'FAIL',
    ],
    ['the wrong way round', [tls({ Condition: { Bool: { 'aws:SecureTransport': 'true' } } })], 'FAIL'],
    ['with an inverted Null', [tls({ Condition: { Null: { 'aws:SecureTransport': 'true' } } })], 'FAIL'],
    [
      'but not for one role',
      [tls({ Condition: { ...NO_TLS, ArnNotLike: { 'aws:PrincipalArn': 'arn:aws:iam::*:role/Legacy*' } } })],
      'FAIL',
    ],
    [
      'but not for an endpoint',
      [tls({ Condition: { ...NO_TLS, StringNotEquals: { 'aws:SourceVpce': 'vpce-0a1b2c3d' } } })],
      'FAIL',
    ],
    [
      'but not for some addresses',
      [tls({ Condition: { ...NO_TLS, NotIpAddress: { 'aws:SourceIp': '10.0.0.1/32' } } })],
      'FAIL',
    ],
    [
      'but not for one principal',
      [
        tls({
          Principal: undefined,
          NotPrincipal: { AWS: [ACCOUNT, `arn:aws:iam::${ACCOUNT}:role/Legacy`] },
        }),
      ],
      'FAIL',
    ],
    [
      'but only for a browser',
      [tls({ Condition: { ...NO_TLS, StringLike: { 'aws:UserAgent': 'Mozilla*' } } })],
      'FAIL',
    ],
  ])('Deny %s', (_what, statements, outcome) => {
    expect(outcomeOf('bucket-tls-only', { policy: policyOf(...statements) })).toBe(outcome);
  });

  it('is shown by a request that goes through', () => {
    const statement = tls({
      Condition: { ...NO_TLS, StringNotEquals: { 'aws:SourceVpce': 'vpce-0a1b2c3d' } },
    });
    expect(findingOf('bucket-tls-only', { policy: policyOf(statement) }).found).toContain('vpce-0a1b2c3d');
    expect(findingOf('bucket-tls-only', { policy: seen(undefined) }).found).toContain(
      'the bucket has no policy',
    );
  });

  it('is not passed where the policy looks at more than can be tried', () => {
    const Condition = {
      ...NO_TLS,
      StringLike: Object.fromEntries(Array.from({ length: 20 }, (_, at) => [`aws:RequestTag/k${at}`, '*'])),
    };
    expect(outcomeOf('bucket-tls-only', { policy: policyOf(tls({ Condition })) })).toBe('FAIL');
    const exempt = Array.from({ length: 20 }, (_, at) =>
      tls({ Condition: { ...NO_TLS, StringNotEquals: { [`aws:RequestTag/k${at}`]: 'x' } } }),
    );
    expect(outcomeOf('bucket-tls-only', { policy: policyOf(...exempt) })).toBe('UNKNOWN');
    expect(outcomeOf('bucket-tls-only', { policy: policyOf(...exempt.slice(0, 4)) })).toBe('FAIL');
  });

  it.each<[string, object, Outcome]>([
    ['1.2', { NumericLessThan: { 's3:TlsVersion': '1.2' } }, 'PASS'],
    ['1.2 as a number', { NumericLessThan: { 's3:TlsVersion': 1.2 } }, 'PASS'],
    ['1.3', { NumericLessThan: { 's3:TlsVersion': '1.3' } }, 'PASS'],
    ['1.1', { NumericLessThan: { 's3:TlsVersion': '1.1' } }, 'FAIL'],
    ['a comparison the wrong way round', { NumericGreaterThan: { 's3:TlsVersion': '1.2' } }, 'FAIL'],
  ])('the oldest TLS: %s', (_what, Condition, outcome) => {
    const policy = ownPolicy({ without: ['StrongroomTlsVersion'], more: [tls({ Condition })] });
    expect(outcomeOf('bucket-tls-version', { policy })).toBe(outcome);
  });
});

const SSE = 's3:x-amz-server-side-encryption';
const upload = (Condition: object): object => ({
  Effect: 'Deny',
  Principal: '*',
  Action: 's3:PutObject',
  Resource: `${ARN}/*`,
  Condition,
});

describe('encryption of uploads', () => {
  const uploads = ['StrongroomUploadEncryption', 'StrongroomUploadKey'];

  it('two headers in one Deny must both be wrong, so one of them can be', () => {
    const both = upload({
      StringNotEquals: { [SSE]: 'aws:kms', [`${SSE}-aws-kms-key-id`]: KEY },
      Null: { [SSE]: 'false' },
    });
    const policy = ownPolicy({ without: uploads, more: [both] });
    expect(outcomeOf('bucket-upload-key', { policy })).toBe('FAIL');
  });

  it('a Deny without its guard is told from one with it', () => {
    const unguarded = upload({ StringNotEquals: { [SSE]: 'aws:kms' } });
    const policy = ownPolicy({ without: uploads, more: [unguarded] });
    expect(outcomeOf('bucket-upload-encryption', { policy })).toBe('PASS');
    expect(outcomeOf('bucket-upload-guard', { policy })).toBe('WARNING');
    expect(outcomeOf('bucket-upload-key', { policy })).toBe('FAIL');
  });

  it('a policy that denies the right upload is wrong too', () => {
    const policy = ownPolicy({ more: [upload({ StringNotEquals: { [SSE]: 'AES256' } })] });
    expect(outcomeOf('bucket-upload-guard', { policy })).toBe('FAIL');
  });

  it('uploads without headers need the default', () => {
    const encryption = seen({ algorithm: 'AES256', key: undefined, bucketKey: false, blocked: [] });
    expect(outcomeOf('bucket-upload-guard', { encryption })).toBe('FAIL');
    expect(outcomeOf('bucket-default-encryption', { encryption })).toBe('FAIL');
  });

  it.each<[string, object, Outcome]>([
    ['a key of the account', { key: KEY }, 'PASS'],
    ['no key', { key: undefined }, 'WARNING'],
    ['an alias', { key: 'alias/models' }, 'WARNING'],
    ['a key of another account', { key: KEY.replace(ACCOUNT, '444455556666') }, 'WARNING'],
    ['two layers', { algorithm: 'aws:kms:dsse' }, 'PASS'],
    ['none', { algorithm: 'none' }, 'FAIL'],
  ])('by default with %s', (_what, changes, outcome) => {
    const encryption = seen({ algorithm: 'aws:kms', key: KEY, bucketKey: true, blocked: [], ...changes });
    expect(outcomeOf('bucket-default-encryption', { encryption })).toBe(outcome);
  });

  it('keys of the uploader are held off by the bucket or by the policy', () => {
    const encryption = seen({ algorithm: 'aws:kms', key: KEY, bucketKey: false, blocked: [] });
    const policy = ownPolicy({ without: ['StrongroomNoCustomerKeys'] });
    expect(outcomeOf('bucket-customer-keys', { encryption })).toBe('PASS');
    expect(outcomeOf('bucket-customer-keys', { policy })).toBe('PASS');
    expect(outcomeOf('bucket-customer-keys', { encryption, policy })).toBe('FAIL');
    expect(outcomeOf('bucket-key', { encryption })).toBe('WARNING');
  });
});

describe('access', () => {
  const allow = (changes: object): object => ({
    Effect: 'Allow',
    Principal: '*',
    Action: 's3:GetObject',
    Resource: `${ARN}/*`,
    ...changes,
  });
  const open = { publicAccessBlock: seen(block(false)) };

  it.each<[string, object, Outcome]>([
    ['everybody', {}, 'FAIL'],
    ['everybody with an account', { Principal: { AWS: '*' } }, 'FAIL'],
    ['everybody from everywhere', { Condition: { IpAddress: { 'aws:SourceIp': '0.0.0.0/0' } } }, 'FAIL'],
    ['everybody outside', { Condition: { StringNotEquals: { 'aws:SourceVpce': 'vpce-1' } } }, 'FAIL'],
    [
      'everybody who says so',
      { Condition: { StringEquals: { 'aws:Referer': 'https://example.com' } } },
      'FAIL',
    ],
    [
      'everybody of an organization',
      { Condition: { StringEquals: { 'aws:PrincipalOrgID': 'o-1' } } },
      'PASS',
    ],
    ['an endpoint', { Condition: { StringEquals: { 'aws:SourceVpce': 'vpce-1' } } }, 'PASS'],
    ['an office', { Condition: { IpAddress: { 'aws:SourceIp': '198.51.100.0/24' } } }, 'PASS'],
    ['a role', { Principal: { AWS: `arn:aws:iam::${ACCOUNT}:role/Host` } }, 'PASS'],
    ['everybody but one', { Principal: undefined, NotPrincipal: { AWS: ACCOUNT } }, 'FAIL'],
  ])('reading by %s', (_what, changes, outcome) => {
    const policy = ownPolicy({ more: [allow(changes)] });
    expect(outcomeOf('bucket-public-read', { policy, ...open })).toBe(outcome);
    expect(outcomeOf('bucket-public-write', { policy, ...open })).toBe('PASS');
  });

  it('is held back by the block, which is a warning', () => {
    const policy = ownPolicy({ more: [allow({ Action: 's3:*' })] });
    expect(outcomeOf('bucket-public-read', { policy })).toBe('WARNING');
    expect(outcomeOf('bucket-public-write', { policy })).toBe('WARNING');
    expect(outcomeOf('bucket-public-write', { policy, ...open })).toBe('FAIL');
  });

  it('is granted by lists, where they are on', () => {
    const acl = seen([
      { grantee: 'http://acs.amazonaws.com/groups/global/AllUsers', isOwner: false, permission: 'READ' },
    ]);
    const ownership = seen('ObjectWriter');
    expect(outcomeOf('bucket-public-read', { acl })).toBe('PASS');
    expect(outcomeOf('bucket-public-read', { acl, ownership })).toBe('WARNING');
    expect(outcomeOf('bucket-public-read', { acl, ownership, ...open })).toBe('FAIL');
    expect(outcomeOf('bucket-public-write', { acl, ownership, ...open })).toBe('PASS');
  });

  it.each<[string, object, Outcome]>([
    ['reads', { Action: 's3:GetObject' }, 'WARNING'],
    ['writes the policy', { Action: 's3:PutBucketPolicy', Resource: ARN }, 'FAIL'],
    ['does everything', { Action: 's3:*', Resource: BOTH }, 'FAIL'],
  ])('another account that %s', (_what, changes, outcome) => {
    const policy = ownPolicy({ more: [allow({ Principal: { AWS: '444455556666' }, ...changes })] });
    expect(outcomeOf('bucket-cross-account', { policy })).toBe(outcome);
  });

  it('restricted to an endpoint is seen, with or without exemption', () => {
    const unless = { ...tls({}), Condition: { StringNotEquals: { 'aws:SourceVpce': 'vpce-1' } } };
    expect(outcomeOf('bucket-network', { policy: ownPolicy({ more: [unless] }) })).toBe('PASS');
  });

  it('by presigned URLs is bounded by their age', () => {
    const old = { ...tls({}), Condition: { NumericGreaterThan: { 's3:signatureAge': '600000' } } };
    expect(outcomeOf('bucket-presigned-urls', { policy: ownPolicy({ more: [old] }) })).toBe('PASS');
  });
});

describe('settings', () => {
  it.each<[string, Partial<BucketSnapshot>, Outcome]>([
    [
      'bucket-public-access-block',
      { publicAccessBlock: seen({ ...block(true), blockPublicPolicy: false }) },
      'FAIL',
    ],
    ['bucket-acl-off', { ownership: seen('BucketOwnerPreferred') }, 'FAIL'],
    ['bucket-acl-off', { ownership: seen(undefined) }, 'FAIL'],
    ['bucket-versioning', { versioning: seen({ enabled: false, mfaDelete: false }) }, 'FAIL'],
    ['bucket-mfa-delete', { objectLock: seen(undefined) }, 'WARNING'],
    [
      'bucket-mfa-delete',
      { objectLock: seen(undefined), versioning: seen({ enabled: true, mfaDelete: true }) },
      'PASS',
    ],
    ['bucket-object-lock', { objectLock: seen(undefined) }, 'WARNING'],
    ['bucket-object-lock', { objectLock: seen({ mode: undefined, retention: undefined }) }, 'WARNING'],
    ['bucket-logging', { logging: seen(undefined) }, 'WARNING'],
    ['bucket-logging', { logging: seen(BUCKET) }, 'WARNING'],
    ['bucket-lifecycle', { lifecycle: seen([]) }, 'WARNING'],
    ['bucket-replication', { replication: seen(['arn:aws:s3:::copy']) }, 'WARNING'],
  ])('%s of %j: %s', (id, changes, outcome) => {
    expect(outcomeOf(id, changes)).toBe(outcome);
  });

  it('that could not be seen are neither passed nor failed, and the exit code is 3', () => {
    const why = 'S3 answered 403 AccessDenied';
    const parts = [
      'policy',
      'encryption',
      'publicAccessBlock',
      'ownership',
      'versioning',
      'objectLock',
    ] as const;
    for (const part of [...parts, 'logging', 'lifecycle', 'replication', 'objects'] as const) {
      const report = auditBucket(goodBucket({ [part]: unseen(why) }));
      expect([part, report.counts.UNKNOWN > 0, report.counts.FAIL, exitCodeOf(report, false)]).toEqual([
        part,
        true,
        0,
        3,
      ]);
    }
  });

  it.each([
    ['repeated members', '{"Version":"2012-10-17","Version":"2008-10-17","Statement":[]}'],
    ['a condition in lower case', JSON.stringify({ Statement: [{ ...tls({}), condition: NO_TLS }] })],
    ['no JSON', 'TLS only, please'],
  ])('a policy with %s is not judged', (_what, text) => {
    expect(outcomeOf('bucket-tls-only', { policy: seen(text) })).toBe('UNKNOWN');
  });
});

describe('objects', () => {
  const withObjects = (...objects: ReturnType<typeof sample>[]): Partial<BucketSnapshot> => ({
    objects: seen({ complete: true, objects: [...iris(), ...objects] }),
  });

  it.each<[string, ReturnType<typeof sample>]>([
    ['GGUF', sample('team/llama.gguf', 'GGUF\x03\0\0\0')],
    ['safetensors', sample('team/model.safetensors', '\x40\0\0\0\0\0\0\0{"__metadata__"')],
    ['PyTorch', sample('team/model.pt', 'PK\x03\x04archive')],
    ['pickle', sample('team/model.pkl', '\x80\x04\x95')],
    ['ONNX', sample('team/model.onnx', '\x08\x08\x12\x04test')],
    ['text', sample('notes.txt', 'to do')],
    ['an empty object', sample('empty', '')],
    ['plaintext under a sealed name', sample('x.sealed/head', 'GGUF\x03\0\0\0')],
    ['a payload without a head', sample('x.sealed/payload', 'xxxx')],
    ['a stranger in a sealed folder', sample('team/iris.sealed/model.onnx', '\x08\x08\x12\x04test')],
    ['a key.json that is no JSON', sample('x.sealed/key.json', 'key')],
  ])('that are not sealed are found: %s', (_what, object) => {
    const finding = findingOf('objects-sealed', withObjects(object));
    expect(finding).toMatchObject({ outcome: 'FAIL', objects: [object.key] });
  });

  it.each([
    ['another length than the head says', sample('team/iris.sealed/payload', Buffer.alloc(96, 1), 5000)],
    ['the beginning of weights', sample('team/iris.sealed/payload', 'GGUF\x03\0\0\0', 4096)],
  ])('a payload with %s is no sealed one', (_what, object) => {
    const objects = [...iris().filter(({ key }) => !key.endsWith('/payload')), object];
    expect(outcomeOf('objects-sealed', { objects: seen({ complete: true, objects }) })).toBe('FAIL');
  });

  it('takes a Model Signing bundle for what it is', () => {
    expect(
      outcomeOf('objects-sealed', withObjects(sample('team/iris.sealed/model.sig', '{"mediaType":'))),
    ).toBe('PASS');
  });

  it.each([
    ['by its name', sample('team/iris.sealed.recovery.json', '{}')],
    ['by what is in it', sample('backup/x', '{"algorithm":"RSA-OAEP-SHA256","context":"')],
    ['by its format', sample('backup/y', '{"format":"strongroom-recovery-v1"}')],
  ])('a recovery file is found %s', (_what, object) => {
    expect(outcomeOf('objects-recovery', withObjects(object))).toBe('FAIL');
  });

  it.each(['ENCMODEL', 'ENVMODEL'])('a legacy model (%s) is a warning', (magic) => {
    expect(outcomeOf('objects-legacy', withObjects(sample('old.bin', `${magic}\0\0\0\x10{}`)))).toBe(
      'WARNING',
    );
    expect(outcomeOf('objects-sealed', withObjects(sample('old.bin', `${magic}\0\0\0\x10{}`)))).toBe('PASS');
  });

  it('a model with a part missing is told', () => {
    const objects = iris().filter(({ key }) => !key.endsWith('manifest.json'));
    expect(outcomeOf('objects-whole', { objects: seen({ complete: true, objects }) })).toBe('WARNING');
  });

  it('that were not looked at are not passed', () => {
    expect(outcomeOf('objects-sealed', { objects: seen({ complete: false, objects: iris() }) })).toBe(
      'UNKNOWN',
    );
    const denied = { key: 'x', sizeBytes: 5, begin: unseen('S3 answered 403 AccessDenied') };
    expect(outcomeOf('objects-sealed', { objects: seen({ complete: true, objects: [denied] }) })).toBe(
      'UNKNOWN',
    );
  });

  it('a model under the key of the bucket is told', () => {
    const own = sample('own.sealed/key.json', keyJson(KEY));
    expect(outcomeOf('bucket-key-separation', withObjects(own))).toBe('FAIL');
    const encryption = seen({ algorithm: 'aws:kms', key: KEY.split('/')[1], bucketKey: true, blocked: [] });
    expect(outcomeOf('bucket-key-separation', { ...withObjects(own), encryption })).toBe('FAIL');
  });
});

describe('reports', () => {
  const broken = goodBucket({
    policy: policyOf({
      ...tls({}),
      Effect: 'Allow',
      Principal: { AWS: '444455556666' },
      Condition: undefined,
    }),
    objects: seen({ complete: true, objects: [sample('a.gguf', 'GGUF'), sample('ü b.gguf', 'GGUF')] }),
    versioning: unseen('S3 answered 403 AccessDenied'),
  });

  it('say the verdict first, then what needs somebody', () => {
    const text = auditText(auditBucket(broken), false);
    expect(text.split('\n')[0]).toMatch(
      /^sealed-models is not as it should be: \d+ checks failed\. 2 checks could/,
    );
    expect(text).toContain('Security Hub S3.5, Prowler s3_bucket_secure_transport_policy');
    expect(text).toContain('line 1 of the bucket policy');
    expect(text).not.toContain('\x1b');
    expect(auditText(auditBucket(broken), true)).toContain('\x1b[31mFAIL');
  });

  it('are SARIF 2.1.0 with a rule for every check and a result for every object', () => {
    // biome-ignore lint/suspicious/noExplicitAny: a document of another standard
    const sarif = auditSarif(auditBucket(broken), '1.2.3') as any;
    const [run] = sarif.runs;
    expect(sarifFaults(sarif)).toEqual([]);
    expect(sarif.version).toBe('2.1.0');
    expect(run.tool.driver.rules.map(({ id }: { id: string }) => id)).toEqual(
      BUCKET_CHECKS.map(({ id }) => id),
    );
    expect(run.invocations[0].executionSuccessful).toBe(false);
    const unsealed = run.results.filter(({ ruleId }: { ruleId: string }) => ruleId === 'objects-sealed');
    expect(unsealed).toHaveLength(2);
    const uri = unsealed[1].locations[0].physicalLocation.artifactLocation.uri;
    expect(uri).toBe('sealed-models/objects/%C3%BC%20b.gguf');
    const prints = run.results.map((result: { partialFingerprints: object }) =>
      JSON.stringify(result.partialFingerprints),
    );
    expect(new Set(prints).size).toBe(prints.length);
    for (const { ruleIndex, ruleId, level } of run.results) {
      expect(BUCKET_CHECKS[ruleIndex]?.id).toBe(ruleId);
      expect(['error', 'warning', 'note']).toContain(level);
    }
  });
});

function block(on: boolean) {
  return { blockPublicAcls: on, ignorePublicAcls: on, blockPublicPolicy: on, restrictPublicBuckets: on };
}
