/** The records of a KMS that was really asked, by the real SDK: what happened is what the review says. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  CreateGrantCommand,
  CreateKeyCommand,
  DecryptCommand,
  EncryptCommand,
  GenerateDataKeyCommand,
  type KMSClient,
  PutKeyPolicyCommand,
  ReEncryptCommand,
} from '@aws-sdk/client-kms';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { reviewTrail } from '../../../review/trail/read.ts';
import type { AuditRecord } from '../../../simulator/kms/audit.ts';
import {
  admin,
  allow,
  attest,
  host,
  keyPolicy,
  nobody,
  pcr,
  type Stand,
  startStand,
  toRecipient,
} from '../../simulator/kms/support.ts';
import { RELEASE } from './records.ts';

const EncryptionContext = { 'strongroom-model': 'iris' };
const REVIEWED = { 0: pcr(0xd9), 1: pcr(1), 2: pcr(2) };
let stand: Stand;
let KeyId: string;
let CiphertextBlob: Uint8Array;
let as: Record<'admin' | 'host' | 'nobody', KMSClient>;
const folder = mkdtempSync(join(tmpdir(), 'strongroom-trail-kms-'));

/** Everything is allowed: what a review is for is what a policy did not hold back. */
const OPEN = keyPolicy(
  allow(host, ['kms:Decrypt', 'kms:GenerateDataKey', 'kms:ReEncrypt*']),
  allow(admin, ['kms:CreateGrant', 'kms:ReEncryptTo']),
);

beforeAll(async () => {
  stand = await startStand([admin, host, nobody]);
  as = { admin: stand.client(admin), host: stand.client(host), nobody: stand.client(nobody) };
  KeyId = (await as.admin.send(new CreateKeyCommand({ Policy: OPEN }))).KeyMetadata?.Arn as string;
  const made = await as.admin.send(
    new EncryptCommand({ KeyId, Plaintext: Buffer.alloc(32, 1), EncryptionContext }),
  );
  CiphertextBlob = made.CiphertextBlob as Uint8Array;
});
afterAll(async () => {
  await stand.close();
  rmSync(folder, { recursive: true });
});

const decrypt = async (client: KMSClient, registers?: Readonly<Record<number, Uint8Array>>) =>
  client.send(
    new DecryptCommand({
      CiphertextBlob,
      EncryptionContext,
      ...(registers === undefined ? {} : { Recipient: toRecipient(await attest(stand.ca, registers)) }),
    }),
  );

async function reviewOf(happens: () => Promise<unknown>) {
  const before = stand.records.length;
  await happens().catch(() => {});
  const records: readonly AuditRecord[] = stand.records.slice(before);
  const path = join(folder, 'trail.jsonl');
  writeFileSync(path, records.map((one) => `${JSON.stringify(one)}\n`).join(''));
  return await reviewTrail(
    [path],
    {
      keys: [KeyId],
      releases: [RELEASE],
      hostRoleArns: [host.arn],
      sealerArns: [admin.arn],
      administratorArns: [admin.arn],
    },
    { failOn: 'low' },
  );
}

const happenings: [string, () => Promise<unknown>, string[]][] = [
  ['the reviewed image', () => decrypt(as.host, REVIEWED), []],
  ['the host itself', () => decrypt(as.host), ['unattested-plaintext']],
  ['another image', () => decrypt(as.host, { ...REVIEWED, 0: pcr(7) }), ['unknown-image']],
  ['a debug enclave', () => decrypt(as.host, { 0: pcr(0), 1: pcr(0), 2: pcr(0) }), ['debug-image']],
  ['an instance of another role', () => decrypt(as.host, { ...REVIEWED, 3: pcr(9) }), ['wrong-role']],
  ['somebody without rights', () => decrypt(as.nobody), ['refused-attempt']],
  [
    'somebody without rights in the reviewed image',
    () => decrypt(as.nobody, REVIEWED),
    ['reviewed-image-refused'],
  ],
  [
    'a data key for the host',
    () => as.host.send(new GenerateDataKeyCommand({ KeyId, KeySpec: 'AES_256', EncryptionContext })),
    ['unattested-datakey'],
  ],
  [
    'a grant',
    () =>
      as.admin.send(new CreateGrantCommand({ KeyId, GranteePrincipal: nobody.arn, Operations: ['Decrypt'] })),
    ['grant-escape'],
  ],
  [
    'the policy put again',
    () => as.admin.send(new PutKeyPolicyCommand({ KeyId, PolicyName: 'default', Policy: OPEN })),
    ['policy-admin'],
  ],
  [
    'a move under another key',
    async () => {
      const own = await as.admin.send(new CreateKeyCommand({ Policy: OPEN }));
      const DestinationKeyId = own.KeyMetadata?.Arn;
      await as.host.send(
        new ReEncryptCommand({
          CiphertextBlob,
          SourceEncryptionContext: EncryptionContext,
          DestinationKeyId,
        }),
      );
    },
    ['reencrypt-escape'],
  ],
  [
    'a wrap renewed',
    () =>
      as.host.send(
        new ReEncryptCommand({
          CiphertextBlob,
          SourceEncryptionContext: EncryptionContext,
          DestinationKeyId: KeyId,
        }),
      ),
    ['reencrypt-context'],
  ],
];

it.each(happenings)('%s', async (_, happens, codes) => {
  const { findings, unreadable, counts } = await reviewOf(happens);
  expect(findings.map(({ code }) => code)).toEqual(codes);
  expect({ unreadable, reviewed: counts.reviewed }).toEqual({ unreadable: [], reviewed: 1 });
});
