/**
 * A real S3 server to test against: OpenStack Swift with its S3 API, on one folder of this machine.
 *
 *     node test/support/swift.ts download
 *
 * fetches it from Debian 13 into .strongroom/swift, with the Python and the C library that it runs with, and with
 * package lists of its own: nothing is installed. Tests that need it skip aloud where it was not fetched.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const PROJECT = join(import.meta.dirname, '..', '..');
const FOLDER = join(PROJECT, '.strongroom', 'swift');
const SUITE = 'trixie';
const [TRIPLET, LOADER] =
  process.arch === 'arm64'
    ? ['aarch64-linux-gnu', 'usr/lib/ld-linux-aarch64.so.1']
    : ['x86_64-linux-gnu', 'usr/lib64/ld-linux-x86-64.so.2'];
const SERVERS = ['account', 'container', 'object'] as const;

/** Why there is no Swift to run here, or undefined. */
export function swiftMissing(): string | undefined {
  if (existsSync(join(FOLDER, 'usr/bin/swift-proxy-server'))) return undefined;
  return 'there is no Swift here: node test/support/swift.ts download';
}

export interface Swift extends AsyncDisposable {
  readonly endpoint: string;
  readonly region: string;
  readonly credentials: { readonly accessKeyId: string; readonly secretAccessKey: string };
}

export async function startSwift(): Promise<Swift> {
  const folder = mkdtempSync(join(tmpdir(), 'strongroom-swift-'));
  const [account, container, object, proxy] = await freePorts(4);
  const ports = { account, container, object };
  mkdirSync(join(folder, 'devices/disk'), { recursive: true });
  const write = (name: string, text: string): void => writeFileSync(join(folder, name), text);
  write('swift.conf', '[swift-hash]\nswift_hash_path_suffix = a\nswift_hash_path_prefix = b\n');
  for (const name of SERVERS) write(`${name}.conf`, serverConfig(folder, name, Number(ports[name])));
  write('proxy.conf', proxyConfig(folder, Number(proxy)));
  write('rings.py', RINGS);
  write('serve.py', SERVE);
  python(join(folder, 'rings.py'), folder, ...SERVERS.map((name) => `${name}=${ports[name]}`));

  const children = [...SERVERS, 'proxy'].map((name) => {
    const program = join(FOLDER, 'usr/bin', `swift-${name}-server`);
    const [command, args] = pythonCommand(
      join(folder, 'serve.py'),
      folder,
      program,
      join(folder, `${name}.conf`),
    );
    return spawn(command, args, { stdio: 'ignore', env: pythonEnvironment() });
  });
  const stop = async (): Promise<void> => {
    await Promise.all(children.map(ended));
    rmSync(folder, { recursive: true, force: true });
  };
  const endpoint = `http://127.0.0.1:${proxy}`;
  try {
    await answering(endpoint, children);
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    endpoint,
    region: 'us-east-1',
    credentials: { accessKeyId: 'test:tester', secretAccessKey: 'testing' },
    [Symbol.asyncDispose]: stop,
  };
}

function common(folder: string, port: number): string {
  return `[DEFAULT]
bind_ip = 127.0.0.1
bind_port = ${port}
workers = 0
user = ${userInfo().username}
swift_dir = ${folder}
devices = ${join(folder, 'devices')}
mount_check = false
disable_fallocate = true
fallocate_reserve = 0
`;
}

function serverConfig(folder: string, name: string, port: number): string {
  const app = `${name}-server`;
  return `${common(folder, port)}[pipeline:main]\npipeline = ${app}\n[app:${app}]\nuse = egg:swift#${name}\n`;
}

function proxyConfig(folder: string, port: number): string {
  const filters = [
    'catch_errors',
    'gatekeeper',
    'memcache',
    'listing_formats',
    'bulk',
    's3api',
    'tempauth',
    'slo',
    'dlo',
  ];
  const settings: Readonly<Record<string, string>> = {
    memcache: 'memcache_servers = 127.0.0.1:1\n',
    s3api: 'location = us-east-1\n',
    tempauth: 'user_test_tester = testing .admin\n',
  };
  return `${common(folder, port)}[pipeline:main]
pipeline = ${filters.join(' ')} proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
${filters.map((name) => `[filter:${name}]\nuse = egg:swift#${name}\n${settings[name] ?? ''}`).join('')}`;
}

/** One copy of everything on one disk. */
const RINGS = `
import sys
from swift.common.ring import RingBuilder
folder, *servers = sys.argv[1:]
for server in servers:
    name, port = server.split('=')
    ring = RingBuilder(4, 1, 1)
    ring.add_dev({'region': 1, 'zone': 1, 'ip': '127.0.0.1', 'port': int(port), 'device': 'disk', 'weight': 1.0})
    ring.rebalance()
    ring.get_ring().save(folder + '/' + name + '.ring.gz')
`;

/** Swift looks for its main configuration in /etc, wherever the others are. */
const SERVE = `
import runpy, sys
import swift.common.utils
folder, program, config = sys.argv[1:]
swift.common.utils.SWIFT_CONF_FILE = folder + '/swift.conf'
sys.argv = [program, config]
runpy.run_path(program, run_name='__main__')
`;

function pythonCommand(...args: readonly string[]): [string, string[]] {
  const libraries = join(FOLDER, 'usr/lib', TRIPLET);
  return [join(FOLDER, LOADER), ['--library-path', libraries, join(FOLDER, 'usr/bin/python3.13'), ...args]];
}

function pythonEnvironment(): NodeJS.ProcessEnv {
  return {
    PATH: process.env.PATH,
    PYTHONHOME: join(FOLDER, 'usr'),
    PYTHONPATH: join(FOLDER, 'usr/lib/python3/dist-packages'),
    PYTHONDONTWRITEBYTECODE: '1',
  };
}

function python(...args: readonly string[]): void {
  const [command, all] = pythonCommand(...args);
  execFileSync(command, all, { stdio: ['ignore', 'ignore', 'inherit'], env: pythonEnvironment() });
}

/** Swift cannot be told to take any port and say which. */
async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer().listen(0, '127.0.0.1'));
  await Promise.all(servers.map((server) => once(server, 'listening')));
  const ports = servers.map((server) => (server.address() as { port: number }).port);
  await Promise.all(servers.map((server) => once(server.close(), 'close')));
  return ports;
}

async function answering(endpoint: string, children: readonly ChildProcess[]): Promise<void> {
  for (let tries = 0; tries < 600; tries++) {
    if (children.some(({ exitCode }) => exitCode !== null)) throw new Error('a server of Swift ended');
    const answered = await fetch(endpoint).then(
      () => true,
      () => false,
    );
    if (answered) return;
    await sleep(100);
  }
  throw new Error('Swift does not answer');
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const closed = once(child, 'close');
  child.kill('SIGKILL');
  await closed;
}

function download(): void {
  if (swiftMissing() === undefined) return;
  const apt = mkdtempSync(join(tmpdir(), 'strongroom-apt-'));
  try {
    for (const name of ['state/lists/partial', 'cache/archives/partial', 'packages']) {
      mkdirSync(join(apt, name), { recursive: true });
    }
    writeFileSync(join(apt, 'status'), '');
    writeFileSync(join(apt, 'sources.list'), `deb http://deb.debian.org/debian ${SUITE} main\n`);
    const settings = [
      `Dir::State=${join(apt, 'state')}`,
      `Dir::State::status=${join(apt, 'status')}`,
      `Dir::Cache=${join(apt, 'cache')}`,
      `Dir::Etc::sourcelist=${join(apt, 'sources.list')}`,
      'Dir::Etc::sourceparts=-',
      'APT::Sandbox::User=root',
    ].flatMap((setting) => ['-o', setting]);
    const run = (...args: string[]): string =>
      execFileSync('apt-get', ['-q', ...settings, ...args], {
        cwd: join(apt, 'packages'),
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'inherit'],
      });
    run('update');
    const wanted = ['account', 'container', 'object', 'proxy'].map((name) => `swift-${name}`);
    const simulated = run('install', '--simulate', '--no-install-recommends', ...wanted);
    // Of all that an installation would bring, what Python programs run with; nothing is set up.
    const names = [...simulated.matchAll(/^Inst (\S+)/gm)].map(([, name = '']) => name);
    run('download', ...names.filter((name) => /^(?:lib(?!perl)|python3|swift|zlib1g$)/.test(name)));
    // Beside its final place, and there at once.
    const beside = `${FOLDER}.partial-${process.pid}`;
    mkdirSync(beside, { recursive: true });
    for (const file of readdirSync(join(apt, 'packages'))) {
      execFileSync('dpkg-deb', ['-x', join(apt, 'packages', file), beside]);
    }
    rmSync(FOLDER, { recursive: true, force: true });
    renameSync(beside, FOLDER);
  } finally {
    rmSync(apt, { recursive: true, force: true });
  }
}

if (import.meta.main) {
  if (process.argv[2] === 'download') download();
  else {
    process.stderr.write('Usage: node test/support/swift.ts download\n');
    process.exitCode = 2;
  }
}
