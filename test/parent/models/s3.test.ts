import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import type { TLSSocket } from 'node:tls';
import { describe, expect, it } from 'vitest';
import { credentialsFromFile } from '../../../parent/credentials/file.ts';
import { startSimulatedS3 } from '../../../simulator/s3/server.ts';
import { CREDENTIALS } from '../setup.ts';
import { createTestCa } from './certificates.ts';
import { ask, BUCKET, REGION, s3Store, writeFiles } from './stores.ts';

const ROOT = join(import.meta.dirname, '..', '..', '..');
const HEAD = 'iris.sealed/head';

describe('models from S3', () => {
  it('are what was put there, under bucket, prefix, model and file', async () => {
    const s3 = await startSimulatedS3({
      region: REGION,
      buckets: [BUCKET],
      principals: [CREDENTIALS],
      now: () => new Date(),
    });
    for (const [prefix, key] of [
      [undefined, HEAD],
      ["year=2026/it's (one)", `year=2026/it's (one)/${HEAD}`],
    ]) {
      const found = `found under ${prefix}`;
      await put(s3.endpoint, String(key), found);
      const config = { kind: 's3' as const, bucket: BUCKET, region: REGION, endpoint: s3.endpoint };
      await using asking = await ask({ ...config, ...(prefix !== undefined && { prefix }) });
      expect(Buffer.from(await asking.host.fetchModelFile('iris', 'head', 100)).toString()).toBe(found);
    }
    await s3.close();
  });

  it('are asked for with the credentials that the parent hands to its enclave', async () => {
    await using store = await s3Store();
    store.put(HEAD, Buffer.from('the head'));
    let seen: IncomingMessage['headers'] = {};
    store.meet('HEAD', ({ headers }) => {
      seen = headers;
      return false;
    });
    await using asking = await ask(store.config);
    await asking.host.fetchModelFile('iris', 'head', 100);
    expect(seen.authorization).toContain(`Credential=${CREDENTIALS.accessKeyId}/`);
    expect(seen.authorization).toContain(`/${REGION}/s3/aws4_request`);
    expect(seen['x-amz-security-token']).toBe(CREDENTIALS.sessionToken);
    expect(seen['user-agent']).toMatch(/^strongroom\b/);
  });

  it.each([
    ['that S3 does not know', 'InvalidAccessKeyId', 403],
    ['whose session is over', 'ExpiredToken', 400],
  ])(
    'are refused for credentials %s, and the text of the error goes nowhere',
    async (_what, code, status) => {
      await using store = await s3Store();
      store.put(HEAD, Buffer.from('the head'));
      store.meet('GET', (_request, response) => {
        const body = `<Error><Code>${code}</Code><Message>the text</Message></Error>`;
        response.writeHead(status, { 'content-type': 'application/xml' }).end(body);
        return true;
      });
      await using asking = await ask(store.config);
      await expect(asking.host.fetchModelFile('iris', 'head', 100)).rejects.toThrow('found 502');
      expect(asking.events).toMatchObject([{ error: 'PARENT_MODELS_REFUSED', reason: `status-${status}` }]);
      expect(JSON.stringify(asking.events)).not.toMatch(/the text|Token|AccessKey/);
    },
  );

  it('are not asked for without credentials, and the reason says so', async () => {
    await using store = await s3Store();
    const credentials = credentialsFromFile('/nowhere');
    await using asking = await ask(store.config, { credentials });
    await expect(asking.host.fetchModelFile('iris', 'head', 100)).rejects.toThrow('found 503');
    expect(asking.events).toMatchObject([{ error: 'PARENT_MODELS_UNAVAILABLE', reason: 'no-credentials' }]);
    expect(store.asked).toEqual([]);
  });

  it('come over TLS 1.3 from a server under the configured CA, and from no other', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'strongroom-s3-tls-'));
    const ca = await createTestCa();
    const { certificate: cert, key } = await ca.issue();
    const files = await writeFiles(folder, {
      own: ca.certificate,
      other: (await createTestCa()).certificate,
    });
    try {
      for (const [file, found] of [
        [files.own, 'the head'],
        [files.other, 'PARENT_MODELS_TLS'],
      ]) {
        await using store = await s3Store({ tls: { cert, key }, config: { ca: file } });
        store.put(HEAD, Buffer.from('the head'));
        let protocol: string | null = null;
        store.meet('GET', ({ socket }) => {
          protocol = (socket as TLSSocket).getProtocol();
          return false;
        });
        await using asking = await ask(store.config);
        const outcome = await asking.host.fetchModelFile('iris', 'head', 100).then(
          (bytes) => Buffer.from(bytes).toString(),
          () => asking.events[0]?.error,
        );
        expect(outcome).toBe(found);
        expect(protocol).toBe(found === 'the head' ? 'TLSv1.3' : null);
      }
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it('are asked for under a new CA once its file has changed', async () => {
    const ca = await createTestCa();
    const { certificate: cert, key } = await ca.issue();
    const folder = mkdtempSync(join(tmpdir(), 'sr-s3-ca-'));
    try {
      const file = join(folder, 'ca.pem');
      writeFileSync(file, (await createTestCa('Other', 3)).certificate);
      await using store = await s3Store({ tls: { cert, key }, config: { ca: file } });
      store.put(HEAD, Buffer.from('the head'));
      let clock = Date.now();
      await using asking = await ask(store.config, { now: () => clock });
      await expect(asking.host.fetchModelFile('iris', 'head', 100)).rejects.toThrow('found 502');
      writeFileSync(file, ca.certificate);
      clock += 2_000;
      expect(Buffer.from(await asking.host.fetchModelFile('iris', 'head', 100)).toString()).toBe('the head');
      expect(asking.events.map(({ event, error = '' }) => `${event} ${error}`)).toEqual([
        'certificate-expires ',
        'models-failed PARENT_MODELS_TLS',
        'tls-files-reloaded ',
      ]);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it('are refused when the text of the error is endless, and it is not read', async () => {
    await using store = await s3Store();
    store.put(HEAD, Buffer.from('the head'));
    let open = true;
    store.meet('GET', (request, response) => {
      response.writeHead(403, { 'content-type': 'application/xml' });
      request.socket.once('close', () => {
        open = false;
      });
      const more = (): void => {
        while (open && response.write('<Error>'.repeat(10_000)));
        if (open) response.once('drain', more);
      };
      more();
      return true;
    });
    await using asking = await ask(store.config);
    await expect(asking.host.fetchModelFile('iris', 'head', 100)).rejects.toThrow('found 502');
    expect(asking.events).toMatchObject([{ event: 'models-failed' }]);
    await expect.poll(() => open, { timeout: 15_000 }).toBe(false);
  });

  it('come from the configured place, whatever environment and home say', async () => {
    await using store = await s3Store();
    store.put(HEAD, Buffer.from('the head'));
    const folder = mkdtempSync(join(tmpdir(), 'strongroom-s3-environment-'));
    let trapped = 0;
    const trap = createServer((socket) => {
      trapped += 1;
      socket.destroy();
    });
    await new Promise<void>((resolve) => trap.listen(0, '127.0.0.1', resolve));
    const url = `http://127.0.0.1:${(trap.address() as { port: number }).port}`;
    mkdirSync(join(folder, '.aws'));
    const settings = ['region = us-east-1', `endpoint_url = ${url}`, 'use_fips_endpoint = true'];
    settings.push('s3_use_arn_region = true', 'max_attempts = 9', `credential_process = curl ${url}`);
    const sections = ['default', 'profile none'].flatMap((name) => [`[${name}]`, ...settings]);
    writeFileSync(join(folder, '.aws', 'config'), `${sections.join('\n')}\n`);
    try {
      for (const environment of [{}, hostile(url)]) {
        const child = spawn(process.execPath, [join(import.meta.dirname, 'hostile-process.ts')], {
          env: { HOME: folder, PATH: process.env.PATH ?? '', ...environment },
          stdio: ['pipe', 'pipe', 'pipe'],
        });
        child.stdin.end(JSON.stringify({ config: store.config, credentials: JSON.stringify(CREDENTIALS) }));
        const [output, errors] = await Promise.all([text(child.stdout), text(child.stderr)]);
        if (output === '') throw new Error(errors);
        const outcome = JSON.parse(output) as { text: string; contacted: string[]; opened: string[] };
        expect(outcome.text).toBe('the head');
        const { endpoint } = store.config as { endpoint: string };
        expect(outcome.contacted).toEqual([endpoint.replace('http://', '')]);
        expect(outcome.opened.filter((path) => path.startsWith(folder))).toEqual([]);
      }
      expect(trapped).toBe(0);
    } finally {
      trap.close();
      rmSync(folder, { recursive: true });
    }
  });
});

async function put(endpoint: string, key: string, body: string): Promise<void> {
  const signed = 'host;x-amz-content-sha256;x-amz-date;x-amz-security-token';
  const { status } = await fetch(`${endpoint}/${BUCKET}/${encodeURI(key)}`, {
    method: 'PUT',
    headers: {
      authorization: `AWS4-HMAC-SHA256 Credential=${CREDENTIALS.accessKeyId}/20260101/${REGION}/s3/aws4_request, SignedHeaders=${signed}, Signature=${'0'.repeat(64)}`,
      'x-amz-content-sha256': 'UNSIGNED-PAYLOAD',
      'x-amz-date': '20260101T000000Z',
      'x-amz-security-token': CREDENTIALS.sessionToken,
    },
    body,
  });
  expect(status).toBe(200);
}

/** Every variable that some file of the AWS SDK names, and those of Node and of proxies, all leading astray. */
function hostile(url: string): Record<string, string> {
  const found: Record<string, string> = {};
  for (const scope of ['@aws-sdk', '@smithy']) {
    const base = join(ROOT, 'node_modules', scope);
    for (const name of readdirSync(base, { recursive: true, encoding: 'utf8' })) {
      if (!/dist-es\/.*\.js$/.test(name)) continue;
      for (const [word] of readFileSync(join(base, name), 'utf8').matchAll(/\bAWS_[A-Z0-9_]+\b/g)) {
        found[word] = 'hostile';
      }
    }
  }
  return {
    ...found,
    AWS_ENDPOINT_URL: url,
    AWS_ENDPOINT_URL_S3: url,
    AWS_REGION: 'us-east-1',
    AWS_USE_FIPS_ENDPOINT: 'true',
    AWS_USE_DUALSTACK_ENDPOINT: 'true',
    AWS_MAX_ATTEMPTS: '9',
    AWS_RETRY_MODE: 'adaptive',
    AWS_EC2_METADATA_SERVICE_ENDPOINT: url,
    AWS_CONTAINER_CREDENTIALS_FULL_URI: url,
    HTTP_PROXY: url,
    HTTPS_PROXY: url,
    http_proxy: url,
    https_proxy: url,
    NO_PROXY: '',
    NODE_USE_ENV_PROXY: '1',
  };
}
