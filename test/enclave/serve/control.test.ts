import { mkdtempSync, rmSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ModelsError } from '../../../enclave/models/errors.ts';
import { serveControl } from '../../../enclave/serve/control.ts';
import type { Listener } from '../../../link/link.ts';
import { eventually } from '../../support/eventually.ts';
import { listenOn } from '../../support/serving.ts';

let folder: string;
let path: string;
let listener: Listener;
let drains: number;
let ready: boolean;
let asked: string[];
const STATUS = {
  name: 'iris',
  version: 3,
  contentId: 'ab'.repeat(32),
  loading: false,
  failure: null,
  inMemory: 1,
};
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'strongroom-control-'));
  path = join(folder, 'control.sock');
  drains = 0;
  ready = true;
  asked = [];
  const handler = serveControl(
    {
      get ready() {
        return ready;
      },
      drain: async () => {
        drains += 1;
      },
    },
    {
      status: () => [STATUS],
      load: (name) => {
        if (name !== 'iris') throw new ModelsError('MODELS_UNKNOWN', 'no such model');
        asked.push(`load ${name}`);
      },
      unload: () => {
        throw new ModelsError('MODELS_LAST', 'the last one');
      },
    },
  );
  listener = await listenOn(path, handler);
});
afterEach(async () => {
  await listener.close();
  rmSync(folder, { recursive: true, force: true });
});

function ask(method: string, url: string): Promise<{ status: number | undefined; body: unknown }> {
  return new Promise((resolve, reject) => {
    const request = httpRequest({ socketPath: path, method, path: url }, (response) => {
      let text = '';
      response.on('data', (chunk: Buffer) => {
        text += chunk.toString();
      });
      response.on('end', () => resolve({ status: response.statusCode, body: JSON.parse(text) }));
    });
    request.once('error', reject);
    request.end();
  });
}

describe('the control port', () => {
  it('says that the enclave lives, and whether it is ready', async () => {
    expect(await ask('GET', '/live')).toEqual({ status: 200, body: { live: true, ready: true } });
    ready = false;
    expect(await ask('GET', '/live')).toEqual({ status: 200, body: { live: true, ready: false } });
  });

  it('tells which models there are, and has one loaded', async () => {
    expect(await ask('GET', '/models')).toEqual({ status: 200, body: { models: [STATUS] } });
    expect(await ask('POST', '/models/iris/load')).toEqual({
      status: 200,
      body: { refused: null, models: [STATUS] },
    });
    expect(asked).toEqual(['load iris']);
  });

  it('says why not, by code', async () => {
    const unknown = await ask('POST', '/models/wine/load');
    expect(unknown.body).toEqual({ refused: 'MODELS_UNKNOWN', models: [STATUS] });
    const last = await ask('POST', '/models/iris/unload');
    expect(last.body).toEqual({ refused: 'MODELS_LAST', models: [STATUS] });
    expect((await ask('POST', '/models/../iris/load')).status).toBe(404);
    expect((await ask('GET', '/models/iris/load')).status).toBe(404);
    expect(asked).toEqual([]);
  });

  it('drains when asked to', async () => {
    expect(await ask('POST', '/drain')).toEqual({ status: 202, body: { draining: true } });
    expect(drains).toBe(1);
  });

  it.each([
    ['GET', '/drain'],
    ['POST', '/live'],
    ['GET', '/'],
    ['GET', '/live?x'],
  ])('knows nothing else: %s %s', async (method, url) => {
    expect((await ask(method, url)).status).toBe(404);
    expect(drains).toBe(0);
  });

  it('holds a bounded number of connections', async () => {
    const sockets = Array.from({ length: 17 }, () => connect(path));
    await Promise.all(sockets.map((socket) => new Promise((resolve) => socket.once('connect', resolve))));
    await new Promise((resolve) => (sockets[16] as (typeof sockets)[0]).once('close', resolve).resume());
    for (const socket of sockets) socket.destroy();
    await eventually(() => ask('GET', '/live').then(({ status }) => status)).toBe(200);
  });

  it('survives what is not HTTP', async () => {
    const socket = connect(path);
    socket.write('\x16\x03\x01\x00\x00\r\n\r\n');
    await new Promise((resolve) => socket.once('close', resolve).resume());
    expect((await ask('GET', '/live')).status).toBe(200);
  });
});
