import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdir, mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { linkErrors } from '../../link/errors.ts';
import type { Link } from '../../link/link.ts';
import { unixLink } from '../../link/unix.ts';
import { readAll } from '../parent/setup.ts';

const PORT = 7443;
const IN_TIME = { timeoutMs: 5_000 };

describe('a link over UNIX sockets', () => {
  let folder: string;
  let near: Link;
  let far: Link;
  let child: ChildProcess | undefined;

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'sr-'));
    near = unixLink({ dial: join(folder, 'far'), listen: join(folder, 'near') });
    far = unixLink({ dial: join(folder, 'near'), listen: join(folder, 'far') });
  });
  afterEach(async () => {
    child?.kill('SIGKILL');
    await rm(folder, { recursive: true });
  });

  it('joins both sides, each listening and each dialling', async () => {
    for (const [dialling, listening] of [
      [near, far],
      [far, near],
    ] as const) {
      const listener = await listening.listen(PORT, (connection) => connection.pipe(connection));
      const connection = await dialling.dial(PORT, IN_TIME);
      connection.end('ping');
      expect((await readAll(connection)).toString()).toBe('ping');
      await listener.close();
    }
  });

  it('keeps the other direction open when the dialling side has ended its own', async () => {
    const listener = await far.listen(PORT, async (connection) => {
      const question = await readAll(connection);
      connection.end(`answer to ${question}`);
    });
    const connection = await near.dial(PORT, IN_TIME);
    connection.end('question');
    expect((await readAll(connection)).toString()).toBe('answer to question');
    await listener.close();
  });

  it('keeps the other direction open when the listening side has ended its own', async () => {
    const received = Promise.withResolvers<string>();
    const listener = await far.listen(PORT, (connection) => {
      connection.end('greeting');
      readAll(connection).then((bytes) => received.resolve(bytes.toString()));
    });
    const connection = await near.dial(PORT, IN_TIME);
    expect((await readAll(connection)).toString()).toBe('greeting');
    connection.end('still sent');
    expect(await received.promise).toBe('still sent');
    await listener.close();
  });

  it('carries five hundred connections at once', async () => {
    const listener = await far.listen(PORT, (connection) => connection.pipe(connection));
    const answers = await Promise.all(
      Array.from({ length: 500 }, async (_, index) => {
        const connection = await near.dial(PORT, IN_TIME);
        connection.end(`connection ${index}`);
        return (await readAll(connection)).toString();
      }),
    );
    expect(answers).toEqual(Array.from({ length: 500 }, (_, index) => `connection ${index}`));
    await listener.close();
  });

  it('says that the other side is not running when nobody listens', async () => {
    const refusal = await near.dial(PORT, IN_TIME).catch((error) => error);
    expect(refusal).toMatchObject({ code: 'LINK_UNREACHABLE' });
    expect(refusal.action).toBe(linkErrors.LINK_UNREACHABLE.action);
    expect(refusal.action).toContain('the enclave is not running');
  });

  it('gives up at the deadline on a peer that accepts nothing', async () => {
    await mkdir(join(folder, 'far'), { mode: 0o700 });
    // Listens with room for one connection and then never returns to its event loop.
    const stuck = `
      require('node:net').createServer().listen({ path: ${JSON.stringify(join(folder, 'far', `${PORT}.sock`))}, backlog: 1 }, () => {
        require('node:fs').writeSync(1, 'listening');
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
      });`;
    child = spawn(process.execPath, ['-e', stuck], { stdio: ['ignore', 'pipe', 'inherit'] });
    await once(child.stdout as NodeJS.ReadableStream, 'data');
    const waiting: Duplex[] = [];
    let refusal: unknown;
    while (refusal === undefined && waiting.length < 8) {
      await near.dial(PORT, { timeoutMs: 100 }).then(
        (connection) => waiting.push(connection),
        (error) => {
          refusal = error;
        },
      );
    }
    expect(refusal).toMatchObject({ code: 'LINK_TIMEOUT' });
    for (const connection of waiting) connection.destroy();
  });

  it('refuses a folder whose socket paths the kernel cannot hold, and says how to shorten them', async () => {
    const long = unixLink({ dial: join(folder, 'x'.repeat(120)), listen: join(folder, 'x'.repeat(120)) });
    await expect(long.dial(PORT, IN_TIME)).rejects.toMatchObject({ code: 'LINK_PATH_TOO_LONG' });
    const refusal = await long.listen(PORT, () => {}).catch((error) => error);
    expect(refusal).toMatchObject({ code: 'LINK_PATH_TOO_LONG' });
    expect(refusal.action).toContain('relative to the working directory');
  });

  it('accepts a path of exactly 107 bytes and refuses 108', async () => {
    const room = 107 - `${folder}//${PORT}.sock`.length;
    const fits = unixLink({ dial: '', listen: join(folder, 'x'.repeat(room)) });
    await (await fits.listen(PORT, () => {})).close();
    const over = unixLink({ dial: '', listen: join(folder, 'x'.repeat(room + 1)) });
    await expect(over.listen(PORT, () => {})).rejects.toMatchObject({ code: 'LINK_PATH_TOO_LONG' });
  });

  it('lets only this user in: folder 0700, socket 0600', async () => {
    const listener = await far.listen(PORT, () => {});
    expect((await stat(join(folder, 'far'))).mode & 0o777).toBe(0o700);
    expect((await stat(join(folder, 'far', `${PORT}.sock`))).mode & 0o777).toBe(0o600);
    await listener.close();
  });

  it('refuses to listen in a folder that others can enter', async () => {
    await mkdir(join(folder, 'far'));
    await chmod(join(folder, 'far'), 0o750);
    await expect(far.listen(PORT, () => {})).rejects.toMatchObject({ code: 'LINK_FOLDER_UNSAFE' });
  });

  it('replaces the socket that a killed run has left behind', async () => {
    await mkdir(join(folder, 'far'), { mode: 0o700 });
    const path = JSON.stringify(join(folder, 'far', `${PORT}.sock`));
    const script = `require('node:net').createServer().listen(${path}, () => process.kill(process.pid, 'SIGKILL'))`;
    await once(spawn(process.execPath, ['-e', script]), 'exit');
    await expect(near.dial(PORT, IN_TIME)).rejects.toMatchObject({ code: 'LINK_UNREACHABLE' });
    const listener = await far.listen(PORT, (connection) => connection.end('new run'));
    expect((await readAll(await near.dial(PORT, IN_TIME))).toString()).toBe('new run');
    await listener.close();
  });

  it('never replaces the socket of a live process', async () => {
    const listener = await far.listen(PORT, (connection) => connection.end('first'));
    await expect(far.listen(PORT, () => {})).rejects.toMatchObject({ code: 'LINK_ADDRESS_IN_USE' });
    expect((await readAll(await near.dial(PORT, IN_TIME))).toString()).toBe('first');
    await listener.close();
  });

  it('never removes a file that is no socket', async () => {
    await mkdir(join(folder, 'far'), { mode: 0o700 });
    await writeFile(join(folder, 'far', `${PORT}.sock`), 'precious');
    await expect(far.listen(PORT, () => {})).rejects.toMatchObject({ code: 'LINK_ADDRESS_IN_USE' });
  });

  it('stops accepting on close while open connections live on', async () => {
    const listener = await far.listen(PORT, (connection) => connection.pipe(connection));
    const open = await near.dial(PORT, IN_TIME);
    open.write('a');
    await once(open, 'data');
    await listener.close();
    await expect(near.dial(PORT, IN_TIME)).rejects.toMatchObject({ code: 'LINK_UNREACHABLE' });
    open.end('b');
    expect((await readAll(open)).toString()).toBe('b');
  });

  it('survives a peer that is gone in the middle of a write', async () => {
    const accepted = Promise.withResolvers<Duplex>();
    const listener = await far.listen(PORT, (connection) => accepted.resolve(connection));
    const connection = await near.dial(PORT, IN_TIME);
    connection.write(Buffer.alloc(1_000_000));
    const peer = await accepted.promise;
    const closed = new Promise((resolve) => connection.once('close', resolve));
    peer.destroy();
    await closed;
    await listener.close();
  });
});
