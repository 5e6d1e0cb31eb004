/** Whatever the host puts into environment and home, the enclave's KMS client does what its code says. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { serveHypervisorSocket } from '../../../simulator/nsm/socket-server.ts';
import type { Outcome, Task } from './hostile-process.ts';
import { type Impostor, startImpostor } from './impostor.ts';
import { CONTEXT, type ReleaseStand, startReleaseStand } from './support.ts';

const ROOT = join(import.meta.dirname, '..', '..', '..');
const PROGRAM = join(import.meta.dirname, 'hostile-process.ts');

let folder: string;
let at: ReleaseStand;
let impostor: Impostor;
let nsm: Awaited<ReturnType<typeof serveHypervisorSocket>>;
/** A port that nobody has a reason to connect to. */
let trap: Server;
let trapped = 0;
let address: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'strongroom-environment-'));
  at = await startReleaseStand();
  impostor = await startImpostor();
  nsm = await serveHypervisorSocket(join(folder, 'nsm.sock'), {
    nsm: (request) => at.nsm.handle(request),
    reached: async () => {},
  });
  trap = createServer((socket) => {
    trapped += 1;
    socket.destroy();
  }).listen(0, '127.0.0.1');
  await once(trap, 'listening');
  address = `127.0.0.1:${(trap.address() as { port: number }).port}`;
  mkdirSync(join(folder, '.aws'));
  writeFileSync(join(folder, 'impostor.pem'), impostor.tls.caCertificatePem);
  writeFileSync(join(folder, 'token'), 'a token');
  writeFileSync(
    join(folder, '.aws', 'config'),
    ['default', 'profile none', 'profile hostile']
      .flatMap((section) => [
        `[${section}]`,
        'region = us-east-1',
        `endpoint_url = http://${address}`,
        'services = hostile',
        `ca_bundle = ${join(folder, 'impostor.pem')}`,
        'use_fips_endpoint = true',
        'use_dualstack_endpoint = true',
        'retry_mode = adaptive',
        'max_attempts = 1',
        'defaults_mode = mobile',
        `credential_process = touch ${join(folder, 'ran')}`,
      ])
      .concat('[services hostile]', 'kms =', `  endpoint_url = http://${address}`, '')
      .join('\n'),
  );
  writeFileSync(
    join(folder, '.aws', 'credentials'),
    '[elsewhere]\naws_access_key_id = AKIAHOSTILE\naws_secret_access_key = hostile\n',
  );
});
beforeEach(() => {
  trapped = 0;
});
afterAll(async () => {
  trap.close();
  await nsm.close();
  await impostor[Symbol.asyncDispose]();
  await at.close();
  rmSync(folder, { recursive: true });
});

/** Every variable that some file of the AWS SDK names, so that a later SDK's new ones are among them. */
function variablesOfTheSdk(): string[] {
  const found = new Set<string>();
  for (const scope of ['@aws-sdk', '@smithy']) {
    const base = join(ROOT, 'node_modules', scope);
    for (const name of readdirSync(base, { recursive: true, encoding: 'utf8' })) {
      if (!/dist-cjs\/.*\.js$/.test(name)) continue;
      for (const [word] of readFileSync(join(base, name), 'utf8').matchAll(/\bAWS_[A-Z0-9_]+\b/g)) {
        found.add(word);
      }
    }
  }
  return [...found].sort();
}

function hostile(): Record<string, string> {
  const url = `http://${address}`;
  return {
    ...Object.fromEntries(variablesOfTheSdk().map((name) => [name, 'hostile'])),
    AWS_ENDPOINT_URL: url,
    AWS_ENDPOINT_URL_KMS: url,
    AWS_PROFILE: 'hostile',
    AWS_DEFAULT_PROFILE: 'hostile',
    AWS_SDK_LOAD_CONFIG: '1',
    AWS_CONFIG_FILE: join(folder, '.aws', 'config'),
    AWS_SHARED_CREDENTIALS_FILE: join(folder, '.aws', 'credentials'),
    AWS_REGION: 'us-east-1',
    AWS_DEFAULT_REGION: 'us-east-1',
    AWS_USE_FIPS_ENDPOINT: 'true',
    AWS_USE_DUALSTACK_ENDPOINT: 'true',
    AWS_CA_BUNDLE: join(folder, 'impostor.pem'),
    AWS_RETRY_MODE: 'adaptive',
    AWS_MAX_ATTEMPTS: '1',
    AWS_DEFAULTS_MODE: 'mobile',
    AWS_AUTH_SCHEME_PREFERENCE: 'httpBearerAuth',
    AWS_BEARER_TOKEN_KMS: 'hostile',
    AWS_ROLE_ARN: 'arn:aws:iam::999999999999:role/Hostile',
    AWS_WEB_IDENTITY_TOKEN_FILE: join(folder, 'token'),
    AWS_CONTAINER_CREDENTIALS_FULL_URI: `${url}/credentials`,
    AWS_EC2_METADATA_SERVICE_ENDPOINT: url,
    AWS_EC2_METADATA_DISABLED: 'false',
    AWS_IGNORE_CONFIGURED_ENDPOINT_URLS: 'false',
    HTTP_PROXY: url,
    HTTPS_PROXY: url,
    ALL_PROXY: url,
    http_proxy: url,
    https_proxy: url,
    all_proxy: url,
    NO_PROXY: '',
    NODE_USE_ENV_PROXY: '1',
    NODE_EXTRA_CA_CERTS: join(folder, 'impostor.pem'),
    NODE_TLS_REJECT_UNAUTHORIZED: '0',
    NODE_OPTIONS: '--use-openssl-ca',
    SSL_CERT_FILE: join(folder, 'impostor.pem'),
    SSL_CERT_DIR: folder,
  };
}

/** Credentials that the environment names come first in a provider chain and hide the endpoints behind them. */
function without(...names: readonly string[]): Record<string, string> {
  return Object.fromEntries(Object.entries(hostile()).filter(([name]) => !names.includes(name)));
}
const KEYS = ['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY', 'AWS_SESSION_TOKEN', 'AWS_CREDENTIAL_EXPIRATION'];
const FILES = ['AWS_PROFILE', 'AWS_DEFAULT_PROFILE', 'AWS_CONFIG_FILE', 'AWS_SHARED_CREDENTIALS_FILE'];
const TOKENS = ['AWS_ROLE_ARN', 'AWS_WEB_IDENTITY_TOKEN_FILE', 'AWS_BEARER_TOKEN_KMS'];
const CONTAINER = ['AWS_CONTAINER_CREDENTIALS_FULL_URI', 'AWS_CONTAINER_CREDENTIALS_RELATIVE_URI'];

async function run(environment: Record<string, string>, change: Partial<Task> = {}): Promise<Outcome> {
  const child = spawn(process.execPath, [PROGRAM], {
    env: { HOME: folder, PATH: process.env.PATH ?? '', ...environment },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  const task: Task = {
    as: 'enclave',
    port: at.stand.kms.port,
    roots: [at.stand.kms.caCertificatePem],
    nsmSocket: join(folder, 'nsm.sock'),
    keyArn: at.key.arn,
    ciphertextBlob: Buffer.from(at.ciphertextBlob).toString('base64'),
    encryptionContext: CONTEXT,
    ...change,
  };
  child.stdin.end(JSON.stringify(task));
  const [output, errors] = await Promise.all([text(child.stdout), text(child.stderr)]);
  if (output === '') throw new Error(errors);
  return JSON.parse(output) as Outcome;
}

const ENVIRONMENTS: readonly [string, () => Record<string, string>][] = [
  ['everything hostile', () => hostile()],
  ['a web identity in the environment', () => without(...KEYS, ...FILES)],
  ['a container credentials endpoint', () => without(...KEYS, ...FILES, ...TOKENS)],
  ['an instance metadata endpoint', () => without(...KEYS, ...FILES, ...TOKENS, ...CONTAINER)],
  ['shared files in HOME alone', () => ({})],
];

describe('releasing a data key in an environment of the host’s making', () => {
  it('finds the variables of the SDK at all', () => {
    expect(variablesOfTheSdk().length).toBeGreaterThan(30);
    expect(variablesOfTheSdk()).toContain('AWS_CONTAINER_CREDENTIALS_FULL_URI');
  });

  it.each(ENVIRONMENTS)(
    '%s: goes to the one host, with the credentials given, and to nobody else',
    async (_name, of) => {
      const before = at.stand.records.length;
      const outcome = await run(of());
      expect(outcome.code).toBeUndefined();
      expect(Buffer.from(outcome.dataKey ?? '', 'base64').equals(at.dataKey)).toBe(true);
      expect(outcome.contacted).toEqual([
        `127.0.0.1:${at.stand.kms.port}`,
        'tunnel kms.eu-central-1.amazonaws.com:443',
      ]);
      expect(outcome.opened.filter((path) => path.startsWith(folder))).toEqual([]);
      expect(outcome.started).toEqual([]);
      expect(trapped).toBe(0);
      expect(existsSync(join(folder, 'ran'))).toBe(false);

      const records = at.stand.records.slice(before);
      expect(records).toHaveLength(1);
      expect(records[0]).toMatchObject({
        eventName: 'Decrypt',
        awsRegion: 'eu-central-1',
        userIdentity: { sessionContext: { sessionIssuer: { arn: expect.stringContaining('EnclaveHost') } } },
        tlsDetails: { clientProvidedHostHeader: 'kms.eu-central-1.amazonaws.com' },
      });
      expect(String(records[0]?.userAgent)).toMatch(/^strongroom\b/);
      expect(JSON.stringify(records[0]).includes('hostile')).toBe(false);
    },
  );

  it.each(ENVIRONMENTS)('%s: leads an ordinary client astray', async (_name, of) => {
    const outcome = await run(of(), { as: 'ordinary client' });
    expect(outcome.dataKey).toBeUndefined();
    expect(trapped + outcome.started.length).toBeGreaterThan(0);
    rmSync(join(folder, 'ran'), { force: true });
  });

  it('waits out throttling as its code says, not as AWS_RETRY_MODE and AWS_MAX_ATTEMPTS say', async () => {
    at.stand.kms.faults.inject(
      { kind: 'error', name: 'ThrottlingException' },
      { operation: 'Decrypt', times: 2 },
    );
    expect((await run(hostile())).code).toBeUndefined();
  });

  it('refuses a KMS under the CA that every variable tells it to trust, or not to check', async () => {
    const outcome = await run(hostile(), { port: impostor.port });
    expect(outcome.code).toBe('KMS_UNAVAILABLE');
    expect(impostor.requests()).toBe(0);
  });
});
