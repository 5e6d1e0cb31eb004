import { request } from 'node:https';
import { GenerateRandomCommand, ListGrantsCommand } from '@aws-sdk/client-kms';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ALL_OF_KMS, admin, host, principal, refusal, role, type Stand, startStand } from './support.ts';

const random = () => new GenerateRandomCommand({ NumberOfBytes: 8 });
let offsetMs = 0;
let stand: Stand;
const expired = principal(role('Expired'), {
  sessionToken: 'an old token',
  expiration: new Date(Date.now() - 1000),
  iamPolicies: [ALL_OF_KMS],
});
const lasting = principal(role('Lasting'), {
  sessionToken: 'a token',
  expiration: new Date(Date.now() + 3_600_000),
  iamPolicies: [ALL_OF_KMS],
});

beforeAll(async () => {
  stand = await startStand([admin, host, expired, lasting], () => new Date(Date.now() + offsetMs));
});
afterAll(() => stand.close());

describe('a request is answered only if its signature is', () => {
  it('made by a known key, over this request', async () => {
    const answer = await stand.client(admin).send(random());
    expect(answer.Plaintext?.length).toBe(8);
  });

  it('made in a session that lasts', async () => {
    await expect(stand.client(lasting).send(random())).resolves.toMatchObject({});
  });

  it('not made by an unknown key', async () => {
    const unknown = { ...admin, accessKeyId: 'AKIAUNKNOWN' };
    expect(await refusal(stand.client(unknown).send(random()))).toMatchObject({
      name: 'UnrecognizedClientException',
      status: 400,
      message: 'The security token included in the request is invalid.',
    });
  });

  it('not made with another secret', async () => {
    const wrong = { ...admin, secretAccessKey: 'guess' };
    expect(await refusal(stand.client(wrong).send(random()))).toMatchObject({
      name: 'InvalidSignatureException',
      status: 400,
      message: expect.stringContaining('does not match the signature you provided'),
    });
  });

  it('not with another session token, and not without one', async () => {
    const { sessionToken: _token, ...none } = lasting;
    for (const caller of [{ ...lasting, sessionToken: 'another' }, none]) {
      expect(await refusal(stand.client(caller).send(random()))).toMatchObject({
        name: 'UnrecognizedClientException',
      });
    }
    const extra = { ...admin, sessionToken: 'a token that admin does not have' };
    expect(await refusal(stand.client(extra).send(random()))).toMatchObject({
      name: 'UnrecognizedClientException',
    });
  });

  it('not after the session has expired', async () => {
    expect(await refusal(stand.client(expired).send(random()))).toMatchObject({
      name: 'ExpiredTokenException',
      message: 'The security token included in the request is expired',
    });
  });

  it('not scoped to another region', async () => {
    expect(await refusal(stand.client(admin, { region: 'us-east-1' }).send(random()))).toMatchObject({
      name: 'InvalidSignatureException',
      message: expect.stringContaining('scoped to'),
    });
  });

  it.each([
    ['expired', 6 * 60_000],
    ['not yet current', -6 * 60_000],
  ])('not %s by more than five minutes', async (text, skewMs) => {
    offsetMs = skewMs;
    try {
      expect(await refusal(stand.client(admin).send(random()))).toMatchObject({
        name: 'InvalidSignatureException',
        message: expect.stringContaining(text),
      });
    } finally {
      offsetMs = 0;
    }
  });

  it('four minutes of clock skew are accepted', async () => {
    offsetMs = 4 * 60_000;
    try {
      await expect(stand.client(admin).send(random())).resolves.toMatchObject({});
    } finally {
      offsetMs = 0;
    }
  });
});

describe('a signed request that was changed on its way is refused', () => {
  it('its body', async () => {
    const tamper = (signed: { headers: Record<string, string>; body?: unknown }) => {
      signed.body = Buffer.from('{"NumberOfBytes":9}');
    };
    expect(await refusal(stand.client(admin, { tamper }).send(random()))).toMatchObject({
      name: 'InvalidSignatureException',
    });
  });

  it('its operation', async () => {
    const tamper = (signed: { headers: Record<string, string> }) => {
      signed.headers['x-amz-target'] = 'TrentService.Decrypt';
    };
    expect(await refusal(stand.client(admin, { tamper }).send(random()))).toMatchObject({
      name: 'InvalidSignatureException',
    });
  });

  it('its host', async () => {
    const tamper = (signed: { headers: Record<string, string> }) => {
      signed.headers.host = 'kms.us-east-1.amazonaws.com';
    };
    expect(await refusal(stand.client(admin, { tamper }).send(random()))).toMatchObject({
      name: 'InvalidSignatureException',
    });
  });

  it('an x-amz header that was added', async () => {
    const tamper = (signed: { headers: Record<string, string> }) => {
      signed.headers['x-amz-added'] = 'yes';
    };
    expect(await refusal(stand.client(admin, { tamper }).send(random()))).toMatchObject({
      name: 'InvalidSignatureException',
      message: expect.stringContaining('not signed: x-amz-added'),
    });
  });

  it('its time', async () => {
    const tamper = (signed: { headers: Record<string, string> }) => {
      signed.headers['x-amz-date'] = (signed.headers['x-amz-date'] as string).replace(/.Z$/, (end) =>
        end === '0Z' ? '1Z' : '0Z',
      );
    };
    expect(await refusal(stand.client(admin, { tamper }).send(random()))).toMatchObject({
      name: 'InvalidSignatureException',
    });
  });

  it('its signed headers, by leaving one out', async () => {
    const tamper = (signed: { headers: Record<string, string> }) => {
      signed.headers.authorization = (signed.headers.authorization as string).replace(
        'x-amz-target',
        'x-amz-targex',
      );
    };
    expect(await refusal(stand.client(admin, { tamper }).send(random()))).toMatchObject({
      name: 'IncompleteSignatureException',
    });
  });

  it.each(['Bearer token', 'AWS4-HMAC-SHA256 Credential=x', ''])(
    'an Authorization of "%s"',
    async (authorization) => {
      const tamper = (signed: { headers: Record<string, string> }) => {
        signed.headers.authorization = authorization;
      };
      expect(await refusal(stand.client(admin, { tamper }).send(random()))).toMatchObject({
        name: 'IncompleteSignatureException',
      });
    },
  );

  it('no Authorization at all', async () => {
    const tamper = (signed: { headers: Record<string, string> }) => {
      delete signed.headers.authorization;
    };
    expect(await refusal(stand.client(admin, { tamper }).send(random()))).toMatchObject({
      name: 'MissingAuthenticationTokenException',
    });
  });
});

describe('the wire', () => {
  it('shows a certificate for its own host name only', async () => {
    const attempt = new Promise((_, reject) => {
      const { port, caCertificatePem } = stand.kms;
      const options = {
        host: '127.0.0.1',
        port,
        servername: 'kms.us-east-1.amazonaws.com',
        ca: caCertificatePem,
      };
      request(options).once('error', reject).end();
    });
    await expect(attempt).rejects.toMatchObject({ code: 'ERR_TLS_CERT_ALTNAME_INVALID' });
  });

  it('is trusted through its own CA only', async () => {
    const attempt = new Promise((_, reject) => {
      request({ host: '127.0.0.1', port: stand.kms.port, servername: stand.kms.host })
        .once('error', reject)
        .end();
    });
    await expect(attempt).rejects.toThrow(/certificate/);
  });

  it('refuses a body larger than any request needs, and goes on serving', async () => {
    const tamper = (signed: { body?: unknown; headers: Record<string, string> }) => {
      signed.body = new Uint8Array(600 * 1024);
      signed.headers['content-length'] = String(600 * 1024);
    };
    await expect(stand.client(admin, { tamper }).send(random())).rejects.toThrow();
    await expect(stand.client(admin).send(random())).resolves.toMatchObject({});
  });

  it('refuses an operation that is not simulated, and says which are', async () => {
    const tamper = (signed: { headers: Record<string, string> }) => {
      signed.headers['content-type'] = 'application/json';
    };
    const found = await refusal(stand.client(admin, { tamper }).send(new ListGrantsCommand({ KeyId: 'x' })));
    expect(['InvalidSignatureException', 'UnknownOperationException']).toContain(found.name);
  });
});
