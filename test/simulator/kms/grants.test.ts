import {
  CreateGrantCommand,
  CreateKeyCommand,
  DecryptCommand,
  DescribeKeyCommand,
  EncryptCommand,
  type GrantListEntry,
  type KMSClient,
  ListGrantsCommand,
  PutKeyPolicyCommand,
  RevokeGrantCommand,
} from '@aws-sdk/client-kms';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  ACCOUNT,
  admin,
  allow,
  attest,
  host,
  keyPolicy,
  nobody,
  pcr,
  refusal,
  type Stand,
  startStand,
  toRecipient,
} from './support.ts';

const EncryptionContext = { model: 'iris', version: '3' };
const secret = Buffer.from('a data key of thirty-two bytes!!');
let stand: Stand;
let as: Record<'admin' | 'host' | 'nobody', KMSClient>;

beforeAll(async () => {
  stand = await startStand([admin, host, nobody]);
  as = { admin: stand.client(admin), host: stand.client(host), nobody: stand.client(nobody) };
});
afterAll(() => stand.close());

async function newKey(...statements: object[]): Promise<{ KeyId: string; CiphertextBlob: Uint8Array }> {
  const Policy = keyPolicy({ ...allow(admin, 'kms:CreateGrant'), Sid: 'Grants' }, ...statements);
  const KeyId = (await as.admin.send(new CreateKeyCommand({ Policy }))).KeyMetadata?.Arn as string;
  const made = await as.admin.send(new EncryptCommand({ KeyId, Plaintext: secret, EncryptionContext }));
  return { KeyId, CiphertextBlob: made.CiphertextBlob as Uint8Array };
}

const decrypt = (client: KMSClient, CiphertextBlob: Uint8Array, more: object = {}) =>
  client.send(new DecryptCommand({ CiphertextBlob, EncryptionContext, ...more }));

const grant = (KeyId: string, more: object = {}) =>
  new CreateGrantCommand({ KeyId, GranteePrincipal: nobody.arn, Operations: ['Decrypt'], ...more });

describe('a grant', () => {
  it('opens the key to whom it names, with no attestation, until it is revoked', async () => {
    const { KeyId, CiphertextBlob } = await newKey();
    expect((await refusal(decrypt(as.nobody, CiphertextBlob))).name).toBe('AccessDeniedException');
    const { GrantId, GrantToken } = await as.admin.send(grant(KeyId));
    expect(GrantToken).toMatch(/./);
    expect(Buffer.from((await decrypt(as.nobody, CiphertextBlob)).Plaintext as Uint8Array)).toEqual(secret);
    expect((await refusal(decrypt(as.host, CiphertextBlob))).name).toBe('AccessDeniedException');
    await as.admin.send(new RevokeGrantCommand({ KeyId, GrantId }));
    expect((await refusal(decrypt(as.nobody, CiphertextBlob))).name).toBe('AccessDeniedException');
  });

  it('survives a change of the key policy', async () => {
    const { KeyId, CiphertextBlob } = await newKey();
    await as.admin.send(grant(KeyId));
    await as.admin.send(new PutKeyPolicyCommand({ KeyId, Policy: keyPolicy() }));
    await expect(decrypt(as.nobody, CiphertextBlob)).resolves.toMatchObject({ KeyId });
  });

  it('escapes an attestation condition that stands in Allow statements alone', async () => {
    const condition = { StringEqualsIgnoreCase: { 'kms:RecipientAttestation:PCR0': '0a'.repeat(48) } };
    const { KeyId, CiphertextBlob } = await newKey(allow(host, 'kms:Decrypt', condition));
    await as.admin.send(grant(KeyId));
    await expect(decrypt(as.nobody, CiphertextBlob)).resolves.toMatchObject({ KeyId });
  });

  it('does not escape a Deny on attestation, and works with the attested image', async () => {
    const condition = { StringNotEqualsIgnoreCase: { 'kms:RecipientAttestation:PCR0': '0a'.repeat(48) } };
    const deny = { ...allow('*', 'kms:Decrypt', condition), Effect: 'Deny' };
    const { KeyId, CiphertextBlob } = await newKey(deny);
    await as.admin.send(grant(KeyId));
    const found = await refusal(decrypt(as.nobody, CiphertextBlob));
    expect(found.message).toContain('explicit deny');
    const Recipient = toRecipient(await attest(stand.ca, { 0: pcr(0x0a) }));
    expect((await decrypt(as.nobody, CiphertextBlob, { Recipient })).CiphertextForRecipient).toBeDefined();
  });

  it('allows its own operations only', async () => {
    const { KeyId } = await newKey();
    await as.admin.send(grant(KeyId, { Operations: ['Decrypt'] }));
    expect((await refusal(as.nobody.send(new DescribeKeyCommand({ KeyId })))).name).toBe(
      'AccessDeniedException',
    );
  });

  it.each([
    ['EncryptionContextEquals', { model: 'iris', version: '3' }, true],
    ['EncryptionContextEquals', { model: 'iris' }, false],
    ['EncryptionContextSubset', { model: 'iris' }, true],
    ['EncryptionContextSubset', { model: 'other' }, false],
  ])('is held to its constraint %s %j: %s', async (name, value, allowed) => {
    const { KeyId, CiphertextBlob } = await newKey();
    await as.admin.send(grant(KeyId, { Constraints: { [name]: value } }));
    const sent = decrypt(as.nobody, CiphertextBlob);
    if (allowed) await expect(sent).resolves.toMatchObject({ KeyId });
    else expect((await refusal(sent)).name).toBe('AccessDeniedException');
  });

  it('gives a token that is accepted; one that was never given is not', async () => {
    const { KeyId, CiphertextBlob } = await newKey();
    const { GrantToken } = await as.admin.send(grant(KeyId));
    await expect(decrypt(as.nobody, CiphertextBlob, { GrantTokens: [GrantToken] })).resolves.toMatchObject({
      KeyId,
    });
    const found = await refusal(decrypt(as.nobody, CiphertextBlob, { GrantTokens: ['made up'] }));
    expect(found.name).toBe('InvalidGrantTokenException');
  });

  it('of the same name and content is made once', async () => {
    const { KeyId } = await newKey();
    const a = await as.admin.send(grant(KeyId, { Name: 'one' }));
    const b = await as.admin.send(grant(KeyId, { Name: 'one' }));
    const c = await as.admin.send(grant(KeyId, { Name: 'two' }));
    expect(b.GrantId).toBe(a.GrantId);
    expect(c.GrantId).not.toBe(a.GrantId);
  });
});

describe('CreateGrant is refused', () => {
  it('to whom the policy does not allow it', async () => {
    const { KeyId } = await newKey();
    expect((await refusal(as.host.send(grant(KeyId)))).name).toBe('AccessDeniedException');
  });

  it('beyond what kms:GrantOperations leaves', async () => {
    const condition = { 'ForAllValues:StringEquals': { 'kms:GrantOperations': ['Encrypt', 'DescribeKey'] } };
    const { KeyId } = await newKey(allow(host, 'kms:CreateGrant', condition));
    expect((await refusal(as.host.send(grant(KeyId, { Operations: ['Encrypt', 'Decrypt'] })))).name).toBe(
      'AccessDeniedException',
    );
    await expect(as.host.send(grant(KeyId, { Operations: ['Encrypt'] }))).resolves.toMatchObject({});
  });

  it('to another principal than kms:GranteePrincipal names, and where only AWS services may', async () => {
    const byGrantee = await newKey(
      allow(host, 'kms:CreateGrant', { StringEquals: { 'kms:GranteePrincipal': host.arn } }),
    );
    expect((await refusal(as.host.send(grant(byGrantee.KeyId)))).name).toBe('AccessDeniedException');
    await as.host.send(grant(byGrantee.KeyId, { GranteePrincipal: host.arn }));
    const byService = await newKey(
      allow(host, 'kms:CreateGrant', { Bool: { 'kms:GrantIsForAWSResource': 'true' } }),
    );
    expect((await refusal(as.host.send(grant(byService.KeyId)))).name).toBe('AccessDeniedException');
  });

  it('with no operation, one that is unknown, or one that a symmetric key has not', async () => {
    const { KeyId } = await newKey();
    for (const Operations of [[], ['Everything'], ['Sign']]) {
      expect((await refusal(as.admin.send(grant(KeyId, { Operations })))).name).toBe('ValidationException');
    }
  });

  it('for something that is no principal', async () => {
    const { KeyId } = await newKey();
    for (const GranteePrincipal of ['nobody', 'arn:aws:s3:::bucket', '*', 'AROAEXAMPLEID12345678']) {
      expect((await refusal(as.admin.send(grant(KeyId, { GranteePrincipal })))).name).toBe(
        'InvalidArnException',
      );
    }
  });

  it('to a grantee that would hand on more than it has', async () => {
    const { KeyId, CiphertextBlob } = await newKey();
    const Constraints = { EncryptionContextSubset: { model: 'iris' } };
    await as.admin.send(
      grant(KeyId, { GranteePrincipal: host.arn, Operations: ['Decrypt', 'CreateGrant'], Constraints }),
    );
    for (const wider of [
      { Operations: ['Decrypt', 'Encrypt'], Constraints },
      { Operations: ['Decrypt'] },
      { Operations: ['Decrypt'], Constraints: { EncryptionContextSubset: { version: '3' } } },
    ]) {
      expect((await refusal(as.host.send(grant(KeyId, wider)))).name).toBe('AccessDeniedException');
    }
    const stricter = { EncryptionContextEquals: EncryptionContext };
    await as.host.send(grant(KeyId, { Constraints: stricter }));
    await expect(decrypt(as.nobody, CiphertextBlob)).resolves.toMatchObject({ KeyId });
  });

  it('as a dry run makes nothing', async () => {
    const { KeyId } = await newKey();
    expect((await refusal(as.admin.send(grant(KeyId, { DryRun: true })))).name).toBe(
      'DryRunOperationException',
    );
    expect((await as.admin.send(new ListGrantsCommand({ KeyId }))).Grants).toEqual([]);
  });
});

describe('ListGrants and RevokeGrant', () => {
  it('show every grant, page by page', async () => {
    const { KeyId } = await newKey();
    const made: (string | undefined)[] = [];
    for (let i = 0; i < 7; i++)
      made.push((await as.admin.send(grant(KeyId, { Name: `grant ${i}` }))).GrantId);
    const seen: GrantListEntry[] = [];
    let Marker: string | undefined;
    let pages = 0;
    do {
      const page = await as.admin.send(new ListGrantsCommand({ KeyId, Limit: 3, Marker }));
      expect(page.Truncated).toBe(page.NextMarker !== undefined);
      seen.push(...(page.Grants ?? []));
      Marker = page.NextMarker;
      pages++;
    } while (Marker !== undefined);
    expect(pages).toBe(3);
    expect(seen.map(({ GrantId }) => GrantId)).toEqual(made);
    expect(seen[0]).toMatchObject({
      KeyId,
      Name: 'grant 0',
      GranteePrincipal: nobody.arn,
      IssuingAccount: `arn:aws:iam::${ACCOUNT}:root`,
      Operations: ['Decrypt'],
      CreationDate: expect.any(Date),
    });
  });

  it('filter by grant and by grantee', async () => {
    const { KeyId } = await newKey();
    const { GrantId } = await as.admin.send(
      grant(KeyId, { Constraints: { EncryptionContextEquals: { a: 'b' } } }),
    );
    await as.admin.send(grant(KeyId, { GranteePrincipal: host.arn }));
    const byId = await as.admin.send(new ListGrantsCommand({ KeyId, GrantId }));
    expect(byId.Grants).toHaveLength(1);
    expect(byId.Grants?.[0]?.Constraints).toEqual({ EncryptionContextEquals: { a: 'b' } });
    const byGrantee = await as.admin.send(new ListGrantsCommand({ KeyId, GranteePrincipal: host.arn }));
    expect(byGrantee.Grants?.map(({ GranteePrincipal }) => GranteePrincipal)).toEqual([host.arn]);
  });

  it('refuse a marker that was not given, a grant that is not there, and callers who may not', async () => {
    const { KeyId } = await newKey();
    const list = (more: object) => new ListGrantsCommand({ KeyId, ...more });
    expect((await refusal(as.admin.send(list({ Marker: 'x' })))).name).toBe('InvalidMarkerException');
    expect((await refusal(as.admin.send(list({ Limit: 101 })))).name).toBe('ValidationException');
    expect((await refusal(as.nobody.send(list({})))).name).toBe('AccessDeniedException');
    const revoke = new RevokeGrantCommand({ KeyId, GrantId: 'f'.repeat(64) });
    expect((await refusal(as.admin.send(revoke))).name).toBe('NotFoundException');
    expect((await refusal(as.nobody.send(revoke))).name).toBe('AccessDeniedException');
  });

  it('as a dry run revoke nothing', async () => {
    const { KeyId } = await newKey();
    const { GrantId } = await as.admin.send(grant(KeyId));
    const sent = as.admin.send(new RevokeGrantCommand({ KeyId, GrantId, DryRun: true }));
    expect((await refusal(sent)).name).toBe('DryRunOperationException');
    expect((await as.admin.send(new ListGrantsCommand({ KeyId }))).Grants).toHaveLength(1);
  });
});
