/**
 * docs/certificates.md as it stands, with nginx (skipped where that is missing): a CA, certificates for a registry and a
 * parent, delivery, and renewal in the middle of a download.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { connect, type TLSSocket } from 'node:tls';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { main } from '../../scripts/strongroom.ts';
import { TLS_PROFILE } from '../../shared/tls-profile.ts';
import { ask } from '../parent/models/stores.ts';
import { pattern } from '../parent/setup.ts';

const NGINX = ['/usr/sbin/nginx', '/usr/local/sbin/nginx', '/usr/bin/nginx'].find((path) => {
  try {
    execFileSync(path, ['-v'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
});
/** Far more than the buffers of two sockets: it is still on its way while nobody reads. */
const PAYLOAD = pattern(64 * 1024 * 1024);

let folder = '';
let port = 0;
let nginx: ChildProcess;

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

const at = (...names: string[]) => join(folder, ...names);

/** The page's own server block, at this test's places. */
async function documentedServer(): Promise<string> {
  const page = await readFile(join(import.meta.dirname, '..', '..', 'docs', 'certificates.md'), 'utf8');
  const block = /^ {4}server \{\n[\s\S]*?^ {4}\}$/m.exec(page)?.[0] ?? '';
  expect(block).toContain('listen 443 ssl;');
  return block
    .replace('listen 443 ssl;', `listen 127.0.0.1:${port} ssl;`)
    .replaceAll('/srv/strongroom', at('www'))
    .replaceAll('/etc/strongroom', folder);
}

describe.skipIf(NGINX === undefined)(
  'a registry as documented, with nginx (skipped where nginx is missing)',
  () => {
    beforeAll(async () => {
      folder = await mkdtemp(join(tmpdir(), 'sr-delivery-'));
      // nginx's workers may have another uid than this test.
      await chmod(folder, 0o755);
      await strongroom(
        'cert',
        'ca',
        '--permit',
        '127.0.0.1',
        '--permit',
        'spiffe://models.example.org',
        '-o',
        at('ca'),
      );
      await strongroom('cert', 'issue', '--ca', at('ca'), '--server', '127.0.0.1', '-o', at('registry'));
      await strongroom(
        'cert',
        'issue',
        '--ca',
        at('ca'),
        '--client',
        'spiffe://models.example.org',
        '-o',
        at('parent-1'),
      );
      await copyFile(at('ca', 'certificate.pem'), at('ca.pem'));
      await mkdir(at('www', 'models', 'iris.sealed'), { recursive: true });
      await writeFile(at('www', 'models', 'iris.sealed', 'payload'), PAYLOAD);
      port = await freePort();
      await writeFile(
        at('nginx.conf'),
        `daemon off; pid ${at('nginx.pid')}; error_log stderr; worker_processes 1;
       events { worker_connections 64; }
       http {
         access_log off; client_body_temp_path ${at('t1')}; proxy_temp_path ${at('t2')};
         fastcgi_temp_path ${at('t3')}; uwsgi_temp_path ${at('t4')}; scgi_temp_path ${at('t5')};
         ${await documentedServer()}
       }`,
      );
      nginx = spawn(String(NGINX), ['-e', 'stderr', '-p', folder, '-c', at('nginx.conf')], {
        stdio: 'ignore',
      });
      await vi.waitFor(serialOf, { timeout: 30_000, interval: 100 });
    });

    afterAll(async () => {
      if (nginx !== undefined) {
        nginx.kill('SIGTERM');
        if (nginx.exitCode === null) await once(nginx, 'exit');
      }
      await rm(folder, { recursive: true, force: true });
    });

    const dial = async (): Promise<TLSSocket> => {
      const [ca, cert, key] = await Promise.all(
        [at('ca.pem'), at('parent-1', 'certificate.pem'), at('parent-1', 'key.pem')].map((path) =>
          readFile(path),
        ),
      );
      const socket = connect({ ...TLS_PROFILE, host: '127.0.0.1', port, ca, cert, key });
      await once(socket, 'secureConnect');
      return socket;
    };

    async function serialOf(): Promise<string | undefined> {
      const socket = await dial();
      try {
        return socket.getPeerX509Certificate()?.serialNumber;
      } finally {
        socket.destroy();
      }
    }

    it('delivers to the parent that has a certificate, and to nobody else', async () => {
      const url = `https://127.0.0.1:${port}/models`;
      const anybody = { kind: 'registry' as const, url, ca: at('ca.pem') };
      await using parent = await ask({
        ...anybody,
        certificate: at('parent-1', 'certificate.pem'),
        key: at('parent-1', 'key.pem'),
      });
      const target = new Uint8Array(1_000_000);
      await parent.host.payloadSource('iris', PAYLOAD.length).read(5_000_000, target);
      expect(Buffer.compare(target, PAYLOAD.subarray(5_000_000, 6_000_000))).toBe(0);
      await using stranger = await ask(anybody);
      await expect(stranger.host.fetchModelFile('iris', 'head', 100)).rejects.toThrow('found 502');
      expect(stranger.events).toMatchObject([{ error: 'PARENT_MODELS_REFUSED', reason: 'status-400' }]);
    });

    it.each([
      [
        'TLS 1.2',
        { minVersion: 'TLSv1.2' as const, maxVersion: 'TLSv1.2' as const, ciphers: 'ALL:@SECLEVEL=0' },
      ],
      ['a suite outside of the profile', { ciphers: 'TLS_AES_128_GCM_SHA256' }],
      ['a group outside of the profile', { ecdhCurve: 'P-521' }],
    ])('refuses %s', async (_what, options) => {
      const socket = connect({
        ...TLS_PROFILE,
        host: '127.0.0.1',
        port,
        rejectUnauthorized: false,
        ...options,
      });
      await expect(once(socket, 'secureConnect')).rejects.toThrow(/alert|handshake/);
    });

    it('takes a renewed certificate on reload, and finishes the download that was running', async () => {
      const before = await serialOf();
      const socket = await dial();
      socket.write('GET /models/iris.sealed/payload HTTP/1.1\r\nHost: r\r\nConnection: close\r\n\r\n');
      await once(socket, 'readable');

      await strongroom('cert', 'renew', at('registry'), '--ca', at('ca'), '--within', '365');
      nginx.kill('SIGHUP'); // as "nginx -s reload" does
      await expect.poll(serialOf, { timeout: 30_000 }).not.toBe(before);

      const chunks: Buffer[] = [];
      for await (const chunk of socket as AsyncIterable<Buffer>) chunks.push(chunk);
      const whole = Buffer.concat(chunks);
      const body = whole.subarray(whole.indexOf('\r\n\r\n') + 4);
      expect(body.length).toBe(PAYLOAD.length);
      expect(body.equals(PAYLOAD)).toBe(true);
      await strongroom('cert', 'show', at('registry'), at('parent-1'), '--ca', at('ca'));
    });
  },
);

/** A port that was free a moment ago: nginx cannot say which one it took. */
async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port: free } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return free;
}
