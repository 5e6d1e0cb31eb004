import { once } from 'node:events';
import { globSync, readFileSync } from 'node:fs';
import { type IncomingHttpHeaders, request } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { METRIC_FAMILIES } from '../../parent/admin/metric-table.ts';
import { type RunningAdmin, startAdmin } from '../../parent/admin/server.ts';
import type { AdminSources, AdminState } from '../../parent/admin/sources.ts';
import { eventually, readAll } from './setup.ts';

const ROOT = join(import.meta.dirname, '..', '..');
const KMS = 'kms.eu-central-1.amazonaws.com:443';

let state: AdminState;
let live: () => Promise<boolean>;
let counters: Record<string, number>;
let sources: AdminSources;
let admin: RunningAdmin;

beforeEach(async () => {
  state = {
    accepting: true,
    draining: false,
    enclave: 'running',
    restarts: 0,
    credentialsExpireAt: undefined,
    denyListExpiresAt: undefined,
    destinations: [KMS],
  };
  live = async () => true;
  counters = {};
  sources = { live: () => live(), state: () => state, counters: () => counters };
  admin = await startAdmin({ host: '127.0.0.1', port: 0 }, sources);
});
afterEach(() => admin.close());

interface Got {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

async function ask(path: string, options: { method?: string; host?: string } = {}): Promise<Got> {
  const { port } = admin.address;
  const sent = request({
    host: '127.0.0.1',
    port,
    path,
    method: options.method ?? 'GET',
    headers: { host: options.host ?? `127.0.0.1:${port}` },
    agent: false,
  });
  sent.end();
  const [response] = await once(sent, 'response');
  let body = '';
  for await (const chunk of response) body += chunk;
  return { status: response.statusCode, headers: response.headers, body };
}

async function raw(bytes: string): Promise<string> {
  const socket = connect({ host: '127.0.0.1', port: admin.address.port });
  socket.write(bytes);
  return (await readAll(socket)).toString();
}

/** The value of one sample, or undefined if the page has none. */
async function sample(series: string): Promise<number | undefined> {
  const { body } = await ask('/metrics');
  const line = body.split('\n').find((text) => text.startsWith(`${series} `));
  return line === undefined ? undefined : Number(line.slice(series.length + 1));
}

describe('/healthz', () => {
  it('is 200 as long as the parent works, whatever the enclave does', async () => {
    live = async () => false;
    state = { ...state, enclave: 'stopped', draining: true };
    expect(await ask('/healthz')).toMatchObject({ status: 200, body: '{"healthy":true}\n' });
  });
});

describe('/readyz', () => {
  it('is 200 when the enclave lives and callers are taken', async () => {
    expect(await ask('/readyz')).toMatchObject({ status: 200, body: '{"ready":true}\n' });
    state = { ...state, enclave: 'unmanaged' };
    expect((await ask('/readyz')).status).toBe(200);
  });

  it.each([
    ['draining', { draining: true }],
    ['not-accepting', { accepting: false }],
    ['enclave-starting', { enclave: 'starting' }],
    ['enclave-restarting', { enclave: 'restarting' }],
    ['enclave-draining', { enclave: 'draining' }],
    ['enclave-stopped', { enclave: 'stopped' }],
  ] as const)('is 503 with the reason %s', async (reason, change) => {
    state = { ...state, ...change };
    const { status, body } = await ask('/readyz');
    expect(status).toBe(503);
    expect(JSON.parse(body)).toEqual({ ready: false, reason });
  });

  it('is 503 when the enclave does not answer, refuses, or never says anything', async () => {
    for (const answer of [async () => false, () => Promise.reject(new Error('gone'))]) {
      live = answer;
      expect(JSON.parse((await ask('/readyz')).body)).toEqual({ ready: false, reason: 'enclave-not-live' });
    }
    live = () => new Promise(() => {});
    expect((await ask('/readyz')).status).toBe(503);
  });

  it('says draining when the drain began while the enclave was being asked', async () => {
    live = async () => {
      state = { ...state, draining: true };
      return true;
    };
    expect(JSON.parse((await ask('/readyz')).body)).toEqual({ ready: false, reason: 'draining' });
  });

  it('asks the enclave once, however many ask at the same time', async () => {
    let asked = 0;
    let arrived = 0;
    const all = Promise.withResolvers<boolean>();
    live = () => {
      asked += 1;
      return all.promise;
    };
    const calm = state;
    Object.defineProperty(sources, 'state', {
      value: () => {
        arrived += 1;
        if (arrived === 8) all.resolve(true);
        return calm;
      },
    });
    const answers = await Promise.all(Array.from({ length: 8 }, () => ask('/readyz')));
    expect(answers.map(({ status }) => status)).toEqual(Array(8).fill(200));
    expect(asked).toBe(1);
  });
});

describe('/metrics', () => {
  it('has a HELP and a TYPE for every metric, and every name and unit is well-formed', async () => {
    const { status, headers, body } = await ask('/metrics');
    expect(status).toBe(200);
    expect(headers['content-type']).toBe('text/plain; version=0.0.4; charset=utf-8');
    for (const { name, kind, help } of METRIC_FAMILIES) {
      expect(body).toContain(`# HELP ${name} ${help}\n# TYPE ${name} ${kind}\n`);
      expect(name).toMatch(kind === 'counter' ? /^strongroom_[a-z_]+_total$/ : /^strongroom_[a-z_]+$/);
    }
    expect(body).toContain('# TYPE process_resident_memory_bytes gauge');
    for (const line of body.split('\n').filter((text) => text !== '')) {
      expect(line).toMatch(/^(# (HELP|TYPE) |[a-zA-Z_:][\w:]*(\{([a-z_]+="[^"\n]*",?)*\})? [-+\w.]+$)/);
    }
  });

  it('begins every counter at 0, so that its first event is an increase', async () => {
    expect(await sample('strongroom_ingress_connections_total')).toBe(0);
    expect(await sample('strongroom_ingress_connections_ended_total{outcome="broken"}')).toBe(0);
    expect(await sample(`strongroom_egress_tunnels_total{destination="${KMS}"}`)).toBe(0);
  });

  it('shows the counters as they are at each scrape', async () => {
    counters = { 'ingress.opened': 3, 'ingress.bytes-up': 1_000, [`egress.open.${KMS}`]: 2 };
    expect(await sample('strongroom_ingress_connections_total')).toBe(3);
    counters = { 'ingress.opened': 5, 'ingress.bytes-up': 1_500, [`egress.open.${KMS}`]: 0 };
    expect(await sample('strongroom_ingress_connections_total')).toBe(5);
    expect(await sample('strongroom_ingress_bytes_total{direction="to-enclave"}')).toBe(1_500);
    expect(await sample(`strongroom_egress_open_tunnels{destination="${KMS}"}`)).toBe(0);
  });

  it('adds up the counters of one kind whose reasons are many', async () => {
    counters = { 'models.failed.status-503': 2, 'models.failed.tls-cert-has-expired': 1, 'models.failed': 9 };
    expect(await sample('strongroom_models_failed_total')).toBe(3);
  });

  it("takes no label from anything but the operator's own list", async () => {
    counters = { 'egress.opened.evil.example:443': 9, 'egress.refused.evil"} 1\nx': 9, 'made.up': 9 };
    const { body } = await ask('/metrics');
    expect(body).not.toContain('evil');
    expect(body).not.toContain('made');
  });

  it('shows the state: up, restarts, one state of several, and when credentials expire', async () => {
    expect(await sample('strongroom_enclave_up')).toBe(1);
    expect(await sample('strongroom_credentials_expiry_seconds')).toBeUndefined();
    live = async () => false;
    state = {
      ...state,
      enclave: 'restarting',
      restarts: 4,
      credentialsExpireAt: new Date(Date.now() + 3_600_000),
    };
    expect(await sample('strongroom_enclave_up')).toBe(0);
    expect(await sample('strongroom_enclave_restarts_total')).toBe(4);
    expect(await sample('strongroom_enclave_state{state="running"}')).toBe(0);
    expect(await sample('strongroom_enclave_state{state="restarting"}')).toBe(1);
    const left = await sample('strongroom_credentials_expiry_seconds');
    expect(left).toBeGreaterThan(3_000);
    expect(left).toBeLessThanOrEqual(3_600);
    state = { ...state, credentialsExpireAt: undefined };
    expect(await sample('strongroom_credentials_expiry_seconds')).toBeUndefined();
  });

  it('shows when the deny list is over, also when it is, and nothing without one', async () => {
    expect(await sample('strongroom_deny_list_expiry_seconds')).toBeUndefined();
    state = { ...state, denyListExpiresAt: new Date(Date.now() - 3_600_000) };
    const left = await sample('strongroom_deny_list_expiry_seconds');
    expect(left).toBeLessThanOrEqual(-3_600);
    state = { ...state, denyListExpiresAt: undefined };
    expect(await sample('strongroom_deny_list_expiry_seconds')).toBeUndefined();
  });

  it('knows every counter that the parent counts', () => {
    const known = new Set(METRIC_FAMILIES.flatMap(({ from }) => Object.keys(from)));
    const unknown = globSync('parent/**/*.ts', { cwd: ROOT, exclude: ['**/node_modules/**'] })
      .map((file) => readFileSync(join(ROOT, file), 'utf8'))
      .flatMap((source) => [...source.matchAll(/\b(?:counters|#counters)\.add\((['`])(.+?)\1/g)])
      .map(([, , name]) => String(name))
      .filter((name) => !isKnown(name, known));
    expect(unknown).toEqual([]);
  });
});

/** A name with a `${...}` stands for all its values; at least one counter of the table must be of its form. */
function isKnown(name: string, known: ReadonlySet<string>): boolean {
  if (!name.includes('${')) return known.has(name);
  const start = name.slice(0, name.indexOf('${'));
  return [...known].some((counter) => counter.startsWith(start));
}

describe('the admin server', () => {
  it.each([
    'evil.example',
    'evil.example:80',
    '169.254.169.254',
    '10.0.0.1',
    '127.0.0.1.evil.example',
    '[::2]',
  ])('refuses the name %s, which somebody else may point here', async (host) => {
    expect((await ask('/metrics', { host })).status).toBe(421);
  });

  it.each(['localhost', 'LOCALHOST:9464', '127.0.0.1', '127.0.0.1:1', '127.8.8.8', '[::1]:9464'])(
    'answers to %s',
    async (host) => {
      expect((await ask('/healthz', { host })).status).toBe(200);
    },
  );

  it('refuses a request with two names, or none', async () => {
    expect(await raw('GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n')).toMatch(
      /^HTTP\/1\.1 4/,
    );
    expect(await raw('GET /healthz HTTP/1.1\r\n\r\n')).toMatch(/^HTTP\/1\.1 4/);
    expect(await raw('GET /healthz HTTP/1.0\r\n\r\n')).toMatch(/^HTTP\/1\.1 421/);
  });

  it('knows GET and HEAD alone', async () => {
    const head = await ask('/readyz', { method: 'HEAD' });
    expect(head).toMatchObject({ status: 200, body: '' });
    for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS', 'PATCH']) {
      expect(await ask('/healthz', { method })).toMatchObject({
        status: 405,
        headers: { allow: 'GET, HEAD' },
      });
    }
    const connected = await raw('CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n');
    expect(connected).not.toContain(' 200 ');
  });

  it('refuses bodies, other paths and long headers', async () => {
    const withBody = 'GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx';
    expect(await raw(withBody)).toMatch(/^HTTP\/1\.1 400/);
    for (const path of ['/', '/healthz/', '/healthz?x=1', '/metrics/../healthz']) {
      expect((await ask(path)).status).toBe(404);
    }
    const long = `GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: ${'x'.repeat(9_000)}\r\n\r\n`;
    expect(await raw(long)).toMatch(/^HTTP\/1\.1 431/);
  });

  it('cuts a connection that asks again before its answer', async () => {
    let asked = 0;
    live = async () => {
      asked += 1;
      return true;
    };
    await raw('GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n'.repeat(100)).catch(() => {});
    expect(asked).toBe(1);
    expect((await ask('/healthz')).status).toBe(200);
  });

  it('says 500 without a word of the cause when its sources fail', async () => {
    Object.defineProperty(state, 'accepting', {
      get: () => {
        throw new Error('secret cause');
      },
    });
    const { status, body } = await ask('/readyz');
    expect(status).toBe(500);
    expect(body).not.toContain('secret');
  });

  it('takes no more connections than its bound, and ends with close()', async () => {
    const second = await startAdmin({ host: '127.0.0.1', port: 0 }, sources);
    let closed = 0;
    for (let count = 0; count < 40; count += 1) {
      const socket = connect({ host: '127.0.0.1', port: second.address.port });
      socket.on('error', () => {});
      socket.on('close', () => (closed += 1));
    }
    await eventually(() => closed).toBe(8);
    await second.close();
    await eventually(() => closed).toBe(40);
  });

  it('says which port is taken', async () => {
    const { port } = admin.address;
    const second = startAdmin(
      { host: '127.0.0.1', port },
      { live, state: () => state, counters: () => counters },
    );
    await expect(second).rejects.toMatchObject({ code: 'PARENT_LISTEN_FAILED' });
  });
});
