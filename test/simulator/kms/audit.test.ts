import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CreateKeyCommand, DecryptCommand, EncryptCommand } from '@aws-sdk/client-kms';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { simulationAnchor } from '../../../shared/attestation/anchors.ts';
import { startSimulatedKms } from '../../../simulator/kms/simulated-kms.ts';
import {
  ACCOUNT,
  admin,
  allow,
  attest,
  clientOf,
  host,
  keyPolicy,
  pcr,
  REGION,
  refusal,
  type Stand,
  startStand,
  toRecipient,
} from './support.ts';

const EncryptionContext = { model: 'iris' };
const secret = Buffer.from('canary-in-a-data-key-of-32-bytes');
let stand: Stand;
let keyId: string;
let blob: Uint8Array;

beforeAll(async () => {
  stand = await startStand([admin, host]);
  const pinned = { StringEqualsIgnoreCase: { 'kms:RecipientAttestation:PCR0': '0a'.repeat(48) } };
  const client = stand.client(admin);
  const Policy = keyPolicy(allow(host, 'kms:Decrypt', pinned));
  keyId = (await client.send(new CreateKeyCommand({ Policy }))).KeyMetadata?.Arn as string;
  const made = await client.send(new EncryptCommand({ KeyId: keyId, Plaintext: secret, EncryptionContext }));
  blob = made.CiphertextBlob as Uint8Array;
});
afterAll(() => stand.close());

const decrypt = async (pcrs: Record<number, Uint8Array>) => {
  const Recipient = toRecipient(await attest(stand.ca, pcrs));
  return stand.client(host).send(new DecryptCommand({ CiphertextBlob: blob, EncryptionContext, Recipient }));
};

describe('a record is shaped as CloudTrail’s', () => {
  it('for an attested Decrypt, with module id and registers in base64', async () => {
    const pcrs = { 0: pcr(0x0a), 1: pcr(1), 2: pcr(2), 3: pcr(3), 4: pcr(4), 16: pcr(16) };
    const { $metadata } = await decrypt(pcrs);
    expect(stand.records.at(-1)).toMatchObject({
      eventVersion: expect.any(String),
      eventSource: 'kms.amazonaws.com',
      eventName: 'Decrypt',
      eventTime: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/),
      awsRegion: REGION,
      userIdentity: {
        type: 'AssumedRole',
        arn: `arn:aws:sts::${ACCOUNT}:assumed-role/EnclaveHost/i-0abcdef1234567890`,
        accountId: ACCOUNT,
        sessionContext: { sessionIssuer: { type: 'Role', arn: host.arn, userName: 'EnclaveHost' } },
      },
      requestParameters: { encryptionContext: EncryptionContext, encryptionAlgorithm: 'SYMMETRIC_DEFAULT' },
      responseElements: null,
      additionalEventData: {
        recipient: {
          attestationDocumentModuleId: expect.stringMatching(/^i-[0-9a-f]{17}-enc[0-9a-f]{16}$/),
          attestationDocumentEnclaveImageDigest: Buffer.from(pcrs[0]).toString('base64'),
          attestationDocumentEnclavePCR1: Buffer.from(pcrs[1]).toString('base64'),
          attestationDocumentEnclavePCR2: Buffer.from(pcrs[2]).toString('base64'),
          attestationDocumentEnclavePCR3: Buffer.from(pcrs[3]).toString('base64'),
          attestationDocumentEnclavePCR4: Buffer.from(pcrs[4]).toString('base64'),
        },
      },
      requestID: $metadata.requestId,
      readOnly: true,
      resources: [{ accountId: ACCOUNT, type: 'AWS::KMS::Key', ARN: keyId }],
      tlsDetails: { tlsVersion: 'TLSv1.3', clientProvidedHostHeader: `kms.${REGION}.amazonaws.com` },
    });
    expect(stand.records.at(-1)).not.toHaveProperty('errorCode');
    expect(JSON.stringify(stand.records.at(-1))).not.toContain('PCR16');
  });

  it('for a denial, with the image that asked and the explanation that AWS never gives', async () => {
    const found = await refusal(decrypt({ 0: pcr(0x0b) }));
    expect(stand.records.at(-1)).toMatchObject({
      eventName: 'Decrypt',
      errorCode: 'AccessDenied',
      errorMessage: found.message,
      additionalEventData: {
        recipient: { attestationDocumentEnclaveImageDigest: Buffer.from(pcr(0x0b)).toString('base64') },
      },
      strongroom: { outcome: 'refused', explanation: [expect.stringContaining('PCR0')] },
    });
  });

  it('for a request that nobody signed', async () => {
    const unknown = { ...host, accessKeyId: 'AKIAUNKNOWN' };
    await refusal(stand.client(unknown).send(new DecryptCommand({ CiphertextBlob: blob })));
    expect(stand.records.at(-1)).toMatchObject({
      userIdentity: { type: 'Unknown' },
      errorCode: 'UnrecognizedClientException',
    });
  });

  it('and holds no plaintext, no secret and no session token', async () => {
    await decrypt({ 0: pcr(0x0a) });
    const all = JSON.stringify(stand.records);
    for (const text of [secret.toString(), secret.toString('base64'), admin.secretAccessKey, '"token"']) {
      expect(all).not.toContain(text);
    }
  });
});

it('records go to a private file, one JSON document a line', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'strongroom-kms-'));
  const file = join(folder, 'trail.jsonl');
  const kms = await startSimulatedKms({
    region: REGION,
    accountId: ACCOUNT,
    principals: [admin],
    attestationAnchors: [simulationAnchor(stand.ca.rootPem)],
    now: () => new Date(),
    auditLog: file,
  });
  const client = clientOf(kms, admin);
  try {
    await client.send(new CreateKeyCommand({}));
    await client.send(new CreateKeyCommand({}));
    const lines = readFileSync(file, 'utf8').trimEnd().split('\n');
    expect(lines.map((line) => JSON.parse(line).eventName)).toEqual(['CreateKey', 'CreateKey']);
    expect(statSync(file).mode & 0o777).toBe(0o600);
  } finally {
    client.destroy();
    await kms.close();
    rmSync(folder, { recursive: true });
  }
});
