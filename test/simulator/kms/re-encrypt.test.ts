import {
  CreateKeyCommand,
  DecryptCommand,
  DescribeKeyCommand,
  EncryptCommand,
  GenerateDataKeyWithoutPlaintextCommand,
  type KMSClient,
  ReEncryptCommand,
  type ReEncryptCommandInput,
  RotateKeyOnDemandCommand,
} from '@aws-sdk/client-kms';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { admin, allow, keyPolicy, nobody, refusal, type Stand, startStand } from './support.ts';

const context = { 'strongroom-model': 'iris', 'strongroom-version': '3' };
const secret = Buffer.from('a data key of thirty-two bytes!!');
const BOTH = ['kms:ReEncryptFrom', 'kms:ReEncryptTo'];
const onSameKey = (value: string) => ({ Bool: { 'kms:ReEncryptOnSameKey': value } });
let stand: Stand;
let as: Record<'admin' | 'nobody', KMSClient>;

beforeAll(async () => {
  stand = await startStand([admin, nobody]);
  as = { admin: stand.client(admin), nobody: stand.client(nobody) };
});
afterAll(() => stand.close());

async function newKey(...statements: object[]): Promise<string> {
  const administration = { ...allow(admin, ['kms:Decrypt', 'kms:RotateKeyOnDemand']), Sid: 'More' };
  const Policy = keyPolicy(administration, ...statements);
  return (await as.admin.send(new CreateKeyCommand({ Policy }))).KeyMetadata?.Arn as string;
}

async function wrapped(KeyId: string, EncryptionContext = context): Promise<Uint8Array> {
  const made = await as.admin.send(new EncryptCommand({ KeyId, Plaintext: secret, EncryptionContext }));
  return made.CiphertextBlob as Uint8Array;
}

const reEncrypt = (more: Partial<ReEncryptCommandInput>) =>
  as.nobody.send(
    new ReEncryptCommand({
      CiphertextBlob: undefined,
      DestinationKeyId: undefined,
      SourceEncryptionContext: context,
      DestinationEncryptionContext: context,
      ...more,
    }),
  );

describe('ReEncrypt', () => {
  it('moves a ciphertext to new material of the same key, and shows neither plaintext nor more rights', async () => {
    const key = await newKey(allow(nobody, BOTH, onSameKey('true')));
    const CiphertextBlob = await wrapped(key);
    await as.admin.send(new RotateKeyOnDemandCommand({ KeyId: key }));
    const answer = await reEncrypt({ CiphertextBlob, SourceKeyId: key, DestinationKeyId: key });
    expect(answer).toMatchObject({
      SourceKeyId: key,
      KeyId: key,
      SourceEncryptionAlgorithm: 'SYMMETRIC_DEFAULT',
      DestinationEncryptionAlgorithm: 'SYMMETRIC_DEFAULT',
    });
    expect(answer).not.toHaveProperty('Plaintext');
    expect(answer.SourceKeyMaterialId).not.toBe(answer.DestinationKeyMaterialId);
    const opened = await as.admin.send(
      new DecryptCommand({ CiphertextBlob: answer.CiphertextBlob, EncryptionContext: context }),
    );
    expect(Buffer.from(opened.Plaintext as Uint8Array)).toEqual(secret);
    expect(opened.KeyMaterialId).toBe(answer.DestinationKeyMaterialId);
    const described = await as.admin.send(new DescribeKeyCommand({ KeyId: key }));
    expect(described.KeyMetadata?.CurrentKeyMaterialId).toBe(answer.DestinationKeyMaterialId);
    const old = await as.admin.send(new DecryptCommand({ CiphertextBlob, EncryptionContext: context }));
    expect(old.KeyMaterialId).toBe(answer.SourceKeyMaterialId);
  });

  it('is recorded as CloudTrail records it: both keys in their order, and both materials', async () => {
    const from = await newKey(allow(nobody, BOTH));
    const to = await newKey(allow(nobody, BOTH));
    const answer = await reEncrypt({ CiphertextBlob: await wrapped(from), DestinationKeyId: to });
    expect(stand.records.at(-1)).toMatchObject({
      eventName: 'ReEncrypt',
      readOnly: true,
      requestParameters: {
        sourceEncryptionContext: context,
        destinationEncryptionContext: context,
        destinationKeyId: to,
      },
      responseElements: null,
      additionalEventData: {
        sourceKeyMaterialId: answer.SourceKeyMaterialId,
        destinationKeyMaterialId: answer.DestinationKeyMaterialId,
      },
      resources: [{ ARN: from }, { ARN: to }],
    });
    expect(JSON.stringify(stand.records.at(-1))).not.toContain(secret.toString('base64'));
  });

  it('changes the encryption context where a policy lets it', async () => {
    const key = await newKey(allow(nobody, BOTH));
    const other = { 'strongroom-model': 'rose' };
    const { CiphertextBlob } = await reEncrypt({
      CiphertextBlob: await wrapped(key),
      DestinationKeyId: key,
      DestinationEncryptionContext: other,
    });
    const opened = await as.admin.send(new DecryptCommand({ CiphertextBlob, EncryptionContext: other }));
    expect(Buffer.from(opened.Plaintext as Uint8Array)).toEqual(secret);
  });

  it.each([
    ['only From on the source', ['kms:ReEncryptTo'], BOTH, 'kms:ReEncryptFrom'],
    ['only To on the destination', BOTH, ['kms:ReEncryptFrom'], 'kms:ReEncryptTo'],
  ])('needs both ends: not with %s missing', async (_what, atSource, atDestination, action) => {
    const from = await newKey(allow(nobody, atSource));
    const to = await newKey(allow(nobody, atDestination));
    const found = await refusal(reEncrypt({ CiphertextBlob: await wrapped(from), DestinationKeyId: to }));
    expect(found.name).toBe('AccessDeniedException');
    expect(found.message).toContain(`is not authorized to perform: ${action} on resource: `);
  });

  it('to another key is refused by kms:ReEncryptOnSameKey at the source, whatever the other key allows', async () => {
    const from = await newKey(allow(nobody, BOTH, onSameKey('true')));
    const attackers = await newKey(allow(nobody, 'kms:*'));
    const found = await refusal(
      reEncrypt({ CiphertextBlob: await wrapped(from), DestinationKeyId: attackers }),
    );
    expect(found).toMatchObject({ name: 'AccessDeniedException' });
    expect(found.explanation).toContain('kms:ReEncryptOnSameKey');
  });

  it('holds each end to its own encryption context', async () => {
    const forIris = { StringEquals: { 'kms:EncryptionContext:strongroom-model': 'iris' } };
    const key = await newKey(allow(nobody, BOTH, forIris));
    const request = { CiphertextBlob: await wrapped(key), DestinationKeyId: key };
    await reEncrypt(request);
    const elsewhere = await refusal(
      reEncrypt({ ...request, DestinationEncryptionContext: { 'strongroom-model': 'rose' } }),
    );
    expect(elsewhere.message).toContain('kms:ReEncryptTo');
    const from = await refusal(
      reEncrypt({ ...request, SourceEncryptionContext: { 'strongroom-model': 'rose' } }),
    );
    expect(from.message).toContain('kms:ReEncryptFrom');
  });

  it.each([
    [
      'another context',
      { SourceEncryptionContext: { ...context, 'strongroom-version': '4' } },
      'InvalidCiphertextException',
    ],
    ['another source key', { SourceKeyId: 'other' }, 'NotFoundException'],
    [
      'an asymmetric algorithm',
      { SourceEncryptionAlgorithm: 'RSAES_OAEP_SHA_256' as const },
      'InvalidKeyUsageException',
    ],
    ['a dry run', { DryRun: true }, 'DryRunOperationException'],
  ])('answers %s as AWS does', async (_what, more, name) => {
    const key = await newKey(allow(nobody, BOTH));
    const request = { CiphertextBlob: await wrapped(key), DestinationKeyId: key };
    expect((await refusal(reEncrypt({ ...request, ...more }))).name).toBe(name);
  });

  it('refuses a source key that did not make the ciphertext, and an altered ciphertext', async () => {
    const key = await newKey(allow(nobody, BOTH));
    const other = await newKey(allow(nobody, BOTH));
    const CiphertextBlob = await wrapped(key);
    const wrong = await refusal(reEncrypt({ CiphertextBlob, SourceKeyId: other, DestinationKeyId: other }));
    expect(wrong.name).toBe('IncorrectKeyException');
    const altered = Uint8Array.from(CiphertextBlob);
    altered[altered.length - 1] = (altered.at(-1) as number) ^ 1;
    const found = await refusal(reEncrypt({ CiphertextBlob: altered, DestinationKeyId: key }));
    expect(found.name).toBe('InvalidCiphertextException');
  });

  it('tells a caller without rights nothing about the ciphertext', async () => {
    const key = await newKey();
    const altered = Uint8Array.from(await wrapped(key));
    altered[60] = (altered[60] as number) ^ 1; // in the id of the material
    const found = await refusal(reEncrypt({ CiphertextBlob: altered, DestinationKeyId: key }));
    expect(found.name).toBe('AccessDeniedException');
  });
});

describe('GenerateDataKeyWithoutPlaintext', () => {
  it('gives a ciphertext that Decrypt opens, and no plaintext', async () => {
    const KeyId = await newKey(allow(nobody, 'kms:GenerateDataKeyWithoutPlaintext'));
    const answer = await as.nobody.send(
      new GenerateDataKeyWithoutPlaintextCommand({ KeyId, KeySpec: 'AES_256', EncryptionContext: context }),
    );
    expect(answer).not.toHaveProperty('Plaintext');
    expect(answer).toMatchObject({ KeyId, KeyMaterialId: expect.stringMatching(/^[0-9a-f]{64}$/) });
    const opened = await as.admin.send(
      new DecryptCommand({ CiphertextBlob: answer.CiphertextBlob, EncryptionContext: context }),
    );
    expect(opened.Plaintext).toHaveLength(32);
  });

  it('is a right of its own', async () => {
    const KeyId = await newKey(allow(nobody, 'kms:GenerateDataKey'));
    const found = await refusal(
      as.nobody.send(new GenerateDataKeyWithoutPlaintextCommand({ KeyId, KeySpec: 'AES_256' })),
    );
    expect(found.message).toContain('kms:GenerateDataKeyWithoutPlaintext');
  });
});
