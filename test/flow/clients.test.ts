/**
 * Clients with certificates, as docs/deployment.md section 4, docs/deny-list.md and docs/certificates.md tell it: a CA
 * and certificates from the command line, an enclave that serves one trust domain, renewal in the middle of load, and a
 * certificate that is denied while it is in use.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { cp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connect } from '../../client/connect.ts';
import type { VerifiedEnclave } from '../../client/verified-enclave.ts';
import { pcrsOf, prepareRelease, type Release } from '../../scripts/local/release.ts';
import { main } from '../../scripts/strongroom.ts';
import type { LocalInstance } from '../../simulator/local-instance.ts';
import type { LocalStack } from '../../simulator/local-stack.ts';
import { MODEL, onnx, startStack } from './support.ts';

const TRUST_DOMAIN = 'models.example.org';
const BODY = JSON.stringify({
  inputs: [{ name: 'measurements', datatype: 'FP32', shape: [1, 4], data: [5.1, 3.5, 1.4, 0.2] }],
});
/** A deny list arrives within ten seconds. */
const ARRIVAL = { timeout: 30_000, interval: 200 };

let folder: string;
let stack: LocalStack;
let release: Release;
let instance: LocalInstance;
/** What parent and enclave say. */
const said: string[] = [];

const at = (...names: string[]): string => join(folder, ...names);
const text = (...names: string[]): string => readFileSync(at(...names), 'utf8');

async function strongroom(...args: string[]): Promise<void> {
  let said = '';
  const sink = new Writable({
    write: (chunk, _encoding, done) => {
      said += chunk;
      done();
    },
  });
  const io = { stdin: process.stdin, stdout: sink, stderr: sink, signal: new AbortController().signal };
  expect(await main(args, io), said).toBe(0);
}

const issue = (name: string, client: string): Promise<void> =>
  strongroom('cert', 'issue', '--ca', at('ca'), '--client', client, '--hours', '12', '-o', at(name));
const deny = (...args: string[]): Promise<void> =>
  strongroom('deny-list', 'sign', at('deny-list.json'), '--key', at('signing.key.pem'), ...args);

function enclaveFor(name: string | undefined, reverifyAfterMs?: number): Promise<VerifiedEnclave> {
  const files = { certFile: at(name ?? '', 'certificate.pem'), keyFile: at(name ?? '', 'key.pem') };
  return connect(
    instance.url,
    { pcrs: pcrsOf(stack, release.deployment), simulationRoot: stack.attestationRoot },
    {
      ...(name === undefined ? {} : { clientCertificate: files }),
      ...(reverifyAfterMs === undefined ? {} : { reverifyAfterMs }),
      connections: 4,
    },
  );
}

const ask = (enclave: VerifiedEnclave): Promise<Response> =>
  enclave.fetch(`/v2/models/${MODEL}/infer`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: BODY,
  });

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'strongroom-clients-'));
  await strongroom('cert', 'ca', '--permit', `spiffe://${TRUST_DOMAIN}`, '-o', at('ca'));
  await issue('app-1', `spiffe://${TRUST_DOMAIN}/app-1`);
  await issue('app-2', `spiffe://${TRUST_DOMAIN}/app-2`);
  await strongroom('keygen', '--only', 'signing', '-o', folder);
  await deny();
  stack = await startStack();
  release = await prepareRelease(
    stack,
    { name: MODEL, version: 1, onnx },
    {
      ca: text('ca', 'certificate.pem'),
      allowed: [
        { spiffe: `spiffe://${TRUST_DOMAIN}/app-1` },
        { spiffe: `spiffe://${TRUST_DOMAIN}/app-2`, limits: { requestsPerMinute: 60 } },
      ],
      maxCertificateHours: 24,
      denyList: { signer: text('signing.pub.pem') },
    },
  );
  const { deployment, modelsFolder } = release;
  instance = await stack.startInstance({
    deployment,
    modelsFolder,
    denyList: at('deny-list.json'),
    onLine: (_from, line) => said.push(line),
  });
  await instance.serving;
}, 120_000);
afterAll(async () => {
  await stack?.close();
  rmSync(folder, { recursive: true, force: true });
});

describe('an enclave with named clients', { timeout: 120_000 }, () => {
  it('serves them, and tells others why it does not', async () => {
    await using enclave = await enclaveFor('app-1');
    expect((await ask(enclave)).status).toBe(200);
    await expect(enclaveFor(undefined)).rejects.toMatchObject({ code: 'CLIENT_CERTIFICATE_REQUIRED' });
    await issue('app-3', `spiffe://${TRUST_DOMAIN}/app-3`);
    await expect(enclaveFor('app-3')).rejects.toThrow(/CALLER_NOT_ALLOWED/);
    await strongroom('cert', 'ca', '--permit', `spiffe://${TRUST_DOMAIN}`, '-o', at('other-ca'));
    const foreign = ['--client', `spiffe://${TRUST_DOMAIN}/app-1`, '--hours', '12', '-o', at('foreign')];
    await strongroom('cert', 'issue', '--ca', at('other-ca'), ...foreign);
    await expect(enclaveFor('foreign')).rejects.toThrow(/CALLER_CERTIFICATE_UNTRUSTED/);
    const long = ['--client', `spiffe://${TRUST_DOMAIN}/app-1`, '-o', at('long')];
    await strongroom('cert', 'issue', '--ca', at('ca'), ...long);
    await expect(enclaveFor('long')).rejects.toThrow(/CALLER_CERTIFICATE_UNUSABLE/);
  });

  it('holds one client to its limit, and not the other', async () => {
    await using limited = await enclaveFor('app-2');
    await using free = await enclaveFor('app-1');
    const answers = await Promise.all(Array.from({ length: 20 }, () => ask(limited)));
    const [refused] = answers.filter(({ status }) => status === 429);
    expect(Number(refused?.headers.get('retry-after'))).toBeGreaterThan(0);
    expect(await refused?.json()).toMatchObject({ code: 'CALLER_LIMIT' });
    expect((await Promise.all(Array.from({ length: 20 }, () => ask(free)))).every(({ ok }) => ok)).toBe(true);
  });

  it('drops nothing when a client renews in the middle of load, nor when its old certificate and another client are denied', async () => {
    await cp(at('app-1'), at('before'), { recursive: true, verbatimSymlinks: true });
    await using other = await enclaveFor('app-2');
    await using enclave = await enclaveFor('app-1', 1_000);
    let [answered, loaded] = [0, true];
    const load = Array.from({ length: 4 }, async () => {
      while (loaded) {
        const response = await ask(enclave);
        await response.arrayBuffer();
        expect(response.status).toBe(200);
        answered += 1;
      }
    });
    const loads = Promise.all(load);
    loads.catch(() => {});
    const more = async (): Promise<void> => {
      const before = answered;
      await expect.poll(() => answered, { timeout: 30_000 }).toBeGreaterThan(before + 50);
    };
    await more();
    for (let round = 0; round < 3; round++) {
      await strongroom('cert', 'renew', at('app-1'), '--ca', at('ca'), '--within', '30');
      await enclave.verify();
      await more();
    }
    // Requests that began before the last look at the files have ended by now.
    await sleep(1_500);
    await deny('--deny-certificate', at('before'), '--deny', `spiffe://${TRUST_DOMAIN}/app-2`);
    await expect
      .poll(
        () =>
          enclaveFor('before').then(
            (one) => one.close(),
            ({ message }) => message,
          ),
        ARRIVAL,
      )
      .toMatch(/CALLER_DENIED/);
    // The end of its old connection may still be on its way.
    await expect
      .poll(
        () =>
          ask(other).then(
            ({ status }) => status,
            ({ message }) => message,
          ),
        ARRIVAL,
      )
      .toMatch(/CALLER_DENIED/);
    await more();
    loaded = false;
    await loads;
  });

  it('says of clients and certificates nothing to anybody', () => {
    expect(said.length).toBeGreaterThan(0);
    expect(said.join('\n') + instance.console).not.toMatch(/spiffe|app-[123]|CALLER_/);
  });
});
