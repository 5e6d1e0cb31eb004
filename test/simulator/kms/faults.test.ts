import {
  CreateKeyCommand,
  DecryptCommand,
  EncryptCommand,
  GenerateRandomCommand,
  type KMSClient,
} from '@aws-sdk/client-kms';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { openEnvelopedData } from '../../../shared/cms/read.ts';
import { codeOf } from '../../../shared/errors.ts';
import { readFault } from '../../../simulator/kms/faults.ts';
import {
  admin,
  allow,
  attest,
  host,
  keyPolicy,
  pcr,
  recipientKeys,
  recipientSpki,
  refusal,
  type Stand,
  startStand,
  toRecipient,
} from './support.ts';

const random = () => new GenerateRandomCommand({ NumberOfBytes: 16 });
let stand: Stand;
let client: KMSClient;

beforeAll(async () => {
  stand = await startStand([admin, host]);
  client = stand.client(admin);
});
afterEach(() => stand.kms.faults.clear());
afterAll(() => stand.close());

describe('faults', () => {
  it('throttling, which the SDK retries', async () => {
    stand.kms.faults.inject(
      { kind: 'error', name: 'ThrottlingException', message: 'Rate exceeded' },
      { times: 2 },
    );
    const answer = await stand.client(admin, { maxAttempts: 3 }).send(random());
    expect(answer.$metadata.attempts).toBe(3);
  });

  it.each([
    ['KMSInternalException', 500],
    ['ServiceUnavailableException', 503],
    ['DisabledException', 400],
    ['KMSInvalidStateException', 400],
  ])('%s', async (name, status) => {
    stand.kms.faults.inject({ kind: 'error', name });
    expect(await refusal(client.send(random()))).toMatchObject({ name, status });
    await expect(client.send(random())).resolves.toMatchObject({});
  });

  it('an error with a status of one’s own', async () => {
    stand.kms.faults.inject({ kind: 'error', name: 'Teapot', status: 418 });
    expect(await refusal(client.send(random()))).toMatchObject({ name: 'Teapot', status: 418 });
  });

  it('expired credentials', async () => {
    stand.kms.faults.inject({ kind: 'expired-credentials' });
    expect(await refusal(client.send(random()))).toMatchObject({ name: 'ExpiredTokenException' });
  });

  it('a late answer', async () => {
    stand.kms.faults.inject({ kind: 'delay', ms: 30 });
    await expect(client.send(random())).resolves.toMatchObject({});
  });

  it('no answer', async () => {
    stand.kms.faults.inject({ kind: 'hang' });
    const impatient = stand.client(admin, { requestTimeoutMs: 50 });
    expect(await refusal(impatient.send(random()))).toMatchObject({ name: 'TimeoutError' });
  });

  it('a closed connection', async () => {
    stand.kms.faults.inject({ kind: 'reset' });
    await expect(client.send(random())).rejects.toThrow(/socket|ECONNRESET|hang up/);
  });

  it.each([0, 1, 20])('an answer cut after %i bytes', async (bytes) => {
    stand.kms.faults.inject({ kind: 'truncate', bytes });
    await expect(client.send(random())).rejects.toThrow();
    await expect(client.send(random())).resolves.toMatchObject({});
  });

  it('meet the operation they are for, as often as they are told', async () => {
    stand.kms.faults.inject({ kind: 'error', name: 'ThrottlingException' }, { operation: 'Decrypt' });
    await expect(client.send(random())).resolves.toMatchObject({});
    const decrypt = new DecryptCommand({ CiphertextBlob: Buffer.from('x') });
    expect((await refusal(client.send(decrypt))).name).toBe('ThrottlingException');
    expect((await refusal(client.send(decrypt))).name).toBe('InvalidCiphertextException');
  });

  it('cannot be injected over KMS’s own wire', async () => {
    const tamper = (signed: { headers: Record<string, string> }) => {
      signed.headers['x-strongroom-fault'] = 'hang';
    };
    await expect(stand.client(admin, { tamper }).send(random())).resolves.toMatchObject({});
  });
});

describe('faults of attested answers', () => {
  const EncryptionContext = { model: 'iris' };
  const secret = Buffer.from('a data key of thirty-two bytes!!');
  let blob: Uint8Array;

  beforeAll(async () => {
    const pinned = { StringEqualsIgnoreCase: { 'kms:RecipientAttestation:PCR0': '0a'.repeat(48) } };
    const Policy = keyPolicy(allow(host, 'kms:Decrypt', pinned));
    const KeyId = (await client.send(new CreateKeyCommand({ Policy }))).KeyMetadata?.Arn;
    const made = await client.send(new EncryptCommand({ KeyId, Plaintext: secret, EncryptionContext }));
    blob = made.CiphertextBlob as Uint8Array;
  });

  const ask = async (publicKey = recipientSpki) => {
    const document = await attest(stand.ca, { 0: pcr(0x0a) }, { publicKey });
    const request = { CiphertextBlob: blob, EncryptionContext, Recipient: toRecipient(document) };
    const answer = await stand.client(host).send(new DecryptCommand(request));
    return answer.CiphertextForRecipient as Uint8Array;
  };
  const open = (sealed: Uint8Array) => {
    try {
      return openEnvelopedData(sealed, { privateKey: recipientKeys.privateKey, spki: recipientSpki });
    } catch (error) {
      return codeOf(error);
    }
  };

  it('a register that KMS reads differently is denied like any other image', async () => {
    stand.kms.faults.inject({ kind: 'alter-register', index: 0 });
    const found = await refusal(ask());
    expect(found.name).toBe('AccessDeniedException');
    expect(open(await ask())).toEqual(Uint8Array.from(secret));
  });

  it('a corrupted CiphertextForRecipient does not open', async () => {
    stand.kms.faults.inject({ kind: 'corrupt', member: 'CiphertextForRecipient' });
    expect(open(await ask())).toBe('CMS_DECRYPTION_FAILED');
  });

  it('a replayed answer is for another key, and the reader says so', async () => {
    const { generateKeyPairSync } = await import('node:crypto');
    const earlier = generateKeyPairSync('rsa', { modulusLength: 2048 }).publicKey;
    await ask(earlier.export({ format: 'der', type: 'spki' }));
    stand.kms.faults.inject({ kind: 'replay' });
    expect(open(await ask())).toBe('CMS_RECIPIENT_REFUSED');
  });
});

describe('a fault read from a control line', () => {
  it('is taken if it is well formed', () => {
    expect(readFault({ kind: 'truncate', bytes: 3 })).toEqual({ kind: 'truncate', bytes: 3 });
  });

  it.each([
    [undefined],
    [null],
    ['hang'],
    [{}],
    [{ kind: 'explode' }],
    [{ kind: 'toString' }],
    [{ kind: 'delay', ms: '3' }],
    [{ kind: 'hang', forever: true }],
    [{ kind: 'truncate' }],
  ])('is refused otherwise: %j', (value) => {
    expect(() => readFault(value)).toThrow(TypeError);
  });
});
