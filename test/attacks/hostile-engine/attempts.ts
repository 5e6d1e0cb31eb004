/**
 * What an engine that was taken over would try. Each attempt either gets what it wants or ends in an errno;
 * run once confined and once not, by the same code, so that a failure proves the confinement and not a typo.
 */

import { spawnSync } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { Resolver } from 'node:dns/promises';
import {
  closeSync,
  constants,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  renameSync,
  symlinkSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import koffi from 'koffi';

/** What the enclave's stand-in offers to be attacked. */
export interface Target {
  readonly parentPid: number;
  /** Address in the parent's memory, and what stands there. */
  readonly canaryAddress: string;
  readonly canary: string;
  readonly unixSocket: string;
  readonly tcpPort: number;
  readonly dnsPort: number;
  /** A file like /dev/nsm: mode 0600, of the parent's user. */
  readonly nsm: string;
  /** Writable by everybody, with a file `victim` in it that is, too. */
  readonly folder: string;
}

export interface Attempt {
  readonly name: string;
  /** Only root can do this without any confinement. */
  readonly rootOnly?: true;
  /** What the host must have for the attempt to succeed; where it does not, ENOSYS and the like are no proof. */
  readonly facility?: string;
  run(target: Target): unknown;
}

export interface Outcome {
  readonly name: string;
  /** Undefined if the attempt got what it wanted. */
  readonly failure: string | undefined;
}

const NUMBERS = {
  x64: {
    ioctl: 16,
    socket: 41,
    sendto: 44,
    sendmsg: 46,
    recvmsg: 47,
    bind: 49,
    listen: 50,
    socketpair: 53,
    clone: 56,
    execve: 59,
    kill: 62,
    fcntl: 72,
    chmod: 90,
    truncate: 76,
    ptrace: 101,
    setuid: 105,
    personality: 135,
    prctl: 157,
    mount: 165,
    umount2: 166,
    add_key: 248,
    keyctl: 250,
    unshare: 272,
    tgkill: 234,
    rt_sigqueueinfo: 129,
    perf_event_open: 298,
    prlimit64: 302,
    process_vm_readv: 310,
    process_vm_writev: 311,
    memfd_create: 319,
    bpf: 321,
    execveat: 322,
    userfaultfd: 323,
    io_uring_setup: 425,
    io_uring_enter: 426,
    pidfd_send_signal: 424,
    pidfd_open: 434,
    clone3: 435,
    openat2: 437,
    pidfd_getfd: 438,
    mknodat: 259,
    process_madvise: 440,
    init_module: 175,
    kexec_load: 246,
  },
  arm64: {
    ioctl: 29,
    socket: 198,
    sendto: 206,
    sendmsg: 211,
    recvmsg: 212,
    bind: 200,
    listen: 201,
    socketpair: 199,
    clone: 220,
    execve: 221,
    kill: 129,
    fcntl: 25,
    chmod: -1,
    truncate: 45,
    ptrace: 117,
    setuid: 146,
    personality: 92,
    prctl: 167,
    mount: 40,
    umount2: 39,
    add_key: 217,
    keyctl: 219,
    unshare: 97,
    tgkill: 131,
    rt_sigqueueinfo: 138,
    perf_event_open: 241,
    prlimit64: 261,
    process_vm_readv: 270,
    process_vm_writev: 271,
    memfd_create: 279,
    bpf: 280,
    execveat: 281,
    userfaultfd: 282,
    io_uring_setup: 425,
    io_uring_enter: 426,
    pidfd_send_signal: 424,
    pidfd_open: 434,
    clone3: 435,
    openat2: 437,
    pidfd_getfd: 438,
    mknodat: 33,
    process_madvise: 440,
    init_module: 105,
    kexec_load: 104,
  },
} as const;

type CallName = keyof (typeof NUMBERS)['x64'];

const libc = koffi.load(null);
const rawSyscall = libc.func('long syscall(long, long, long, long, long, long, long)');
const ERRNO_NAMES = new Map(Object.entries(koffi.os.errno).map(([name, value]) => [value, name]));

/** Throws an error that bears the errno's name as its code. */
function call(name: CallName, ...args: (number | bigint)[]): number {
  const number = NUMBERS[process.arch as 'x64' | 'arm64'][name];
  const [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0] = args;
  const result = Number(rawSyscall(number, a, b, c, d, e, f));
  if (result < 0) {
    const errno = koffi.errno();
    throw Object.assign(new Error(name), { code: ERRNO_NAMES.get(errno) ?? String(errno) });
  }
  return result;
}

/** The call is not meant to succeed: that the kernel looked at its arguments (`reached`) is success enough. */
function reach(name: CallName, reached: string, ...args: (number | bigint)[]): void {
  try {
    call(name, ...args);
  } catch (error) {
    if ((error as { code?: string }).code !== reached) throw error;
  }
}

function address(bytes: Uint8Array): bigint {
  return koffi.address(bytes) as bigint;
}

const text = (value: string): Uint8Array => Buffer.from(`${value}\0`);
const AF = { unix: 1, inet: 2, netlink: 16, vsock: 40 };
const SOCK = { stream: 1, dgram: 2, raw: 3 };
const socket = (family: number, type: number): void => closeSync(call('socket', family, type, 0));

function memoryVectors(target: Target): { local: Uint8Array; into: Uint8Array; remote: Uint8Array } {
  const into = new Uint8Array(new ArrayBuffer(target.canary.length));
  const vector = (at: bigint): Uint8Array => {
    const bytes = new Uint8Array(new ArrayBuffer(16));
    new DataView(bytes.buffer).setBigUint64(0, at, true);
    new DataView(bytes.buffer).setBigUint64(8, BigInt(into.length), true);
    return bytes;
  };
  return { into, local: vector(address(into)), remote: vector(BigInt(target.canaryAddress)) };
}

function requireCanary(found: Uint8Array, target: Target): void {
  if (Buffer.from(found).toString('latin1') !== target.canary) throw new Error('read something else');
}

function connected(options: { path: string } | { host: string; port: number }): Promise<void> {
  return new Promise((resolve, reject) => {
    const connection = connect(options, () => {
      connection.destroy();
      resolve();
    });
    connection.once('error', reject);
  });
}

function overwrite(path: string, flags: number): void {
  closeSync(openSync(path, flags, 0o666));
}

function ringOfEventLoop(): number {
  for (const fd of readdirSync('/proc/self/fd')) {
    try {
      if (readlinkSync(`/proc/self/fd/${fd}`) === 'anon_inode:[io_uring]') return Number(fd);
    } catch {
      // the folder's own descriptor is gone by now
    }
  }
  throw Object.assign(new Error('no ring'), { code: 'ENOSYS' });
}

const { O_WRONLY, O_RDWR, O_CREAT, O_TRUNC, O_APPEND } = constants;
const O_TMPFILE = 0o20200000;
const NSM_REQUEST = 0xc0200a00;

export const ATTEMPTS: readonly Attempt[] = [
  // sockets
  { name: 'a vsock socket', facility: 'vsock', run: () => socket(AF.vsock, SOCK.stream) },
  { name: 'an inet stream socket', run: () => socket(AF.inet, SOCK.stream) },
  { name: 'an inet datagram socket', run: () => socket(AF.inet, SOCK.dgram) },
  { name: 'a raw inet socket', rootOnly: true, run: () => call('socket', AF.inet, SOCK.raw, 1) },
  { name: 'a UNIX socket', run: () => socket(AF.unix, SOCK.stream) },
  { name: 'a netlink socket', run: () => socket(AF.netlink, SOCK.raw) },
  {
    name: 'a socket pair',
    run: () => call('socketpair', AF.unix, SOCK.stream, 0, address(new Uint8Array(8))),
  },
  {
    name: 'connecting to a UNIX socket of the parent',
    run: ({ unixSocket }) => connected({ path: unixSocket }),
  },
  { name: 'connecting to a TCP port', run: ({ tcpPort }) => connected({ host: '127.0.0.1', port: tcpPort }) },
  {
    name: 'sending a datagram',
    run: ({ dnsPort }) =>
      new Promise<void>((resolve, reject) => {
        const sender = createSocket('udp4');
        sender.once('error', reject);
        sender.send('x', dnsPort, '127.0.0.1', (error) => {
          sender.close();
          if (error === null) resolve();
          else reject(error);
        });
      }),
  },
  {
    name: 'asking a DNS server',
    run: async ({ dnsPort }) => {
      const resolver = new Resolver({ timeout: 2_000, tries: 1 });
      resolver.setServers([`127.0.0.1:${dnsPort}`]);
      await resolver.resolve4('exfiltrated.example');
    },
  },
  {
    name: 'sending with an address on its channel',
    run: () => reach('sendto', 'EFAULT', 3, 8, 1, 0x40, 8, 16),
  },
  { name: 'passing a descriptor over its channel', run: () => reach('sendmsg', 'EFAULT', 3, 8, 0) },
  { name: 'receiving a descriptor over its channel', run: () => reach('recvmsg', 'EFAULT', 3, 8, 0x40) },

  // the parent process
  {
    name: '/proc/PPID/mem',
    run: (target) => {
      const fd = openSync(`/proc/${target.parentPid}/mem`, 'r');
      const found = Buffer.alloc(target.canary.length);
      readSync(fd, found, 0, found.length, BigInt(target.canaryAddress));
      requireCanary(found, target);
    },
  },
  { name: '/proc/PPID/mem for writing', run: ({ parentPid }) => overwrite(`/proc/${parentPid}/mem`, O_RDWR) },
  { name: '/proc/PPID/fd', run: ({ parentPid }) => readdirSync(`/proc/${parentPid}/fd`) },
  { name: '/proc/PPID/fd/0', run: ({ parentPid }) => openSync(`/proc/${parentPid}/fd/0`, 'r') },
  { name: '/proc/PPID/maps', run: ({ parentPid }) => readFileSync(`/proc/${parentPid}/maps`) },
  { name: '/proc/PPID/environ', run: ({ parentPid }) => readFileSync(`/proc/${parentPid}/environ`) },
  {
    name: 'process_vm_readv',
    run: (target) => {
      const { local, into, remote } = memoryVectors(target);
      call('process_vm_readv', target.parentPid, address(local), 1, address(remote), 1, 0);
      requireCanary(into, target);
    },
  },
  {
    name: 'process_vm_writev',
    run: (target) => {
      const { local, into, remote } = memoryVectors(target);
      into.set(Buffer.from(target.canary, 'latin1'));
      call('process_vm_writev', target.parentPid, address(local), 1, address(remote), 1, 0);
    },
  },
  { name: 'ptrace', run: ({ parentPid }) => call('ptrace', 0x4206 /* PTRACE_SEIZE */, parentPid, 0, 0) },
  { name: 'a pidfd of the parent', run: ({ parentPid }) => closeSync(call('pidfd_open', parentPid, 0)) },
  { name: 'a descriptor of the parent', run: () => reach('pidfd_getfd', 'EBADF', 999, 0, 0) },
  { name: 'signalling the parent by kill', run: ({ parentPid }) => call('kill', parentPid, 0) },
  {
    name: 'signalling the parent by tgkill',
    run: ({ parentPid }) => call('tgkill', parentPid, parentPid, 0),
  },
  {
    name: 'signalling by rt_sigqueueinfo',
    run: ({ parentPid }) => reach('rt_sigqueueinfo', 'EFAULT', parentPid, 10, 8),
  },
  { name: 'signalling by a pidfd', run: () => reach('pidfd_send_signal', 'EBADF', 999, 0, 0, 0) },
  {
    name: 'having its channel signal the parent',
    run: ({ parentPid }) => call('fcntl', 3, 8 /* F_SETOWN */, parentPid),
  },
  { name: 'choosing the signal its channel sends', run: () => call('fcntl', 3, 10 /* F_SETSIG */, 9) },
  { name: 'limits of the parent', run: ({ parentPid }) => reach('prlimit64', 'EFAULT', parentPid, 4, 8, 0) },

  // the NSM
  { name: 'the NSM device, reading and writing', run: ({ nsm }) => closeSync(openSync(nsm, 'r+')) },
  { name: 'the NSM device, reading', rootOnly: true, run: ({ nsm }) => closeSync(openSync(nsm, 'r')) },
  { name: "the NSM's ioctl", run: () => reach('ioctl', 'ENOTTY', 0, NSM_REQUEST, 0) },

  // other programs, more privilege
  {
    name: 'running a program',
    run: () => {
      const { error } = spawnSync('/bin/true');
      if (error !== undefined) throw error;
    },
  },
  { name: 'execve', run: () => reach('execve', 'ENOENT', address(text('/nonexistent')), 0, 0) },
  { name: 'execveat', run: () => reach('execveat', 'ENOENT', -100, address(text('/nonexistent')), 0, 0, 0) },
  // CLONE_SIGHAND without CLONE_VM: the kernel says EINVAL, and this test does not fork itself.
  { name: 'a process by clone', run: () => reach('clone', 'EINVAL', 0x800, 0, 0, 0, 0) },
  { name: 'a process by clone3', run: () => reach('clone3', 'EINVAL', address(new Uint8Array(64)), 8) },
  { name: 'a namespace', run: () => reach('unshare', 'EINVAL', 0x10000001) },
  { name: 'setuid', run: () => call('setuid', process.getuid?.() ?? 0) },
  { name: 'becoming dumpable', run: () => call('prctl', 4, 1, 0, 0, 0) },
  { name: 'another personality', run: () => call('personality', 0xffffffff) },
  {
    name: 'mount',
    rootOnly: true,
    run: ({ folder }) => {
      call('mount', address(text('none')), address(text(folder)), address(text('tmpfs')), 0, 0);
      call('umount2', address(text(folder)), 0);
    },
  },
  {
    name: 'a kernel module',
    rootOnly: true,
    facility: 'modules',
    run: () => reach('init_module', 'EFAULT', 8, 16, 8),
  },
  {
    name: 'another kernel',
    rootOnly: true,
    facility: 'kexec',
    run: () => reach('kexec_load', 'EINVAL', 0, 99, 0, 0),
  },
  {
    name: 'bpf',
    rootOnly: true,
    facility: 'bpf',
    run: () => reach('bpf', 'EINVAL', 9999, address(new Uint8Array(128)), 128),
  },
  {
    name: 'userfaultfd',
    rootOnly: true,
    facility: 'userfaultfd',
    run: () => closeSync(call('userfaultfd', 0)),
  },
  { name: 'perf events', facility: 'perf', run: () => reach('perf_event_open', 'EFAULT', 8, 0, -1, -1, 0) },
  { name: 'a key', facility: 'keys', run: () => reach('add_key', 'EFAULT', 8, 8, 0, 0, 0) },
  { name: 'a keyring', facility: 'keys', run: () => call('keyctl', 0, -3, 1) },
  {
    name: 'io_uring',
    facility: 'io_uring',
    run: () => closeSync(call('io_uring_setup', 1, address(new Uint8Array(new ArrayBuffer(120))))),
  },
  {
    name: "the event loop's own io_uring",
    facility: 'io_uring',
    run: () => call('io_uring_enter', ringOfEventLoop(), 0, 0, 0, 0, 0),
  },

  // writing
  {
    name: 'a file in a folder for everybody',
    run: ({ folder }) => overwrite(join(folder, 'new'), O_WRONLY | O_CREAT),
  },
  {
    name: 'a file in /tmp',
    run: ({ parentPid }) => {
      overwrite(`/tmp/strongroom-attempt-${parentPid}`, O_WRONLY | O_CREAT);
      unlinkSync(`/tmp/strongroom-attempt-${parentPid}`);
    },
  },
  {
    name: 'a file in the working folder',
    rootOnly: true,
    run: ({ parentPid }) => {
      overwrite(`strongroom-attempt-${parentPid}`, O_WRONLY | O_CREAT);
      unlinkSync(`strongroom-attempt-${parentPid}`);
    },
  },
  { name: 'a file without a name', run: ({ folder }) => overwrite(folder, O_RDWR | O_TMPFILE) },
  { name: 'a file in memory', run: () => closeSync(call('memfd_create', address(text('x')), 0)) },
  { name: 'a file opened for writing', run: ({ folder }) => overwrite(join(folder, 'victim'), O_WRONLY) },
  {
    name: 'a file opened for appending',
    run: ({ folder }) => overwrite(join(folder, 'victim'), O_WRONLY | O_APPEND),
  },
  { name: 'a file truncated by opening', run: ({ folder }) => overwrite(join(folder, 'victim'), O_TRUNC) },
  {
    name: 'a file truncated by its name',
    run: ({ folder }) => call('truncate', address(text(join(folder, 'victim'))), 0),
  },
  {
    name: 'openat2',
    run: () => reach('openat2', 'EINVAL', -100, address(text('/')), address(new Uint8Array(24)), 8),
  },
  { name: 'a folder', run: ({ folder }) => mkdirSync(join(folder, 'folder')) },
  { name: 'a symbolic link', run: ({ folder }) => symlinkSync('/', join(folder, 'symbolic')) },
  { name: 'a hard link', run: ({ folder }) => linkSync(join(folder, 'victim'), join(folder, 'hard')) },
  { name: 'a renamed file', run: ({ folder }) => renameSync(join(folder, 'hard'), join(folder, 'renamed')) },
  { name: 'a removed file', run: ({ folder }) => unlinkSync(join(folder, 'renamed')) },
  {
    name: 'a named pipe',
    run: ({ folder }) => call('mknodat', -100, address(text(join(folder, 'pipe'))), 0o010666, 0),
  },
  { name: 'its model, written through its descriptor', run: () => writeSync(4, Buffer.of(0)) },
  { name: 'its model, written at an offset', run: () => writeSync(4, Buffer.of(0), 0, 1, 0) },
  {
    name: 'its model, opened again for writing',
    rootOnly: true,
    run: () => overwrite('/proc/self/fd/4', O_RDWR),
  },
];

/** All attempts, one after the other. */
export async function attemptEverything(target: Target): Promise<Outcome[]> {
  const outcomes: Outcome[] = [];
  for (const { name, run } of ATTEMPTS) {
    try {
      await run(target);
      outcomes.push({ name, failure: undefined });
    } catch (error) {
      const { code, message } = error as { code?: string; message: string };
      outcomes.push({ name, failure: code ?? message });
    }
  }
  return outcomes;
}
