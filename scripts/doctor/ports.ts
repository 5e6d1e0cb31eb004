/** The ports that the parent will listen on. */
import { request } from 'node:http';
import { createServer } from 'node:net';
import { type Check, type CheckGroup, ok, problem, type Result, warning } from './check.ts';

const TIMEOUT_MS = 2_000;

export const portsGroup: CheckGroup = {
  title: 'Ports',
  checks: (_world, { config }): readonly Check[] => {
    if (config === undefined) return [];
    const { ingress, admin } = config;
    const checks: Check[] = [
      {
        id: 'port.ingress',
        why: 'Callers connect here.',
        run: () => checkPort('ingress', ingress, admin),
      },
    ];
    if (admin === undefined) return checks;
    const why = 'Health and metrics are served here.';
    return [...checks, { id: 'port.admin', why, run: () => checkPort('admin', admin, admin) }];
  },
};

interface Address {
  readonly host: string;
  readonly port: number;
}

async function checkPort(member: string, address: Address, admin: Address | undefined): Promise<Result> {
  const { host, port } = address;
  const failure = await tryToListen(address);
  if (failure === undefined)
    return ok(port === 0 ? `any free port of ${host}` : `${host} port ${port} is free`);
  if (failure === 'EADDRINUSE') {
    if (admin !== undefined && (await isParent(admin)))
      return ok(`${host} port ${port}: a parent runs already`);
    const action = `ss -ltnp "sport = :${port}" says who; end it, or configure another ${member}.port.`;
    return admin === undefined
      ? warning(`${host} port ${port} is taken, by a running parent or by another program.`, action)
      : problem(`${host} port ${port} is taken by another program.`, action);
  }
  if (failure === 'EACCES') {
    return problem(
      `This user may not listen on ${host} port ${port}.`,
      `Choose a port from 1024 on, or let the unit have CAP_NET_BIND_SERVICE.`,
    );
  }
  return problem(
    `Nobody can listen on ${host} port ${port}: ${failure}.`,
    `Set ${member}.host to an address of this host.`,
  );
}

function tryToListen({ host, port }: Address): Promise<string | undefined> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? 'unknown'));
    server.listen({ host, port, exclusive: true }, () => server.close(() => resolve(undefined)));
  });
}

/** Whether the admin port belongs to a parent of ours. */
function isParent({ host, port }: Address): Promise<boolean> {
  return new Promise((resolve) => {
    const asked = request({ host, port, path: '/healthz', agent: false, timeout: TIMEOUT_MS }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => {
        text += chunk;
        if (text.length > 1_024) response.destroy();
      });
      response.on('close', () => resolve(response.statusCode === 200 && text.trim() === '{"healthy":true}'));
    });
    asked.on('timeout', () => asked.destroy());
    asked.on('error', () => resolve(false));
    asked.end();
  });
}
