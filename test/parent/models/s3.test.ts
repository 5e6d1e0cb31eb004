import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { PutObjectCommand, S3Client } from '@aws-sdk/client-s3';
import { describe, expect, it } from 'vitest';
import { startSimulatedS3 } from '../../../simulator/s3/server.ts';
import { CREDENTIALS } from '../setup.ts';
import { ask, BUCKET, REGION, s3Store } from './stores.ts';

const ROOT = join(import.meta.dirname, '..', '..', '..');
const HEAD = 'iris.sealed/head';

describe('models from S3', () => {
  it('are what the AWS SDK put there, under bucket, prefix, model and file', async () => {
    const s3 = await startSimulatedS3({
      region: REGION,
      buckets: [BUCKET],
      principals: [CREDENTIALS],
      now: () => new Date(),
    });
    const client = new S3Client({
      region: REGION,
      endpoint: s3.endpoint,
      forcePathStyle: true,
      credentials: { ...CREDENTIALS, expiration: new Date(CREDENTIALS.expiration) },
      requestChecksumCalculation: 'WHEN_REQUIRED',
    });
    for (const [prefix, key] of [
      [undefined, HEAD],
      ["year=2026/it's (one)", `year=2026/it's (one)/${HEAD}`],
    ]) {
      const found = `found under ${prefix}`;
      await client.send(new PutObjectCommand({ Bucket: BUCKET, Key: String(key), Body: found }));
      const config = { kind: 's3' as const, bucket: BUCKET, region: REGION, endpoint: s3.endpoint };
      await using asking = await ask({ ...config, ...(prefix !== undefined && { prefix }) });
      expect(Buffer.from(await asking.host.fetchModelFile('iris', 'head', 100)).toString()).toBe(found);
    }
    client.destroy();
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
