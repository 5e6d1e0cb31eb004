/**
 * What `policy generate` writes, the KMS enforces: two releases side by side, asked for by the real SDK with real
 * documents. Ways around Decrypt that the simulation has no operation for are asked of the engine in
 * test/review/policy/generate.test.ts.
 */
import {
  CreateGrantCommand,
  CreateKeyCommand,
  DecryptCommand,
  DescribeKeyCommand,
  EncryptCommand,
  GenerateDataKeyCommand,
  GenerateDataKeyWithoutPlaintextCommand,
  type KMSClient,
  PutKeyPolicyCommand,
  ReEncryptCommand,
} from '@aws-sdk/client-kms';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { generateKeyPolicy } from '../../../review/policy/generate.ts';
import { openEnvelopedData } from '../../../shared/cms/read.ts';
import { pcrOfText } from '../../../shared/pcr.ts';
import type { SimulatedPrincipal } from '../../../simulator/kms/principals.ts';
import {
  ACCOUNT,
  ALL_OF_KMS,
  admin,
  allow,
  attest,
  host,
  keyPolicy,
  pcr,
  principal,
  recipientKeys,
  recipientSpki,
  refusal,
  role,
  type Stand,
  startStand,
  toRecipient,
} from './support.ts';

const sealer = principal(role('Owner'));
const powerful = principal(role('Powerful'), { iamPolicies: [ALL_OF_KMS] });
const secret = Buffer.from('a data key of thirty-two bytes!!');
const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');

const ROLE_PCR = pcrOfText(host.arn);
const OLD = { 0: pcr(0xa0), 1: pcr(0xa1), 2: pcr(0xa2), 3: ROLE_PCR, 16: pcr(0xb0) };
const NEW = { 0: pcr(0xc0), 1: pcr(0xa1), 2: pcr(0xc2), 3: ROLE_PCR, 16: pcr(0xd0) };
const POLICY = generateKeyPolicy({
  accountId: ACCOUNT,
  releases: [
    { pcr0: hex(OLD[0]), pcr16: hex(OLD[16]), modelName: 'iris' },
    { pcr0: hex(NEW[0]), pcr16: hex(NEW[16]), modelName: 'iris' },
    { pcr0: hex(NEW[0]), pcr16: hex(NEW[16]), modelName: 'mnist' },
  ],
  hostRoleArn: host.arn,
  administratorArns: [admin.arn],
  sealerArns: [sealer.arn],
});
const contextOf = (model: string) => ({
  'strongroom-model': model,
  'strongroom-purpose': 'model-data-key',
  'strongroom-version': '3',
});

let stand: Stand;
let as: Record<'admin' | 'host' | 'sealer' | 'powerful', KMSClient>;
let KeyId: string;
const blobs = new Map<string, Uint8Array>();

beforeAll(async () => {
  stand = await startStand([admin, host, sealer, powerful]);
  const client = (who: SimulatedPrincipal) => stand.client(who);
  as = { admin: client(admin), host: client(host), sealer: client(sealer), powerful: client(powerful) };
  KeyId = (await as.admin.send(new CreateKeyCommand({ Policy: POLICY }))).KeyMetadata?.Arn as string;
  for (const model of ['iris', 'mnist']) {
    const { CiphertextBlob } = await as.sealer.send(
      new EncryptCommand({ KeyId, Plaintext: secret, EncryptionContext: contextOf(model) }),
    );
    blobs.set(model, CiphertextBlob as Uint8Array);
  }
});
afterAll(() => stand.close());

async function decrypt(
  registers: Readonly<Record<number, Uint8Array>> | undefined,
  model = 'iris',
  client: KMSClient = as.host,
) {
  return client.send(
    new DecryptCommand({
      CiphertextBlob: blobs.get(model) as Uint8Array,
      EncryptionContext: contextOf(model),
      ...(registers === undefined ? {} : { Recipient: toRecipient(await attest(stand.ca, registers)) }),
    }),
  );
}

describe('under the generated policy', () => {
  it.each([
    ['the old release', 'iris', OLD],
    ['the new release', 'iris', NEW],
    ['the new release, for the model that only it has', 'mnist', NEW],
  ])('the enclave of %s opens %s', async (_, model, registers) => {
    const { CiphertextForRecipient, Plaintext } = await decrypt(registers, model);
    expect(Plaintext).toBeUndefined();
    const opened = openEnvelopedData(CiphertextForRecipient as Uint8Array, {
      privateKey: recipientKeys.privateKey,
      spki: recipientSpki,
    });
    expect(Buffer.from(opened)).toEqual(secret);
  });

  it.each<[string, Readonly<Record<number, Uint8Array>> | undefined, string?]>([
    ['the old image with the new deployment', { ...OLD, 16: NEW[16] }],
    ['the new image with the old deployment', { ...NEW, 16: OLD[16] }],
    ['the old release for the model of the new', OLD, 'mnist'],
    ['another image that extends the same deployment', { ...NEW, 0: pcr(1) }],
    ['an image that shares all but PCR0', { ...OLD, 0: pcr(2) }],
    ['another deployment', { ...OLD, 16: pcr(3) }],
    ['an instance of another role', { ...OLD, 3: pcrOfText(role('Other')) }],
    ['a debug enclave', { ...OLD, 0: pcr(0), 1: pcr(0), 2: pcr(0) }],
    ['no enclave', undefined],
  ])('%s is denied', async (_, registers, model) => {
    expect((await refusal(decrypt(registers, model))).name).toBe('AccessDeniedException');
  });

  it.each(['admin', 'sealer', 'powerful'] as const)(
    'the right enclave is of no use to %s, whatever IAM allows',
    async (who) => {
      expect((await refusal(decrypt(NEW, 'iris', as[who]))).name).toBe('AccessDeniedException');
    },
  );

  const escapes: [string, (client: KMSClient) => Promise<unknown>][] = [
    [
      'a grant',
      (client) =>
        client.send(
          new CreateGrantCommand({ KeyId, GranteePrincipal: powerful.arn, Operations: ['Decrypt'] }),
        ),
    ],
    [
      'a data key in the clear',
      (client) =>
        client.send(
          new GenerateDataKeyCommand({ KeyId, KeySpec: 'AES_256', EncryptionContext: contextOf('iris') }),
        ),
    ],
    [
      'a wrapped data key',
      (client) =>
        client.send(
          new GenerateDataKeyWithoutPlaintextCommand({
            KeyId,
            KeySpec: 'AES_256',
            EncryptionContext: contextOf('iris'),
          }),
        ),
    ],
    ['plaintext', (client) => decrypt(undefined, 'iris', client)],
  ];
  for (const who of ['admin', 'host', 'sealer', 'powerful'] as const) {
    it.each(escapes)(`%s is denied to ${who}`, async (_, ask) => {
      expect((await refusal(ask(as[who]))).name).toBe('AccessDeniedException');
    });
  }

  it.each(['admin', 'host', 'sealer', 'powerful'] as const)(
    'moving the wrap under a key of their own is denied to %s',
    async (who) => {
      const own = await as.admin.send(
        new CreateKeyCommand({
          Policy: keyPolicy(allow('*', ['kms:ReEncryptTo', 'kms:Decrypt', 'kms:Encrypt'])),
        }),
      );
      const moved = as[who].send(
        new ReEncryptCommand({
          CiphertextBlob: blobs.get('iris') as Uint8Array,
          SourceEncryptionContext: contextOf('iris'),
          DestinationKeyId: own.KeyMetadata?.Arn,
        }),
      );
      expect((await refusal(moved)).name).toBe('AccessDeniedException');
    },
  );

  it.each(['host', 'sealer', 'powerful'] as const)('another policy is denied to %s', async (who) => {
    const put = as[who].send(new PutKeyPolicyCommand({ KeyId, PolicyName: 'default', Policy: POLICY }));
    expect((await refusal(put)).name).toBe('AccessDeniedException');
  });

  it('the administrator may replace it, so the sentence names the administrator', async () => {
    await as.admin.send(new PutKeyPolicyCommand({ KeyId, PolicyName: 'default', Policy: POLICY }));
  });

  it('the sealer looks at the key, renews a wrap on it, and seals for no other model', async () => {
    await as.sealer.send(new DescribeKeyCommand({ KeyId }));
    const { CiphertextBlob } = await as.sealer.send(
      new ReEncryptCommand({
        CiphertextBlob: blobs.get('iris') as Uint8Array,
        SourceEncryptionContext: contextOf('iris'),
        DestinationKeyId: KeyId,
        DestinationEncryptionContext: contextOf('iris'),
      }),
    );
    expect(CiphertextBlob).toBeDefined();
    const other = as.sealer.send(
      new EncryptCommand({ KeyId, Plaintext: secret, EncryptionContext: contextOf('other') }),
    );
    expect((await refusal(other)).name).toBe('AccessDeniedException');
  });
});
