import { generateKeyPairSync } from 'node:crypto';
import {
  CreateKeyCommand,
  DecryptCommand,
  EncryptCommand,
  GenerateDataKeyCommand,
  GenerateRandomCommand,
  type KMSClient,
} from '@aws-sdk/client-kms';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openEnvelopedData } from '../../../shared/cms/read.ts';
import { createSimulatedCa } from '../../../simulator/nsm/ca.ts';
import {
  ALL_OF_KMS,
  admin,
  allow,
  attest,
  host,
  keyPolicy,
  pcr,
  principal,
  REGION,
  recipientKeys,
  recipientSpki,
  refusal,
  role,
  type Stand,
  startStand,
  toRecipient,
} from './support.ts';

const EncryptionContext = { 'strongroom-model': 'iris' };
const secret = Buffer.from('a data key of thirty-two bytes!!');
const image = { 0: pcr(0xa0), 1: pcr(0xa1), 2: pcr(0xa2), 3: pcr(0xa3), 16: pcr(0xb0) };
const hexOf = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
/** May do everything unattested: what it is answered with a bad document is the heart of the matter. */
const trusted = principal(role('Trusted'), { iamPolicies: [ALL_OF_KMS] });

let stand: Stand;
let as: Record<'admin' | 'host' | 'trusted', KMSClient>;
let keyId: string;
let blob: Uint8Array;
let clockMs: number | undefined;

beforeAll(async () => {
  stand = await startStand([admin, host, trusted], () => new Date(clockMs ?? Date.now()));
  as = { admin: stand.client(admin), host: stand.client(host), trusted: stand.client(trusted) };
  const Policy = keyPolicy(
    allow(host, ['kms:Decrypt', 'kms:GenerateDataKey'], {
      StringEqualsIgnoreCase: {
        'kms:RecipientAttestation:ImageSha384': hexOf(image[0]),
        'kms:RecipientAttestation:PCR16': hexOf(image[16]).toUpperCase(),
      },
    }),
    { ...allow(trusted, ['kms:Decrypt', 'kms:GenerateDataKey']), Sid: 'Unattested' },
  );
  keyId = (await as.admin.send(new CreateKeyCommand({ Policy }))).KeyMetadata?.Arn as string;
  const made = await as.admin.send(
    new EncryptCommand({ KeyId: keyId, Plaintext: secret, EncryptionContext }),
  );
  blob = made.CiphertextBlob as Uint8Array;
});
afterAll(() => stand.close());

const decryptWith = (document: Uint8Array | undefined) =>
  new DecryptCommand({
    CiphertextBlob: blob,
    EncryptionContext,
    ...(document === undefined ? {} : { Recipient: toRecipient(document) }),
  });

const open = (sealed: Uint8Array | undefined) =>
  Buffer.from(
    openEnvelopedData(sealed as Uint8Array, { privateKey: recipientKeys.privateKey, spki: recipientSpki }),
  );

describe('the attested image gets the key, sealed to the attested key', () => {
  it('from Decrypt', async () => {
    const answer = await as.host.send(decryptWith(await attest(stand.ca, image)));
    expect(answer.Plaintext).toBeUndefined();
    expect(answer.KeyMaterialId).toBeUndefined();
    expect(answer.KeyId).toBe(keyId);
    expect(open(answer.CiphertextForRecipient)).toEqual(secret);
  });

  it('from GenerateDataKey, with a blob that opens to the same key', async () => {
    const answer = await as.host.send(
      new GenerateDataKeyCommand({
        KeyId: keyId,
        KeySpec: 'AES_256',
        EncryptionContext,
        Recipient: toRecipient(await attest(stand.ca, image)),
      }),
    );
    expect(answer.Plaintext).toBeUndefined();
    const { Plaintext } = await as.trusted.send(
      new DecryptCommand({ CiphertextBlob: answer.CiphertextBlob, EncryptionContext }),
    );
    expect(open(answer.CiphertextForRecipient)).toEqual(Buffer.from(Plaintext as Uint8Array));
  });

  it('from GenerateRandom', async () => {
    const Recipient = toRecipient(await attest(stand.ca, image));
    const answer = await as.trusted.send(new GenerateRandomCommand({ NumberOfBytes: 24, Recipient }));
    expect(answer.Plaintext).toBeUndefined();
    expect(open(answer.CiphertextForRecipient).length).toBe(24);
  });
});

describe('whoever is not that image is denied', () => {
  it('without attestation', async () => {
    const found = await refusal(as.host.send(decryptWith(undefined)));
    expect(found.name).toBe('AccessDeniedException');
    expect(found.explanation).toContain('no attestation document');
  });

  it.each([
    ['another image', { ...image, 0: pcr(1) }],
    ['another deployment', { ...image, 16: pcr(1) }],
    ['no deployment', (({ 16: _deployment, ...rest }) => rest)(image)],
    ['a debug image', { ...image, 0: pcr(0), 1: pcr(0), 2: pcr(0) }],
  ])('as %s', async (_, pcrs) => {
    const found = await refusal(as.host.send(decryptWith(await attest(stand.ca, pcrs))));
    expect(found.name).toBe('AccessDeniedException');
    expect(found.explanation).toMatch(/PCR16|ImageSha384/i);
  });

  it('even with the right document, under another encryption context', async () => {
    const request = new DecryptCommand({
      CiphertextBlob: blob,
      EncryptionContext: { 'strongroom-model': 'other' },
      Recipient: toRecipient(await attest(stand.ca, image)),
    });
    expect((await refusal(as.host.send(request))).name).toBe('InvalidCiphertextException');
  });

  it('on actions that cannot be attested, document or not', async () => {
    const Recipient = toRecipient(await attest(stand.ca, image));
    const input = { KeyId: keyId, Plaintext: secret, Recipient };
    expect((await refusal(as.host.send(new EncryptCommand(input)))).name).toMatch(
      /AccessDenied|Serialization/,
    );
  });
});

describe('an unreadable or invalid attestation document is an error, never a plaintext', () => {
  // The caller may decrypt without attestation: a KMS that ignored the document would answer with the plaintext.
  const sendAll = async (document: Uint8Array) => {
    const Recipient = toRecipient(document);
    const KeyId = keyId;
    return [
      await refusal(as.trusted.send(decryptWith(document))),
      await refusal(as.trusted.send(new GenerateDataKeyCommand({ KeyId, KeySpec: 'AES_256', Recipient }))),
      await refusal(as.trusted.send(new GenerateRandomCommand({ NumberOfBytes: 8, Recipient }))),
      await refusal(
        as.trusted.send(
          new DecryptCommand({ CiphertextBlob: blob, EncryptionContext, Recipient, DryRun: true }),
        ),
      ),
    ];
  };
  const expectRefused = async (document: Uint8Array) => {
    for (const found of await sendAll(document)) {
      expect(found).toMatchObject({ name: 'ValidationException', status: 400 });
      expect(found.message).toContain("'recipient.attestationDocument'");
    }
  };

  it('the unattested caller does get the plaintext where it sends no document', async () => {
    const { Plaintext } = await as.trusted.send(decryptWith(undefined));
    expect(Buffer.from(Plaintext as Uint8Array)).toEqual(secret);
  });

  it('a byte that is no document', () => expectRefused(Buffer.of(0)));
  it('text', () => expectRefused(Buffer.from('not an attestation document')));
  it('an empty CBOR map', () => expectRefused(Buffer.of(0xa0)));
  it('an empty COSE message', () => expectRefused(Buffer.from('8440a04040', 'hex')));
  it('a cut document', async () => expectRefused((await attest(stand.ca, image)).subarray(0, -1)));
  it('a document with bytes after it', async () =>
    expectRefused(Buffer.concat([await attest(stand.ca, image), Buffer.of(0)])));

  it('a document whose signature does not match', async () => {
    const document = Uint8Array.from(await attest(stand.ca, image));
    document[document.length - 1] = (document.at(-1) as number) ^ 1;
    await expectRefused(document);
  });

  it('a document of which a register was changed', async () => {
    const document = Buffer.from(await attest(stand.ca, { ...image, 0: pcr(0xee) }));
    document.fill(
      0xa0,
      document.indexOf(Buffer.from(pcr(0xee))),
      document.indexOf(Buffer.from(pcr(0xee))) + 48,
    );
    await expectRefused(document);
  });

  it('a document under another simulation’s root', async () => {
    const foreign = await createSimulatedCa({ region: REGION, now: new Date() });
    await expectRefused(await attest(foreign, image));
  });

  it('a document whose certificates have expired', async () => {
    const document = await attest(stand.ca, image);
    clockMs = Date.now() + 3.5 * 3_600_000;
    try {
      const late = { systemClockOffset: 3.5 * 3_600_000 };
      const client = stand.client(trusted);
      Object.assign(client.config, late);
      expect(await refusal(client.send(decryptWith(document)))).toMatchObject({
        name: 'ValidationException',
      });
    } finally {
      clockMs = undefined;
    }
  });

  it('a document without a public key', async () =>
    expectRefused(await attest(stand.ca, image, { publicKey: null })));
  it('a document with an empty public key', async () =>
    expectRefused(await attest(stand.ca, image, { publicKey: new Uint8Array(0) })));
  it('a document whose public key is no SPKI', async () =>
    expectRefused(await attest(stand.ca, image, { publicKey: Buffer.from('a key') })));
  it('a document with an EC key', async () => {
    const { publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    await expectRefused(
      await attest(stand.ca, image, { publicKey: publicKey.export({ format: 'der', type: 'spki' }) }),
    );
  });
  it('a document with an RSA-3072 key, which AWS does not document', async () => {
    const { publicKey } = generateKeyPairSync('rsa', { modulusLength: 3072 });
    await expectRefused(
      await attest(stand.ca, image, { publicKey: publicKey.export({ format: 'der', type: 'spki' }) }),
    );
  });
  it('a document with a public key and bytes after it', async () => {
    await expectRefused(
      await attest(stand.ca, image, { publicKey: Buffer.concat([recipientSpki, Buffer.of(0)]) }),
    );
  });

  it.each([
    ['an algorithm other than RSAES_OAEP_SHA_256', { KeyEncryptionAlgorithm: 'RSAES_OAEP_SHA_1' as never }],
    ['no algorithm', { KeyEncryptionAlgorithm: undefined as never }],
    ['no document', { AttestationDocument: undefined as never }],
    ['an empty document', { AttestationDocument: new Uint8Array(0) }],
    ['a document larger than KMS takes', { AttestationDocument: new Uint8Array(262_145) }],
  ])('a recipient with %s', async (_, change) => {
    const Recipient = { ...toRecipient(await attest(stand.ca, image)), ...change };
    const request = new DecryptCommand({ CiphertextBlob: blob, EncryptionContext, Recipient });
    expect(await refusal(as.trusted.send(request))).toMatchObject({ name: 'ValidationException' });
  });

  it.each([
    ['a recipient that is null', '"Recipient":null'],
    ['a recipient that is text', '"Recipient":"none"'],
    ['an empty recipient', '"Recipient":{}'],
    [
      'a recipient with an unknown member',
      '"Recipient":{"KeyEncryptionAlgorithm":"RSAES_OAEP_SHA_256","AttestationDocument":"AA==","Extra":1}',
    ],
    [
      'a recipient whose document is not base64',
      '"Recipient":{"KeyEncryptionAlgorithm":"RSAES_OAEP_SHA_256","AttestationDocument":"%%"}',
    ],
    [
      'a misspelt recipient',
      '"recipient":{"KeyEncryptionAlgorithm":"RSAES_OAEP_SHA_256","AttestationDocument":"AA=="}',
    ],
    ['two recipients', '"Recipient":{},"Recipient":{}'],
  ])('%s, however the SDK would not send it', async (_, member) => {
    const request = new DecryptCommand({ CiphertextBlob: blob, EncryptionContext });
    // Before signing, so that the request is as genuine as any other.
    request.middlewareStack.add(
      (next) => (args) => {
        const signed = args.request as { body: string | Uint8Array; headers: Record<string, string> };
        const body = typeof signed.body === 'string' ? signed.body : new TextDecoder().decode(signed.body);
        signed.body = body.replace(/}$/, `,${member}}`);
        signed.headers['content-length'] = String(signed.body.length);
        return next(args);
      },
      { step: 'build', priority: 'low', name: 'member' },
    );
    expect((await refusal(as.trusted.send(request))).name).toMatch(/^(Validation|Serialization)Exception$/);
  });
});
