/**
 * The native calls behind a vsock, which Node does not offer: socket, bind, connect and getpeername, and the
 * step from a descriptor to a net.Socket. They are one of the image's three places with native calls.
 *
 * Addresses: struct sockaddr_vm of Linux include/uapi/linux/vm_sockets.h, 16 bytes in native order:
 * u16 family, u16 reserved, u32 port, u32 cid, zeros. Port comes before cid, and ports have 32 bits.
 */
import { createServer, type Server, Socket } from 'node:net';
import koffi from 'koffi';
import { LinkError } from './errors.ts';

const AF_UNIX = 1;
const AF_VSOCK = 40;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const SO_ERROR = 4;
const POLLOUT = 4;
const SOCKADDR_VM_BYTES = 16;
/** Any context id of this machine (VMADDR_CID_ANY). */
const CID_ANY = 0xffff_ffff;
/** The values of SOCK_STREAM and SOCK_SEQPACKET (asm-generic/socket.h; the same on x86-64 and arm64). */
export const SOCK_STREAM = 1;
export const SOCK_SEQPACKET = 5;

const libc = koffi.load(null);
const socket = libc.func('int socket(int, int, int)');
const socketpair = libc.func('int socketpair(int, int, int, _Out_ int *)');
const bind = libc.func('int bind(int, const void *, uint32_t)');
const connect = libc.func('int connect(int, const void *, uint32_t)');
const poll = libc.func('int poll(void *, unsigned long, int)');
const getsockopt = libc.func('int getsockopt(int, int, int, void *, _Inout_ uint32_t *)');
const getpeername = libc.func('int getpeername(int, void *, _Inout_ uint32_t *)');
const close = libc.func('int close(int)');

const { EAFNOSUPPORT = 97, EINPROGRESS = 115, EINTR = 4 } = koffi.os.errno;
const ERRNO_NAMES: ReadonlyMap<number, string> = new Map(
  Object.entries(koffi.os.errno).map(([name, value]) => [value, name]),
);

/** A system call that failed, with the name of its errno as Node spells it. */
export class NativeError extends Error {
  readonly code: string;

  constructor(call: string, errno: number) {
    const code = ERRNO_NAMES.get(errno) ?? `errno ${errno}`;
    super(`${call}: ${code}`);
    this.code = code;
  }
}

/** A new non-blocking vsock. Throws LINK_UNSUPPORTED on a kernel without AF_VSOCK. */
export function openVsock(): number {
  const fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd >= 0) return fd;
  const cause = new NativeError('socket(AF_VSOCK)', koffi.errno());
  if (['EAFNOSUPPORT', 'EPROTONOSUPPORT', 'EPERM', 'EACCES'].includes(cause.code)) {
    throw new LinkError('LINK_UNSUPPORTED', `This kernel offers no AF_VSOCK socket: ${cause.code}.`, cause);
  }
  throw cause;
}

/** Binds to a port of this machine, for connections from any context id; who connects is checked afterwards. */
export function bindVsock(fd: number, port: number): void {
  if (bind(fd, sockaddr(CID_ANY, port), SOCKADDR_VM_BYTES) !== 0)
    throw new NativeError('bind', koffi.errno());
}

/** Begins to connect; connectionState says how it goes on. */
export function beginConnect(fd: number, cid: number, port: number): void {
  if (connect(fd, sockaddr(cid, port), SOCKADDR_VM_BYTES) === 0) return;
  const errno = koffi.errno();
  if (errno !== EINPROGRESS && errno !== EINTR) throw new NativeError('connect', errno);
}

/** Never waits. Throws NativeError when the connection has failed. */
export function connectionState(fd: number): 'pending' | 'connected' {
  const pollfd = new Uint8Array(8);
  const view = new DataView(pollfd.buffer);
  view.setInt32(0, fd, true);
  view.setInt16(4, POLLOUT, true);
  const ready = poll(pollfd, 1, 0);
  if (ready < 0) throw new NativeError('poll', koffi.errno());
  if (ready === 0) return 'pending';
  const failure = new Uint8Array(4);
  if (getsockopt(fd, SOL_SOCKET, SO_ERROR, failure, [4]) !== 0)
    throw new NativeError('getsockopt', koffi.errno());
  const errno = new DataView(failure.buffer).getInt32(0, true);
  if (errno !== 0) throw new NativeError('connect', errno);
  return 'connected';
}

/** The context id at the other end of a connected vsock. */
export function peerCidOf(fd: number): number {
  const address = new Uint8Array(SOCKADDR_VM_BYTES);
  if (getpeername(fd, address, [SOCKADDR_VM_BYTES]) !== 0)
    throw new NativeError('getpeername', koffi.errno());
  const view = new DataView(address.buffer);
  if (view.getUint16(0, true) !== AF_VSOCK) throw new NativeError('getpeername', EAFNOSUPPORT);
  return view.getUint32(8, true);
}

/** Two connected UNIX sockets, for the self-test and for tests that watch single writes. */
export function socketPair(type: number): [number, number] {
  const fds: [number, number] = [-1, -1];
  if (socketpair(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) !== 0) {
    throw new NativeError('socketpair', koffi.errno());
  }
  return fds;
}

export function closeDescriptor(fd: number): void {
  close(fd);
}

function sockaddr(cid: number, port: number): Uint8Array {
  const address = new Uint8Array(SOCKADDR_VM_BYTES);
  const view = new DataView(address.buffer);
  view.setUint16(0, AF_VSOCK, true);
  view.setUint32(4, port, true);
  view.setUint32(8, cid, true);
  return address;
}

/** libuv's handle for stream sockets: it names TCP, but a descriptor of any stream socket can be opened in it. */
interface StreamHandle {
  readonly fd: number;
  /** Takes the descriptor over; 0, or a negative errno. */
  open(fd: number): number;
}
interface TcpWrap {
  readonly TCP: new (type: number) => StreamHandle;
  readonly constants: { readonly SOCKET: number; readonly SERVER: number };
}

function handleOf(fd: number, type: 'SOCKET' | 'SERVER'): StreamHandle {
  const { TCP, constants } = (process as unknown as { binding(name: string): TcpWrap }).binding('tcp_wrap');
  const handle = new TCP(constants[type]);
  const result = handle.open(fd);
  if (result !== 0) {
    close(fd);
    throw new NativeError('uv_tcp_open', -result);
  }
  return handle;
}

/** A net.Socket that owns the connected descriptor. */
export function socketFrom(fd: number): Socket {
  const options = { handle: handleOf(fd, 'SOCKET'), allowHalfOpen: true, readable: true, writable: true };
  return new Socket(options as unknown as ConstructorParameters<typeof Socket>[0]);
}

/** A server that owns the bound descriptor and listens on it. */
export function serverFrom(
  fd: number,
  backlog: number,
  onConnection: (socket: Socket) => void,
): Promise<Server> {
  const server = createServer({ allowHalfOpen: true }, onConnection);
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(handleOf(fd, 'SERVER'), backlog, () => resolve(server));
  });
}

/** The descriptor below a net.Socket of an accepted connection. */
export function descriptorOf(socket: Socket): number {
  return (socket as unknown as { readonly _handle: StreamHandle })._handle.fd;
}
