/**
 * What servers under the one TLS profile take, as tools of other people see it: `openssl s_client`, and testssl.sh
 * (skipped where that is missing). The enclave's own end, and a registry that asks for client certificates.
 */
import { execFile, spawnSync } from 'node:child_process';
import { createPrivateKey, type KeyObject, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createServer as createHttpsServer } from 'node:https';
import { type AddressInfo, createServer as createTcpServer, type Server } from 'node:net';
import { join } from 'node:path';
import type { TLSSocket } from 'node:tls';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createTlsIdentity } from '../../enclave/tls-identity.ts';
import { permittedName } from '../../owner/certificates/constraints.ts';
import { createCa, type Holder } from '../../owner/certificates/issue.ts';
import { TLS_PROFILE } from '../../shared/tls-profile.ts';
import { SERIAL_BYTES } from '../../shared/x509/write.ts';
import { opensslIsAbsent, type Workshop, workshop } from '../owner/certificates/support.ts';
import { serveForTest, type TestServer } from '../support/serving.ts';

const TESTSSL = ['testssl', 'testssl.sh'].find((name) => spawnSync(name, ['--version']).status === 0);
const DAY_MS = 24 * 3600 * 1000;
const DOMAIN = 'models.example.org';
/** The options below that an end without the profile takes: all but those that its key cannot sign. */
const SPOKEN_BY_OTHERS = -2;
const LAX_CIPHERS = 'ALL:TLS_AES_128_GCM_SHA256:TLS_AES_128_CCM_SHA256:TLS_AES_256_GCM_SHA384:@SECLEVEL=0';
const LAX_GROUPS = 'P-384:P-521:X448:ffdhe2048:X25519';
const CLIENT = `spiffe://${DOMAIN}/client`;

interface World {
  readonly at: Workshop;
  readonly ca: Holder;
  readonly registry: Server;
  /** Takes every client and answers why the registry would not. */
  readonly witness: Server;
  readonly enclave: TestServer;
  readonly ports: { readonly registry: number; readonly enclave: number };
}
let world: World;

beforeAll(async () => {
  const at = await workshop();
  const ca = await at.ca('ca', ['127.0.0.1', `spiffe://${DOMAIN}`]);
  const server = await at.server(ca, 'registry', ['127.0.0.1']);
  const tls = {
    ...TLS_PROFILE,
    cert: await readFile(join(server.folder, 'certificate.pem')),
    key: await readFile(join(server.folder, 'key.pem')),
    ca: ca.certificate.toString(),
    requestCert: true,
  };
  const registry = createHttpsServer({ ...tls, rejectUnauthorized: true }, (_request, response) =>
    response.writeHead(200, { connection: 'close' }).end('a file'),
  );
  const witness = createHttpsServer({ ...tls, rejectUnauthorized: false }, (request, response) => {
    const { authorized, authorizationError } = request.socket as TLSSocket;
    response.end(authorized ? 'authorized' : String(authorizationError));
  });
  await new Promise<void>((resolve) => witness.listen(0, '127.0.0.1', resolve));
  registry.on('tlsClientError', (_error, socket) => socket.destroy());
  await new Promise<void>((resolve) => registry.listen(0, '127.0.0.1', resolve));
  let enclavePort = 0;
  const enclave = await serveForTest({
    models: [],
    listen: async (onConnection) => {
      const tcp = createTcpServer({ allowHalfOpen: true }, onConnection);
      tcp.listen(0, '127.0.0.1');
      await once(tcp, 'listening');
      enclavePort = (tcp.address() as AddressInfo).port;
      return { close: async () => void tcp.close() };
    },
  });
  const ports = { registry: portOf(registry), enclave: enclavePort };
  world = { at, ca, registry, witness, enclave, ports };
});

const portOf = (server: Server) => (server.address() as AddressInfo).port;

afterAll(async () => {
  world.registry.close();
  world.witness.close();
  await world.enclave[Symbol.asyncDispose]();
  await world.at[Symbol.asyncDispose]();
});

/** The answer to a request, or why there is none, in openssl's words. */
async function ask(port: number, options: readonly string[]): Promise<string> {
  const args = ['s_client', '-quiet', '-no_ign_eof', '-connect', `127.0.0.1:${port}`, ...options];
  return new Promise((resolve) => {
    const child = execFile('openssl', args, { timeout: 60_000 }, (_error, stdout, stderr) =>
      resolve(stdout + stderr),
    );
    // It may have gone before it has read all.
    child.stdin?.on('error', () => {});
    child.stdin?.write('GET /v2/health/live HTTP/1.1\r\nHost: e\r\nConnection: close\r\n\r\n');
  });
}

const files = (folder: string) => ['-cert', join(folder, 'certificate.pem'), '-key', join(folder, 'key.pem')];

describe.skipIf(opensslIsAbsent)('openssl s_client (skipped where openssl is missing)', () => {
  let client: readonly string[] = [];
  beforeAll(async () => {
    client = files((await world.at.client(world.ca, 'client', CLIENT)).folder);
  });

  const taken = [
    [],
    ['-ciphersuites', 'TLS_AES_256_GCM_SHA384'],
    ['-ciphersuites', 'TLS_CHACHA20_POLY1305_SHA256'],
    ['-groups', 'X25519'],
    ['-groups', 'P-256'],
  ];
  const old = ['-cipher', 'ALL:@SECLEVEL=0'];
  const refused = [
    ['-tls1_2', ...old],
    ['-tls1_1', ...old],
    ['-tls1', ...old],
    ['-no_tls1_3'],
    ['-ciphersuites', 'TLS_AES_128_GCM_SHA256'],
    ['-ciphersuites', 'TLS_AES_128_CCM_SHA256'],
    ['-groups', 'P-384'],
    ['-groups', 'P-521'],
    ['-groups', 'X448'],
    ['-groups', 'ffdhe2048'],
    ['-sigalgs', 'ecdsa_secp521r1_sha512'],
    ['-sigalgs', 'ECDSA+SHA1'],
  ];
  for (const end of ['registry', 'enclave'] as const) {
    it.each(taken.map((options) => [options]))(`is served by the ${end} with %j`, async (options) => {
      expect(await ask(world.ports[end], [...client, ...options])).toContain('HTTP/1.1 200');
    });

    it.each(refused.map((options) => [options]))(`is refused by the ${end} with %j`, async (options) => {
      const answer = await ask(world.ports[end], [...client, ...options]);
      expect(answer).not.toContain('HTTP/1.1');
      expect(answer).toMatch(/:error:|errno/);
    });
  }

  it.each(refused.slice(0, SPOKEN_BY_OTHERS).map((options) => [options]))(
    'does speak what is refused here, to a server without the profile: %j',
    async (options) => {
      const { certificatePem, key } = createTlsIdentity(new Date(), randomBytes(SERIAL_BYTES));
      const lax = createHttpsServer(
        {
          cert: certificatePem,
          key: Buffer.from(key),
          minVersion: 'TLSv1',
          ciphers: LAX_CIPHERS,
          ecdhCurve: LAX_GROUPS,
        },
        (_request, response) => response.end(),
      );
      lax.listen(0, '127.0.0.1');
      await once(lax, 'listening');
      try {
        expect(await ask(portOf(lax), options)).toContain('HTTP/1.1 200');
      } finally {
        lax.close();
      }
    },
  );

  it('is refused by the registry without a client certificate', async () => {
    expect(await ask(world.ports.registry, [])).not.toContain('HTTP/1.1');
    expect(await ask(portOf(world.witness), client)).toContain('\nauthorized');
  });

  const wrong: readonly (readonly [string, string, (at: Workshop) => Promise<string>])[] = [
    [
      'another CA’s, of the same names',
      'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
      async (at) => {
        const other = await at.ca('other-ca', ['127.0.0.1', `spiffe://${DOMAIN}`]);
        return (await at.client(other, 'other', CLIENT)).folder;
      },
    ],
    [
      'a server’s',
      'INVALID_PURPOSE',
      async (at) => (await at.server(world.ca, 'as-server', ['127.0.0.1'])).folder,
    ],
    [
      'an expired one',
      'CERT_HAS_EXPIRED',
      async (at) => {
        const made = { at: new Date(Date.now() - 3 * DAY_MS), days: 2 };
        return (await at.client(world.ca, 'expired', CLIENT, made)).folder;
      },
    ],
    [
      'one that is not valid yet',
      'CERT_NOT_YET_VALID',
      async (at) => {
        const made = { at: new Date(Date.now() + 2 * DAY_MS), days: 2 };
        return (await at.client(world.ca, 'early', CLIENT, made)).folder;
      },
    ],
    [
      'a name that the CA may not vouch for',
      'UNSPECIFIED', // Node has no name for OpenSSL's "permitted subtree violation"
      async (at) => {
        // A CA of the same key and name without constraints: what the thief of a CA's key would use.
        const thief = await thiefOf(at, world.ca);
        return (await at.client(thief, 'stolen', 'spiffe://example.com/client')).folder;
      },
    ],
  ];
  it.each(wrong)(
    'is refused by the registry with a client certificate that is %s',
    async (_what, why, make) => {
      const shown = files(await make(world.at));
      expect(await ask(world.ports.registry, shown)).not.toContain('HTTP/1.1');
      expect(await ask(portOf(world.witness), shown)).toContain(`\n${why}`);
    },
  );
});

/** Signs with the CA's key and name what the CA's own certificate forbids. */
async function thiefOf(at: Workshop, ca: Holder): Promise<Holder> {
  const name = ca.certificate.subject.replace(/^CN=/, '');
  const permitted = [permittedName('spiffe://example.com')];
  const { certificate } = createCa({ at: new Date(), days: 1000, curve: 'P-384', name, permitted });
  const key: KeyObject = createPrivateKey(await readFile(join(at.folder, 'ca', 'key.pem')));
  return { certificate, key };
}

describe.skipIf(TESTSSL === undefined)('testssl.sh (skipped where testssl.sh is missing)', () => {
  it('finds TLS 1.3 with the two suites and nothing else, at both ends', { timeout: 600_000 }, async () => {
    for (const [end, port] of Object.entries(world.ports)) {
      const json = join(world.at.folder, `${end}.json`);
      const options = [
        '--quiet',
        '--color',
        '0',
        '--warnings',
        'off',
        '--ip',
        'one',
        '--jsonfile',
        json,
        '-p',
        '-E',
      ];
      await promisify(execFile)(String(TESTSSL), [...options, `127.0.0.1:${port}`], {
        timeout: 500_000,
      }).catch(
        () => {}, // its exit code counts findings
      );
      const found = JSON.parse(await readFile(json, 'utf8')) as {
        id: string;
        severity: string;
        finding: string;
      }[];
      const findings = Object.fromEntries(found.map(({ id, finding }) => [id, finding]));
      const versions = {
        SSLv2: 'not offered',
        SSLv3: 'not offered',
        TLS1: 'not offered',
        TLS1_1: 'not offered',
      };
      expect(findings, end).toMatchObject({
        ...versions,
        TLS1_2: 'not offered',
        TLS1_3: 'offered with final',
      });
      const suites = Object.keys(findings).filter((id) => id.startsWith('cipher'));
      // RFC 8446 B.4: TLS_AES_256_GCM_SHA384 and TLS_CHACHA20_POLY1305_SHA256.
      expect(suites.toSorted(), end).toEqual(['cipher-tls1_3_x1302', 'cipher-tls1_3_x1303']);
    }
  });
});
