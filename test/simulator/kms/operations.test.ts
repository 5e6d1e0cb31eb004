import {
  CreateKeyCommand,
  DecryptCommand,
  DescribeKeyCommand,
  DisableKeyCommand,
  EncryptCommand,
  GenerateDataKeyCommand,
  GenerateRandomCommand,
  GetKeyPolicyCommand,
  type KMSClient,
  PutKeyPolicyCommand,
} from '@aws-sdk/client-kms';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  ACCOUNT,
  admin,
  allow,
  host,
  keyPolicy,
  nobody,
  REGION,
  refusal,
  root,
  type Stand,
  startStand,
  stranger,
} from './support.ts';

let stand: Stand;
let as: Record<'admin' | 'host' | 'nobody' | 'root' | 'stranger', KMSClient>;
const context = { 'strongroom-model': 'iris', 'strongroom-version': '3' };
const secret = Buffer.from('a data key of thirty-two bytes!!');

beforeAll(async () => {
  stand = await startStand();
  const client = stand.client;
  as = {
    admin: client(admin),
    host: client(host),
    nobody: client(nobody),
    root: client(root),
    stranger: client(stranger),
  };
});
afterAll(() => stand.close());

async function newKey(...statements: object[]): Promise<string> {
  const { KeyMetadata } = await as.admin.send(new CreateKeyCommand({ Policy: keyPolicy(...statements) }));
  return KeyMetadata?.Arn as string;
}

async function wrapped(
  KeyId: string,
  EncryptionContext: Record<string, string> = context,
): Promise<Uint8Array> {
  const { CiphertextBlob } = await as.admin.send(
    new EncryptCommand({ KeyId, Plaintext: secret, EncryptionContext }),
  );
  return CiphertextBlob as Uint8Array;
}

describe('CreateKey and DescribeKey', () => {
  it('make a symmetric key in the caller’s account, with the default policy', async () => {
    const { KeyMetadata } = await as.admin.send(new CreateKeyCommand({ Description: 'for iris' }));
    expect(KeyMetadata).toMatchObject({
      AWSAccountId: ACCOUNT,
      Arn: expect.stringMatching(new RegExp(`^arn:aws:kms:${REGION}:${ACCOUNT}:key/[0-9a-f-]{36}$`)),
      Description: 'for iris',
      Enabled: true,
      KeyState: 'Enabled',
      KeySpec: 'SYMMETRIC_DEFAULT',
      KeyUsage: 'ENCRYPT_DECRYPT',
      Origin: 'AWS_KMS',
      MultiRegion: false,
      EncryptionAlgorithms: ['SYMMETRIC_DEFAULT'],
    });
    expect(KeyMetadata?.CreationDate).toBeInstanceOf(Date);
    const { Policy, PolicyName } = await as.admin.send(
      new GetKeyPolicyCommand({ KeyId: KeyMetadata?.KeyId }),
    );
    expect(PolicyName).toBe('default');
    expect(JSON.parse(Policy as string).Statement[0].Principal.AWS).toBe(`arn:aws:iam::${ACCOUNT}:root`);
    expect((await as.root.send(new DescribeKeyCommand({ KeyId: KeyMetadata?.Arn }))).KeyMetadata).toEqual(
      KeyMetadata,
    );
  });

  it('make a multi-Region key on request', async () => {
    const { KeyMetadata } = await as.admin.send(new CreateKeyCommand({ MultiRegion: true }));
    expect(KeyMetadata?.KeyId).toMatch(/^mrk-[0-9a-f]{32}$/);
    expect(KeyMetadata?.MultiRegionConfiguration?.MultiRegionKeyType).toBe('PRIMARY');
  });

  it('are IAM’s to allow', async () => {
    const found = await refusal(as.nobody.send(new CreateKeyCommand({})));
    expect(found).toMatchObject({ name: 'AccessDeniedException', status: 400 });
    expect(found.message).toContain('is not authorized to perform: kms:CreateKey');
  });

  it('refuse other kinds of key', async () => {
    for (const kind of [
      { KeySpec: 'RSA_2048' },
      { KeyUsage: 'SIGN_VERIFY' },
      { Origin: 'EXTERNAL' },
    ] as const) {
      expect(await refusal(as.admin.send(new CreateKeyCommand(kind)))).toMatchObject({
        name: 'UnsupportedOperationException',
      });
    }
  });

  it('do not find a key by alias, in another Region, or by id from another account', async () => {
    const arn = await newKey();
    const id = arn.slice(arn.lastIndexOf('/') + 1);
    expect((await as.admin.send(new DescribeKeyCommand({ KeyId: id }))).KeyMetadata?.Arn).toBe(arn);
    for (const KeyId of ['alias/iris', arn.replace(REGION, 'us-east-1'), 'no-such-key']) {
      expect(await refusal(as.admin.send(new DescribeKeyCommand({ KeyId })))).toMatchObject({
        name: 'NotFoundException',
      });
    }
    expect(await refusal(as.stranger.send(new DescribeKeyCommand({ KeyId: id })))).toMatchObject({
      name: 'NotFoundException',
    });
  });
});

describe('PutKeyPolicy', () => {
  it('replaces the policy, and GetKeyPolicy gives it back to the byte', async () => {
    const KeyId = await newKey();
    const Policy = `  ${keyPolicy(allow(host, 'kms:Decrypt'))}\n`;
    await as.admin.send(new PutKeyPolicyCommand({ KeyId, Policy, PolicyName: 'default' }));
    expect((await as.admin.send(new GetKeyPolicyCommand({ KeyId }))).Policy).toBe(Policy);
  });

  it('refuses a policy that locks the caller out, unless told to', async () => {
    const KeyId = await newKey();
    const Policy = JSON.stringify({ Version: '2012-10-17', Statement: [allow(host, 'kms:Decrypt')] });
    expect(await refusal(as.admin.send(new PutKeyPolicyCommand({ KeyId, Policy })))).toMatchObject({
      name: 'MalformedPolicyDocumentException',
      message: 'The new key policy will not allow you to update the key policy in the future.',
    });
    expect(await refusal(as.admin.send(new CreateKeyCommand({ Policy })))).toMatchObject({
      name: 'MalformedPolicyDocumentException',
    });
    await as.admin.send(new PutKeyPolicyCommand({ KeyId, Policy, BypassPolicyLockoutSafetyCheck: true }));
    const after = await refusal(as.admin.send(new PutKeyPolicyCommand({ KeyId, Policy: keyPolicy() })));
    expect(after.name).toBe('AccessDeniedException');
  });

  it.each([
    ['not JSON', '{'],
    ['a repeated member', '{"Version":"2012-10-17","Version":"2012-10-17","Statement":[]}'],
    ['an unknown element', keyPolicy({ ...allow(host, 'kms:Decrypt'), condition: {} })],
    ['a lower-case Effect', keyPolicy({ ...allow(host, 'kms:Decrypt'), Effect: 'allow' })],
    ['an unknown operator', keyPolicy(allow(host, 'kms:Decrypt', { StringSame: { 'kms:ViaService': 'x' } }))],
    ['a Condition that is a list', keyPolicy({ ...allow(host, 'kms:Decrypt'), Condition: [] })],
    ['no Action', keyPolicy({ Effect: 'Allow', Principal: '*', Resource: '*' })],
    ['no Resource', keyPolicy({ Effect: 'Allow', Principal: '*', Action: 'kms:Decrypt' })],
    [
      'a look-alike letter',
      keyPolicy(allow(host, 'kms:Decrypt', { StringEquals: { 'kms:\u0420CR0': 'x' } })),
    ],
    ['more than 32,768 bytes', keyPolicy({ ...allow(host, 'kms:Decrypt'), Sid: 'x'.repeat(32_768) })],
    [
      'kms:ResourceAliases',
      keyPolicy(
        allow(host, 'kms:Decrypt', { 'ForAnyValue:StringEquals': { 'kms:ResourceAliases': 'alias/x' } }),
      ),
    ],
  ])('refuses a document with %s', async (_, Policy) => {
    const KeyId = await newKey();
    const before = await as.admin.send(new GetKeyPolicyCommand({ KeyId }));
    expect(await refusal(as.admin.send(new PutKeyPolicyCommand({ KeyId, Policy })))).toMatchObject({
      name: 'MalformedPolicyDocumentException',
      explanation: expect.stringMatching(/./),
    });
    expect((await as.admin.send(new GetKeyPolicyCommand({ KeyId }))).Policy).toBe(before.Policy);
  });

  it('says that a principal is invalid', async () => {
    const Policy = keyPolicy({
      ...allow(host, 'kms:Decrypt'),
      Principal: { AWS: 'arn:aws:iam::111122223333:role/*' },
    });
    const KeyId = await newKey();
    expect(await refusal(as.admin.send(new PutKeyPolicyCommand({ KeyId, Policy })))).toMatchObject({
      name: 'MalformedPolicyDocumentException',
      message: 'Policy contains a statement with one or more invalid principals.',
    });
  });

  it('knows no policy but "default"', async () => {
    const KeyId = await newKey();
    expect(
      await refusal(as.admin.send(new GetKeyPolicyCommand({ KeyId, PolicyName: 'other' }))),
    ).toMatchObject({
      name: 'NotFoundException',
    });
  });
});

describe('Encrypt and Decrypt', () => {
  it('give the plaintext back under the same encryption context, in any order', async () => {
    const KeyId = await newKey(allow(host, 'kms:Decrypt'));
    const CiphertextBlob = await wrapped(KeyId);
    const reordered = Object.fromEntries(Object.entries(context).reverse());
    const answer = await as.host.send(new DecryptCommand({ CiphertextBlob, EncryptionContext: reordered }));
    expect(Buffer.from(answer.Plaintext as Uint8Array)).toEqual(secret);
    expect(answer).toMatchObject({
      KeyId,
      EncryptionAlgorithm: 'SYMMETRIC_DEFAULT',
      KeyMaterialId: expect.any(String),
    });
  });

  it.each([
    ['no context', undefined],
    ['another value', { ...context, 'strongroom-model': 'other' }],
    ['another case', { 'Strongroom-Model': 'iris', 'strongroom-version': '3' }],
    ['a member less', { 'strongroom-model': 'iris' }],
    ['a member more', { ...context, extra: '1' }],
    ['members that run together', { 'strongroom-modeliris': '', 'strongroom-version': '3' }],
  ])('refuse %s', async (_, EncryptionContext) => {
    const KeyId = await newKey(allow(host, 'kms:Decrypt'));
    const CiphertextBlob = await wrapped(KeyId);
    const found = await refusal(
      as.host.send(new DecryptCommand({ KeyId, CiphertextBlob, EncryptionContext })),
    );
    expect(found.name).toBe('InvalidCiphertextException');
  });

  it('refuse a blob that was altered at any byte, cut or lengthened', async () => {
    const KeyId = await newKey(allow(host, 'kms:Decrypt'));
    const blob = await wrapped(KeyId);
    const cases = [
      blob.subarray(0, -1),
      Buffer.concat([blob, Buffer.of(0)]),
      blob.subarray(0, 7),
      Buffer.of(1),
    ];
    for (let offset = 0; offset < blob.length; offset += 5) {
      const altered = Uint8Array.from(blob);
      altered[offset] = (altered[offset] as number) ^ 1;
      cases.push(altered);
    }
    for (const CiphertextBlob of cases) {
      const found = await refusal(
        as.host.send(new DecryptCommand({ CiphertextBlob, EncryptionContext: context })),
      );
      expect(found.name).toBe('InvalidCiphertextException');
    }
  });

  it('refuse a key that the ciphertext was not made under', async () => {
    const [a, b] = [await newKey(allow(host, 'kms:Decrypt')), await newKey(allow(host, 'kms:Decrypt'))];
    const CiphertextBlob = await wrapped(a);
    const request = new DecryptCommand({ KeyId: b, CiphertextBlob, EncryptionContext: context });
    expect(await refusal(as.host.send(request))).toMatchObject({ name: 'IncorrectKeyException' });
  });

  it('refuse an algorithm that is not the key’s', async () => {
    const KeyId = await newKey();
    const request = new EncryptCommand({
      KeyId,
      Plaintext: secret,
      EncryptionAlgorithm: 'RSAES_OAEP_SHA_256',
    });
    expect(await refusal(as.admin.send(request))).toMatchObject({ name: 'InvalidKeyUsageException' });
  });

  it('hold to 1 to 4096 bytes of plaintext', async () => {
    const KeyId = await newKey();
    for (const size of [0, 4097]) {
      const request = new EncryptCommand({ KeyId, Plaintext: new Uint8Array(size) });
      expect(await refusal(as.admin.send(request))).toMatchObject({ name: 'ValidationException' });
    }
    const largest = new EncryptCommand({ KeyId, Plaintext: new Uint8Array(4096) });
    expect((await as.admin.send(largest)).CiphertextBlob?.length).toBeLessThanOrEqual(6144);
  });

  it('are denied in AWS’s words, explained on the side, and nowhere else', async () => {
    const KeyId = await newKey(
      allow(host, 'kms:Decrypt', { StringEquals: { 'kms:EncryptionContext:strongroom-model': 'other' } }),
    );
    const CiphertextBlob = await wrapped(KeyId);
    const found = await refusal(
      as.host.send(new DecryptCommand({ CiphertextBlob, EncryptionContext: context })),
    );
    expect(found).toMatchObject({
      name: 'AccessDeniedException',
      status: 400,
      message: `User: arn:aws:sts::${ACCOUNT}:assumed-role/EnclaveHost/i-0abcdef1234567890 is not authorized to perform: kms:Decrypt on resource: ${KeyId} because no resource-based policy allows the kms:Decrypt action`,
    });
    expect(found.explanation).toContain('strongroom-model');
    expect(found.message).not.toContain('strongroom-model');
  });

  it('say when a policy denies explicitly', async () => {
    const KeyId = await newKey(allow(host, 'kms:*'), { ...allow(host, 'kms:Decrypt'), Effect: 'Deny' });
    const CiphertextBlob = await wrapped(KeyId);
    const found = await refusal(
      as.host.send(new DecryptCommand({ CiphertextBlob, EncryptionContext: context })),
    );
    expect(found.message).toMatch(/with an explicit deny in a resource-based policy$/);
  });
});

describe('who may, by key policy and IAM together', () => {
  const decrypt = async (client: KMSClient, KeyId: string) => {
    const CiphertextBlob = await wrapped(KeyId);
    return client.send(new DecryptCommand({ KeyId, CiphertextBlob, EncryptionContext: context }));
  };

  it('without an account statement IAM counts for nothing, not even for the root user', async () => {
    const KeyId = await newKey();
    for (const client of [as.admin, as.root, as.nobody, as.stranger]) {
      expect((await refusal(decrypt(client, KeyId))).name).toBe('AccessDeniedException');
    }
  });

  it('with one, IAM decides', async () => {
    const KeyId = await newKey({ ...allow('*', 'kms:Decrypt'), Principal: { AWS: ACCOUNT } });
    await expect(decrypt(as.admin, KeyId)).resolves.toMatchObject({ KeyId });
    await expect(decrypt(as.root, KeyId)).resolves.toMatchObject({ KeyId });
    expect((await refusal(decrypt(as.nobody, KeyId))).name).toBe('AccessDeniedException');
  });

  it('another account needs its own IAM besides', async () => {
    const KeyId = await newKey(allow(stranger, 'kms:Decrypt'));
    await expect(decrypt(as.stranger, KeyId)).resolves.toMatchObject({ KeyId });
    expect((await refusal(decrypt(as.nobody, KeyId))).name).toBe('AccessDeniedException');
  });
});

describe('GenerateDataKey and GenerateRandom', () => {
  it('give a data key in clear and wrapped', async () => {
    const KeyId = await newKey(allow(host, ['kms:GenerateDataKey', 'kms:Decrypt']));
    for (const [request, size] of [
      [{ KeySpec: 'AES_256' }, 32],
      [{ KeySpec: 'AES_128' }, 16],
      [{ NumberOfBytes: 100 }, 100],
    ] as const) {
      const made = await as.host.send(
        new GenerateDataKeyCommand({ KeyId, EncryptionContext: context, ...request }),
      );
      expect(made.Plaintext?.length).toBe(size);
      const opened = await as.host.send(
        new DecryptCommand({ CiphertextBlob: made.CiphertextBlob, EncryptionContext: context }),
      );
      expect(opened.Plaintext).toEqual(made.Plaintext);
    }
  });

  it('want either a size or a spec', async () => {
    const KeyId = await newKey(allow(host, 'kms:GenerateDataKey'));
    for (const request of [
      {},
      { KeySpec: 'AES_256', NumberOfBytes: 32 },
      { NumberOfBytes: 0 },
      { NumberOfBytes: 1025 },
    ] as const) {
      expect(await refusal(as.host.send(new GenerateDataKeyCommand({ KeyId, ...request })))).toMatchObject({
        name: 'ValidationException',
      });
    }
  });

  it('random bytes are IAM’s to allow: no key policy governs them', async () => {
    expect((await as.admin.send(new GenerateRandomCommand({ NumberOfBytes: 1024 }))).Plaintext?.length).toBe(
      1024,
    );
    expect((await refusal(as.host.send(new GenerateRandomCommand({ NumberOfBytes: 8 })))).name).toBe(
      'AccessDeniedException',
    );
    for (const NumberOfBytes of [undefined, 0, 1025]) {
      expect(await refusal(as.admin.send(new GenerateRandomCommand({ NumberOfBytes })))).toMatchObject({
        name: 'ValidationException',
      });
    }
  });
});

describe('DryRun', () => {
  it('answers with its own error where the request would have succeeded', async () => {
    const KeyId = await newKey(allow(host, ['kms:Encrypt', 'kms:Decrypt', 'kms:GenerateDataKey']));
    const CiphertextBlob = await wrapped(KeyId);
    for (const sent of [
      as.host.send(new EncryptCommand({ KeyId, Plaintext: secret, DryRun: true })),
      as.host.send(new DecryptCommand({ CiphertextBlob, EncryptionContext: context, DryRun: true })),
      as.host.send(new GenerateDataKeyCommand({ KeyId, KeySpec: 'AES_256', DryRun: true })),
    ]) {
      expect(await refusal(sent)).toMatchObject({
        name: 'DryRunOperationException',
        status: 412,
        message: 'The request would have succeeded, but the DryRun option is set.',
      });
    }
  });

  it('answers with the very denial where it would not', async () => {
    const KeyId = await newKey();
    const CiphertextBlob = await wrapped(KeyId);
    const request = new DecryptCommand({ CiphertextBlob, EncryptionContext: context, DryRun: true });
    expect((await refusal(as.host.send(request))).name).toBe('AccessDeniedException');
  });
});

describe('what is not simulated is refused', () => {
  it('an operation', async () => {
    const found = await refusal(as.admin.send(new DisableKeyCommand({ KeyId: 'x' })));
    expect(found).toMatchObject({
      name: 'UnknownOperationException',
      explanation: expect.stringContaining('Decrypt'),
    });
  });

  it('a member', async () => {
    const request = new CreateKeyCommand({ Tags: [{ TagKey: 'a', TagValue: 'b' }] });
    expect(await refusal(as.admin.send(request))).toMatchObject({
      name: 'SerializationException',
      explanation: expect.stringContaining('tags'),
    });
  });
});
