import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { credentialsFromFile } from '../../parent/credentials/file.ts';
import { credentialsFromInstanceRole } from '../../parent/credentials/instance-role.ts';
import { CREDENTIALS } from './setup.ts';

const UNAVAILABLE = { code: 'PARENT_CREDENTIALS_UNAVAILABLE' };

describe('credentials from a file', () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'sr-'));
  });
  afterEach(() => rm(folder, { recursive: true }));

  it('are read anew each time', async () => {
    const path = join(folder, 'credentials.json');
    const provider = credentialsFromFile(path);
    await expect(provider.provide()).rejects.toMatchObject(UNAVAILABLE);
    await writeFile(path, JSON.stringify(CREDENTIALS));
    expect((await provider.provide()).sessionToken).toBe(CREDENTIALS.sessionToken);
    await writeFile(path, JSON.stringify({ ...CREDENTIALS, sessionToken: 'next' }));
    expect((await provider.provide()).sessionToken).toBe('next');
  });

  it('are refused when malformed, too long or no file', async () => {
    const path = join(folder, 'credentials.json');
    await writeFile(path, JSON.stringify({ ...CREDENTIALS, more: 1 }));
    await expect(credentialsFromFile(path).provide()).rejects.toMatchObject(UNAVAILABLE);
    await writeFile(path, ' '.repeat(16 * 1024 + 1));
    await expect(credentialsFromFile(path).provide()).rejects.toMatchObject(UNAVAILABLE);
    await expect(credentialsFromFile(folder).provide()).rejects.toMatchObject(UNAVAILABLE);
  });
});

describe('credentials of the instance’s role, from a metadata service', () => {
  const START = Date.parse('2026-01-01T00:00:00Z');
  let now = START;
  let calls: string[] = [];
  let answer: (request: IncomingMessage, response: ServerResponse) => void;
  let server: ReturnType<typeof createServer>;
  let endpoint: string;

  beforeEach(async () => {
    now = START;
    calls = [];
    answer = imds();
    server = createServer((request, response) => {
      calls.push(`${request.method} ${request.url}`);
      answer(request, response);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    endpoint = `http://127.0.0.1:${(server.address() as { port: number }).port}`;
  });
  afterEach(() => {
    server.close();
    server.closeAllConnections();
  });

  /** A metadata service as EC2 documents it, version 2 only, whose credentials hold for an hour from `now`. */
  function imds(change: object = {}, role = 'strongroom-host') {
    let issued = 0;
    return (request: IncomingMessage, response: ServerResponse): void => {
      if (request.method === 'PUT' && request.url === '/latest/api/token') {
        response.writeHead(request.headers['x-aws-ec2-metadata-token-ttl-seconds'] === '21600' ? 200 : 400);
        response.end('example-token==');
        return;
      }
      if (request.headers['x-aws-ec2-metadata-token'] !== 'example-token==') {
        response.writeHead(401).end();
        return;
      }
      if (request.url === '/latest/meta-data/iam/security-credentials/') {
        response.end(role);
        return;
      }
      issued += 1;
      response.end(
        JSON.stringify({
          Code: 'Success',
          LastUpdated: new Date(now).toISOString(),
          Type: 'AWS-HMAC',
          AccessKeyId: `ASIAEXAMPLEEXAMPLE0${issued}`,
          SecretAccessKey: CREDENTIALS.secretAccessKey,
          Token: CREDENTIALS.sessionToken,
          Expiration: new Date(now + 3_600_000).toISOString().replace('.000', ''),
          ...change,
        }),
      );
    };
  }
  const provider = () => credentialsFromInstanceRole({ endpoint, now: () => now });

  it('come by token, role and credentials, in this order', async () => {
    expect(await provider().provide()).toEqual({
      accessKeyId: 'ASIAEXAMPLEEXAMPLE01',
      secretAccessKey: CREDENTIALS.secretAccessKey,
      sessionToken: CREDENTIALS.sessionToken,
      expiration: new Date(START + 3_600_000),
    });
    expect(calls).toEqual([
      'PUT /latest/api/token',
      'GET /latest/meta-data/iam/security-credentials/',
      'GET /latest/meta-data/iam/security-credentials/strongroom-host',
    ]);
  });

  it('are kept until five minutes before they expire, then refreshed', async () => {
    const role = provider();
    await role.provide();
    now += 54 * 60_000;
    expect((await role.provide()).accessKeyId).toBe('ASIAEXAMPLEEXAMPLE01');
    now += 61_000;
    expect((await role.provide()).accessKeyId).toBe('ASIAEXAMPLEEXAMPLE02');
    expect(calls.length).toBe(6);
  });

  it('are fetched once for many callers at the same time', async () => {
    const role = provider();
    await Promise.all(Array.from({ length: 20 }, () => role.provide()));
    expect(calls.length).toBe(3);
  });

  it('outlive a metadata service that fails, until they expire, without hammering it', async () => {
    const role = provider();
    await role.provide();
    answer = (_request, response) => void response.writeHead(500).end();
    now += 58 * 60_000;
    for (let count = 0; count < 5; count += 1) {
      expect((await role.provide()).accessKeyId).toBe('ASIAEXAMPLEEXAMPLE01');
    }
    expect(calls.length).toBe(4);
    now += 2 * 60_000;
    await expect(role.provide()).rejects.toMatchObject(UNAVAILABLE);
    answer = imds();
    expect((await role.provide()).accessKeyId).toBe('ASIAEXAMPLEEXAMPLE01');
  });

  it('never come without a session token', async () => {
    answer = (request, response) => {
      if (request.method === 'PUT') response.writeHead(403).end();
      else imds()(request, response);
    };
    await expect(provider().provide()).rejects.toMatchObject(UNAVAILABLE);
    expect(calls).toEqual(['PUT /latest/api/token']);
  });

  const broken: readonly (readonly [string, (request: IncomingMessage, response: ServerResponse) => void])[] =
    [
      ['a role that is refused', imds({ Code: 'AssumeRoleUnauthorizedAccess' })],
      ['a role name with a path', imds({}, '../../user-data')],
      ['two roles', imds({}, 'one\ntwo')],
      ['no role', imds({}, '')],
      ['expired credentials', imds({ Expiration: '2025-01-01T00:00:00Z' })],
      ['no expiration', imds({ Expiration: null })],
      ['a number as a secret', imds({ SecretAccessKey: 1 })],
      ['an answer that is too long', (_request, response) => void response.end('x'.repeat(20_000))],
      ['a redirect', (_request, response) => void response.writeHead(302, { location: '/elsewhere' }).end()],
      ['a closed connection', (request) => void request.socket.destroy()],
    ];
  for (const [what, misbehave] of broken) {
    it(`are refused for ${what}`, async () => {
      answer = misbehave;
      await expect(provider().provide()).rejects.toMatchObject(UNAVAILABLE);
    });
  }
});
