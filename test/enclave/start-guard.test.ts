import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ENCLAVE_ENVIRONMENT, ENCLAVE_NODE_FLAGS, ENGINE_NODE_FLAGS } from '../../enclave/start-guard.ts';

const guard = join(import.meta.dirname, '..', '..', 'enclave', 'start-guard.ts');
let folder: string;
let script: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'strongroom-guard-'));
  writeFileSync(join(folder, 'preload.mjs'), '');
  script = join(folder, 'main.mts');
  writeFileSync(
    script,
    `import { refuseUnsafeEngineStart, refuseUnsafeStart } from ${JSON.stringify(guard)};
    try {
      if (import.meta.url.includes('engine')) refuseUnsafeEngineStart();
      else refuseUnsafeStart();
      console.log('started ' + process.umask().toString(8));
    } catch (error) { console.log(error.code + ' ' + error.message); }`,
  );
  writeFileSync(
    join(folder, 'engine.mts'),
    `import { refuseUnsafeEngineStart } from ${JSON.stringify(guard)};
    try { refuseUnsafeEngineStart(); console.log('started'); } catch (error) { console.log(error.code); }`,
  );
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** What a real process says that was started in this way. */
async function started(options: {
  readonly flags?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  readonly arguments?: readonly string[];
  readonly file?: string;
}): Promise<string> {
  const { flags = ENCLAVE_NODE_FLAGS, environment = ENCLAVE_ENVIRONMENT, file = script } = options;
  const child = spawn(process.execPath, [...flags, file, ...(options.arguments ?? [])], {
    cwd: folder,
    env: environment,
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => {
    output += chunk.toString();
  });
  await new Promise((resolve) => child.once('close', resolve));
  return output.trim();
}

describe('a start of the enclave process', () => {
  it('goes on with exactly its flags and its environment, and a strict umask', async () => {
    expect(await started({})).toBe('started 77');
  });

  it.each([
    '--inspect=127.0.0.1:0',
    '--inspect-port=0',
    '--require=./preload.mjs',
    '--import=./preload.mjs',
    '--experimental-loader=./preload.mjs',
    '--env-file-if-exists=.env',
    '--report-on-fatalerror',
    '--report-on-signal',
    '--report-uncaught-exception',
    '--heapsnapshot-signal=SIGUSR2',
    '--heapsnapshot-near-heap-limit=1',
    '--cpu-prof',
    '--heap-prof',
    '--prof',
    '--trace-events-enabled',
    '--abort-on-uncaught-exception',
    '--experimental-permission',
    '--tls-keylog=keys.log',
    '--tls-min-v1.0',
    '--use-openssl-ca',
    '--expose-internals',
    '--allow-natives-syntax',
    '--secure-heap-min=2',
  ])('is refused with the flag %s', async (flag) => {
    const [file, ...rest] = (await started({ flags: [...ENCLAVE_NODE_FLAGS, flag] })).split(' ');
    // A Node that does not even know the flag refuses by itself.
    expect(['START_FLAGS', '']).toContain(file);
    expect(rest.join(' ')).not.toContain('started');
  });

  it.each(ENCLAVE_NODE_FLAGS)('is refused without the flag %s', async (flag) => {
    expect(await started({ flags: ENCLAVE_NODE_FLAGS.filter((other) => other !== flag) })).toMatch(
      /^START_FLAGS /,
    );
  });

  it.each([
    'NODE_OPTIONS',
    'NODE_EXTRA_CA_CERTS',
    'NODE_TLS_REJECT_UNAUTHORIZED',
    'NODE_DEBUG',
    'NODE_PATH',
    'SSLKEYLOGFILE',
    'SSL_CERT_FILE',
    'OPENSSL_CONF',
    'LD_LIBRARY_PATH',
    'UV_THREADPOOL_SIZE',
    'AWS_ACCESS_KEY_ID',
    'AWS_PROFILE',
    'AWS_ENDPOINT_URL',
    'HTTPS_PROXY',
    'https_proxy',
    'CI',
    'HOME',
    '__proto__',
  ])('is refused with %s in the environment, and its value is not repeated', async (name) => {
    const environment = { ...ENCLAVE_ENVIRONMENT, ...JSON.parse(`{"${name}":""}`) };
    Object.defineProperty(environment, name, { value: '', enumerable: true });
    const output = await started({ environment });
    expect(output).toMatch(/^START_ENVIRONMENT unexpected variable /);
  });

  it('does not repeat the value of what it refuses', async () => {
    const output = await started({ environment: { ...ENCLAVE_ENVIRONMENT, SECRET: 'hunter2' } });
    expect(output).toBe('START_ENVIRONMENT unexpected variable SECRET');
  });

  it('is refused with the telemetry of the engine on', async () => {
    expect(await started({ environment: {} })).toMatch(/^START_ENVIRONMENT /);
    const environment = { ...ENCLAVE_ENVIRONMENT, ORT_DISABLE_TELEMETRY: '0' };
    expect(await started({ environment })).toMatch(/^START_ENVIRONMENT /);
  });

  it('is refused with any PATH but its own, and without one', async () => {
    const { PATH, ...without } = ENCLAVE_ENVIRONMENT;
    expect(PATH).toBe('/usr/bin');
    expect(await started({ environment: without })).toMatch(/^START_ENVIRONMENT expected PATH=/);
    const other = { ...without, PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' };
    expect(await started({ environment: other })).toBe('START_ENVIRONMENT expected PATH=/usr/bin');
  });

  it('is refused with arguments', async () => {
    expect(await started({ arguments: ['--debug'] })).toMatch(/^START_ARGUMENTS /);
  });

  it('is refused with an inspector that a flag did not open', async () => {
    const file = join(folder, 'inspected.mts');
    writeFileSync(
      file,
      `import { open } from 'node:inspector';
      import { refuseUnsafeStart } from ${JSON.stringify(guard)};
      open(0, '127.0.0.1');
      try { refuseUnsafeStart(); console.log('started'); } catch (error) { console.log(error.code); }
      process.exit();`,
    );
    expect(await started({ file })).toBe('START_INSPECTOR');
  });
});

describe("a start of an engine's process", () => {
  it('goes on with exactly its flags', async () => {
    expect(await started({ flags: ENGINE_NODE_FLAGS, file: join(folder, 'engine.mts') })).toBe('started');
  });

  it('is refused with others', async () => {
    const file = join(folder, 'engine.mts');
    expect(await started({ flags: [...ENGINE_NODE_FLAGS, '--cpu-prof'], file })).toBe('START_FLAGS');
    expect(await started({ flags: ENGINE_NODE_FLAGS, environment: { CI: '1' }, file })).toBe(
      'START_ENVIRONMENT',
    );
  });
});
