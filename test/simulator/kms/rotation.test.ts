import {
  CreateAliasCommand,
  CreateKeyCommand,
  DecryptCommand,
  DeleteAliasCommand,
  DescribeKeyCommand,
  DisableKeyRotationCommand,
  EnableKeyRotationCommand,
  EncryptCommand,
  GetKeyRotationStatusCommand,
  type KMSClient,
  ListAliasesCommand,
  ListKeyRotationsCommand,
  paginateListKeyRotations,
  RotateKeyOnDemandCommand,
  UpdateAliasCommand,
} from '@aws-sdk/client-kms';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  ACCOUNT,
  ALL_OF_KMS,
  admin,
  allow,
  keyPolicy,
  principal,
  REGION,
  refusal,
  role,
  type Stand,
  startStand,
} from './support.ts';

const DAY_MS = 86_400_000;
const ROTATION = [
  'kms:EnableKeyRotation',
  'kms:DisableKeyRotation',
  'kms:GetKeyRotationStatus',
  'kms:ListKeyRotations',
  'kms:RotateKeyOnDemand',
];
const ALIASES = ['kms:CreateAlias', 'kms:UpdateAlias', 'kms:DeleteAlias'];
/** Named in key policies where a test says so; its IAM policies are those of the account's administrator. */
const named = principal(role('Named'), { iamPolicies: [ALL_OF_KMS] });
/** Whatever a key policy gives it, no IAM policy gives it an alias. */
const withoutIam = principal(role('WithoutIam'));
let stand: Stand;
let as: Record<'admin' | 'named' | 'withoutIam', KMSClient>;
/** Begins today, because the server's certificate does. */
let now = new Date(Math.floor(Date.now() / 1000) * 1000);

beforeAll(async () => {
  stand = await startStand([admin, named, withoutIam], () => now);
  const client = (who: typeof admin) => {
    const made = stand.client(who);
    // The SDK signs with the time of the machine unless told otherwise.
    made.config.systemClockOffset = now.getTime() - Date.now();
    return made;
  };
  as = { admin: client(admin), named: client(named), withoutIam: client(withoutIam) };
});
afterAll(() => stand.close());

function advance(days: number): void {
  now = new Date(now.getTime() + days * DAY_MS);
  for (const client of Object.values(as)) client.config.systemClockOffset = now.getTime() - Date.now();
}

async function newKey(...statements: object[]): Promise<string> {
  const everything = { ...allow(admin, ['kms:Decrypt', ...ROTATION, ...ALIASES]), Sid: 'More' };
  const Policy = keyPolicy(everything, ...statements);
  return (await as.admin.send(new CreateKeyCommand({ Policy }))).KeyMetadata?.Arn as string;
}

const statusOf = (KeyId: string) => as.admin.send(new GetKeyRotationStatusCommand({ KeyId }));
const historyOf = async (KeyId: string, more: object = {}) =>
  (await as.admin.send(new ListKeyRotationsCommand({ KeyId, ...more }))).Rotations ?? [];
const wrapped = (KeyId: string) => as.admin.send(new EncryptCommand({ KeyId, Plaintext: Buffer.of(7) }));

describe('automatic rotation', () => {
  it('is off, is enabled with a period, rotates when that is over, and older ciphertexts still open', async () => {
    const key = await newKey();
    expect(await statusOf(key)).toMatchObject({ KeyRotationEnabled: false });
    await as.admin.send(new EnableKeyRotationCommand({ KeyId: key, RotationPeriodInDays: 90 }));
    const status = await statusOf(key);
    expect(status).toMatchObject({ KeyRotationEnabled: true, RotationPeriodInDays: 90 });
    expect(status.NextRotationDate).toEqual(new Date(now.getTime() + 90 * DAY_MS));
    const before = await wrapped(key);
    advance(89);
    expect(await historyOf(key)).toEqual([]);
    advance(1);
    expect(await historyOf(key)).toMatchObject([{ RotationType: 'AUTOMATIC', KeyMaterialState: 'CURRENT' }]);
    advance(200);
    const history = await historyOf(key, { IncludeKeyMaterial: 'ALL_KEY_MATERIAL' });
    expect(history.map(({ RotationType }) => RotationType)).toEqual([
      undefined,
      'AUTOMATIC',
      'AUTOMATIC',
      'AUTOMATIC',
    ]);
    expect(history.map(({ KeyMaterialState }) => KeyMaterialState)).toEqual([
      ...Array(3).fill('NON_CURRENT'),
      'CURRENT',
    ]);
    const opened = await as.admin.send(new DecryptCommand({ CiphertextBlob: before.CiphertextBlob }));
    expect(opened.KeyMaterialId).toBe(history[0]?.KeyMaterialId);
    const described = await as.admin.send(new DescribeKeyCommand({ KeyId: key }));
    expect(described.KeyMetadata?.CurrentKeyMaterialId).toBe(history.at(-1)?.KeyMaterialId);
    await as.admin.send(new DisableKeyRotationCommand({ KeyId: key }));
    advance(400);
    expect(await historyOf(key)).toHaveLength(3);
    expect(await statusOf(key)).toMatchObject({ KeyRotationEnabled: false });
  });

  it('is 365 days unless told, and never under 90 or over 2560', async () => {
    const KeyId = await newKey();
    await as.admin.send(new EnableKeyRotationCommand({ KeyId }));
    expect((await statusOf(KeyId)).RotationPeriodInDays).toBe(365);
    for (const RotationPeriodInDays of [89, 2561]) {
      const found = await refusal(
        as.admin.send(new EnableKeyRotationCommand({ KeyId, RotationPeriodInDays })),
      );
      expect(found.name).toBe('ValidationException');
    }
  });

  it('can be held to a period by the key policy', async () => {
    const often = { NumericLessThanEquals: { 'kms:RotationPeriodInDays': '180' } };
    const KeyId = await newKey({ ...allow(withoutIam, 'kms:EnableKeyRotation', often), Sid: 'Often' });
    await as.withoutIam.send(new EnableKeyRotationCommand({ KeyId, RotationPeriodInDays: 180 }));
    const found = await refusal(as.withoutIam.send(new EnableKeyRotationCommand({ KeyId })));
    expect(found.name).toBe('AccessDeniedException');
  });
});

describe('rotation on demand', () => {
  it('is done at once, recorded as KMS’s own event, and leaves the schedule alone', async () => {
    const KeyId = await newKey();
    await as.admin.send(new EnableKeyRotationCommand({ KeyId }));
    const { NextRotationDate } = await statusOf(KeyId);
    advance(1);
    await as.admin.send(new RotateKeyOnDemandCommand({ KeyId }));
    expect(stand.records.filter(({ eventName }) => eventName === 'RotateKey').at(-1)).toMatchObject({
      eventType: 'AwsServiceEvent',
      userIdentity: { invokedBy: 'AWS Internal' },
      resources: [{ ARN: KeyId }],
      serviceEventDetails: { rotationType: 'ON_DEMAND' },
    });
    expect(await historyOf(KeyId)).toMatchObject([{ RotationType: 'ON_DEMAND', RotationDate: now }]);
    expect((await statusOf(KeyId)).NextRotationDate).toEqual(NextRotationDate);
  });

  it('is possible 25 times, and the history comes in pages', async () => {
    const KeyId = await newKey();
    for (let count = 0; count < 25; count++) await as.admin.send(new RotateKeyOnDemandCommand({ KeyId }));
    expect((await refusal(as.admin.send(new RotateKeyOnDemandCommand({ KeyId })))).name).toBe(
      'LimitExceededException',
    );
    const pages: number[] = [];
    for await (const page of paginateListKeyRotations({ client: as.admin, pageSize: 10 }, { KeyId })) {
      pages.push(page.Rotations?.length ?? 0);
    }
    expect(pages).toEqual([10, 10, 5]);
  });

  it.each(ROTATION)('asks the key policy for %s', async (action) => {
    const KeyId = await newKey();
    const command = {
      'kms:EnableKeyRotation': new EnableKeyRotationCommand({ KeyId }),
      'kms:DisableKeyRotation': new DisableKeyRotationCommand({ KeyId }),
      'kms:GetKeyRotationStatus': new GetKeyRotationStatusCommand({ KeyId }),
      'kms:ListKeyRotations': new ListKeyRotationsCommand({ KeyId }),
      'kms:RotateKeyOnDemand': new RotateKeyOnDemandCommand({ KeyId }),
    }[action] as RotateKeyOnDemandCommand;
    const found = await refusal(as.withoutIam.send(command));
    expect(found).toMatchObject({ name: 'AccessDeniedException' });
    expect(found.message).toContain(action);
  });
});

describe('aliases', () => {
  const arnOf = (name: string) => `arn:aws:kms:${REGION}:${ACCOUNT}:${name}`;
  const create = (AliasName: string, TargetKeyId: string, client = as.admin) =>
    client.send(new CreateAliasCommand({ AliasName, TargetKeyId }));

  it('name a key in cryptographic operations and DescribeKey, by name and by ARN, until they are moved', async () => {
    const [one, two] = [await newKey(), await newKey()];
    await create('alias/models/iris', one);
    for (const KeyId of ['alias/models/iris', arnOf('alias/models/iris')]) {
      expect((await as.admin.send(new DescribeKeyCommand({ KeyId }))).KeyMetadata?.Arn).toBe(one);
      expect((await wrapped(KeyId)).KeyId).toBe(one);
    }
    await as.admin.send(new UpdateAliasCommand({ AliasName: 'alias/models/iris', TargetKeyId: two }));
    expect((await wrapped('alias/models/iris')).KeyId).toBe(two);
    const { Aliases } = await as.admin.send(new ListAliasesCommand({ KeyId: two }));
    expect(Aliases).toMatchObject([
      { AliasName: 'alias/models/iris', AliasArn: arnOf('alias/models/iris'), TargetKeyId: two.slice(-36) },
    ]);
    await as.admin.send(new DeleteAliasCommand({ AliasName: 'alias/models/iris' }));
    expect((await refusal(wrapped('alias/models/iris'))).name).toBe('NotFoundException');
  });

  it('are not taken where AWS takes key ids and key ARNs only', async () => {
    await create('alias/rotated', await newKey());
    const found = await refusal(as.admin.send(new RotateKeyOnDemandCommand({ KeyId: 'alias/rotated' })));
    expect(found.name).toBe('NotFoundException');
  });

  it('are unique, well named, and not AWS’s own', async () => {
    const key = await newKey();
    await create('alias/once', key);
    expect((await refusal(create('alias/once', key))).name).toBe('AlreadyExistsException');
    expect((await refusal(create('alias/aws/s3', key))).name).toBe('NotAuthorizedException');
    expect((await refusal(create('once', key))).name).toBe('ValidationException');
    expect((await refusal(create('alias/none', 'no-such-key'))).name).toBe('NotFoundException');
  });

  it('need IAM’s word for the alias and the key policy’s for the key', async () => {
    const key = await newKey({ ...allow(withoutIam, ALIASES), Sid: 'KeyOnly' });
    const onAlias = await refusal(create('alias/mine', key, as.withoutIam));
    expect(onAlias.message).toContain(`on resource: ${arnOf('alias/mine')} because no identity-based policy`);
    const onKey = await refusal(create('alias/mine', key, as.named));
    expect(onKey.message).toContain(`on resource: ${key}`);
  });

  it('tell policies by which name the key was asked for', async () => {
    const byAlias = { StringEquals: { 'kms:RequestAlias': 'alias/front' } };
    const key = await newKey({ ...allow(withoutIam, 'kms:Encrypt', byAlias), Sid: 'ByAlias' });
    await create('alias/front', key);
    const encrypt = (KeyId: string) =>
      as.withoutIam.send(new EncryptCommand({ KeyId, Plaintext: Buffer.of(1) }));
    await encrypt('alias/front');
    expect((await refusal(encrypt(key))).name).toBe('AccessDeniedException');
  });
});
