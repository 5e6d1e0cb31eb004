/**
 * The link over UNIX sockets, for simulation (docs/link.md section 5.1). Each side listens in a folder of its own
 * and dials into the other's; port P is the socket file `<folder>/P.sock`.
 *
 * The folder is 0700 and the socket 0600, so the folder's owner is the peer: the file system takes the place of
 * the context id that a vsock checks.
 */
import { chmod, lstat, mkdir, unlink } from 'node:fs/promises';
import { createConnection, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { LinkError } from './errors.ts';
import type { Link, Listener } from './link.ts';

/** sun_path of sockaddr_un holds 108 bytes with the closing NUL (unix(7)). */
const SOCKET_PATH_MAX_BYTES = 107;
const BACKLOG = 1024;
const STALE_PROBE_TIMEOUT_MS = 1_000;

/** The link whose own ports are in `folders.listen` and whose peer's ports are in `folders.dial`. */
export function unixLink(folders: { readonly dial: string; readonly listen: string }): Link {
  return {
    dial: async (port, { timeoutMs }) => dial(socketPath(folders.dial, port), timeoutMs),
    listen: async (port, onConnection) => {
      const path = socketPath(folders.listen, port);
      await prepareFolder(folders.listen);
      await removeStaleSocket(path);
      return listen(path, onConnection);
    },
  };
}

function socketPath(folder: string, port: number): string {
  const path = join(folder, `${port}.sock`);
  const sizeBytes = Buffer.byteLength(path);
  if (sizeBytes > SOCKET_PATH_MAX_BYTES) {
    throw new LinkError(
      'LINK_PATH_TOO_LONG',
      `A UNIX socket path has at most ${SOCKET_PATH_MAX_BYTES} bytes, found ${sizeBytes}: ${path}`,
    );
  }
  return path;
}

async function dial(path: string, timeoutMs: number): Promise<Duplex> {
  const deadline = performance.now() + timeoutMs;
  for (let pauseMs = 2; ; pauseMs = Math.min(pauseMs * 2, 50)) {
    try {
      return await connect(path, deadline - performance.now());
    } catch (error) {
      // A full backlog is EAGAIN on a UNIX socket, where TCP and vsock would make the caller wait.
      if (errnoOf(error) !== 'EAGAIN') throw asLinkError(error, path);
      if (performance.now() + pauseMs >= deadline) throw timedOut(path, timeoutMs);
      await sleep(pauseMs);
    }
  }
}

function connect(path: string, timeoutMs: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = createConnection({ path, allowHalfOpen: true });
    const timer = setTimeout(() => socket.destroy(timedOut(path, timeoutMs)), Math.max(timeoutMs, 1));
    socket.once('error', (error) => {
      clearTimeout(timer);
      reject(error);
    });
    socket.once('connect', () => {
      clearTimeout(timer);
      surviveReset(socket);
      resolve(socket);
    });
  });
}

async function listen(path: string, onConnection: (connection: Duplex) => void): Promise<Listener> {
  const server = createServer({ allowHalfOpen: true }, (connection) => {
    surviveReset(connection);
    onConnection(connection);
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => reject(asLinkError(error, path)));
    server.listen({ path, backlog: BACKLOG }, resolve);
  });
  // A failed accept (too many open files) loses that one connection and must not end the process.
  server.on('error', () => {});
  await chmod(path, 0o600);
  return {
    close: async () => {
      server.close();
    },
  };
}

/** Without any listener a reset by the peer would end the process; the owner of the stream may add its own. */
function surviveReset(socket: Socket): void {
  socket.on('error', () => {});
}

async function prepareFolder(folder: string): Promise<void> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const found = await lstat(folder);
  if (!found.isDirectory() || found.uid !== process.geteuid?.() || (found.mode & 0o077) !== 0) {
    throw new LinkError(
      'LINK_FOLDER_UNSAFE',
      `Expected a folder of this user with mode 0700, found mode 0${(found.mode & 0o777).toString(8)}, user ${found.uid}: ${folder}`,
    );
  }
}

/** A killed run leaves its socket file behind: it is replaced only when nobody answers on it. */
async function removeStaleSocket(path: string): Promise<void> {
  const found = await lstat(path).catch((error) => {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  });
  if (found === undefined) return;
  if (!found.isSocket())
    throw new LinkError('LINK_ADDRESS_IN_USE', `Expected a socket, found another file: ${path}`);
  try {
    const live = await connect(path, STALE_PROBE_TIMEOUT_MS);
    live.destroy();
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return;
    if (errnoOf(error) === 'ECONNREFUSED') return unlink(path);
  }
  throw new LinkError('LINK_ADDRESS_IN_USE', `Another process listens on ${path}.`);
}

function asLinkError(error: unknown, path: string): unknown {
  const errno = errnoOf(error);
  if (errno === 'ENOENT' || errno === 'ECONNREFUSED') {
    return new LinkError('LINK_UNREACHABLE', `Nobody listens on ${path}.`, error);
  }
  if (errno === 'EADDRINUSE') return new LinkError('LINK_ADDRESS_IN_USE', `${path} is taken.`, error);
  return error;
}

function timedOut(path: string, timeoutMs: number): LinkError {
  return new LinkError('LINK_TIMEOUT', `No connection to ${path} within ${Math.ceil(timeoutMs)} ms.`);
}

function errnoOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error ? String(error.code) : undefined;
}
