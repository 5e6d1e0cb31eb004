import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openLocalModel } from '../../../owner/publish/local-model.ts';
import { type PublishToFolder, publishToFolder } from '../../../owner/publish/to-folder.ts';
import { parseKeyFile } from '../../../shared/sealed-model/key-file.ts';
import { encodeKeyFile } from '../../../shared/sealed-model/key-file-write.ts';
import { MIB, read, type Sealed, sealIris, sha256, type World, world } from './setup.ts';

const ALL = ['payload', 'key.json', 'head', 'manifest.json'];

let here: World;
let iris: Sealed;
let out: string;
beforeEach(async () => {
  here = await world();
  iris = await sealIris(join(here.folder, 'any-name'), { sizeBytes: 3 * MIB });
  out = join(here.folder, 'store', 'iris.sealed');
});
afterEach(() => here[Symbol.asyncDispose]());

async function publish(folder: string, options: Partial<PublishToFolder> = {}) {
  await using model = await openLocalModel(folder);
  return await publishToFolder({ model, out, replace: false, ...options });
}

describe('publishing into a folder', () => {
  it('brings the four files there and nothing else', async () => {
    writeFileSync(join(iris.folder, 'iris.sealed.recovery.json'), 'never');
    expect(await publish(iris.folder)).toMatchObject({ contentId: iris.contentId, written: ALL });
    expect(readdirSync(out).sort()).toEqual(ALL.toSorted());
    for (const file of ALL) expect(sha256(read(out, file))).toBe(sha256(read(iris.folder, file)));
    expect(readdirSync(join(out, '..'))).toEqual(['iris.sealed']);
  });

  it('sends key.json alone after a rewrap, and nothing if nothing changed', async () => {
    await publish(iris.folder);
    expect(await publish(iris.folder)).toMatchObject({ written: [] });
    const { context, wraps } = parseKeyFile(read(iris.folder, 'key.json'));
    const rewrapped = wraps.map((wrap) => ({ ...wrap, label: 'another' }));
    writeFileSync(join(iris.folder, 'key.json'), encodeKeyFile({ context, wraps: rewrapped }));
    expect(await publish(iris.folder)).toMatchObject({ written: ['key.json'] });
    expect(readFileSync(join(out, 'key.json'))).toEqual(read(iris.folder, 'key.json'));
    expect(readdirSync(out).sort()).toEqual(ALL.toSorted());
  });

  it('refuses to replace another model unless told', async () => {
    await publish(iris.folder);
    const next = await sealIris(join(here.folder, 'next'), { sizeBytes: MIB, version: 2 });
    await expect(publish(next.folder)).rejects.toMatchObject({ code: 'PUBLISH_WOULD_REPLACE' });
    expect(sha256(read(out, 'head'))).toBe(iris.contentId);
    await publish(next.folder, { replace: true });
    expect(sha256(read(out, 'head'))).toBe(next.contentId);
    expect(readdirSync(join(out, '..'))).toEqual(['iris.sealed']);
  });

  it('leaves alone what is no sealed model, even if told to replace', async () => {
    mkdirSync(out, { recursive: true });
    writeFileSync(join(out, 'thesis.txt'), 'years of work');
    await expect(publish(iris.folder, { replace: true })).rejects.toMatchObject({
      code: 'PUBLISH_WOULD_REPLACE',
    });
    expect(readdirSync(out)).toEqual(['thesis.txt']);
  });

  it('leaves nothing behind when it is stopped, or when the payload is not that of the head', async () => {
    const stop = new AbortController();
    const onProgress = (): void => stop.abort();
    await expect(publish(iris.folder, { signal: stop.signal, onProgress })).rejects.toMatchObject({
      code: 'PUBLISH_STOPPED',
    });
    const payload = read(iris.folder, 'payload');
    payload[5] = (payload[5] ?? 0) ^ 1;
    writeFileSync(join(iris.folder, 'payload'), payload);
    await expect(publish(iris.folder)).rejects.toMatchObject({ code: 'PUBLISH_INPUT_UNUSABLE' });
    expect(existsSync(join(out, '..'))).toBe(false); // the command had made it
  });

  it('is what the command does with a path', async () => {
    const { code, stdout } = await here.run('publish', 'any-name', '--to', 'store').done;
    expect({ code, stdout }).toMatchObject({ code: 0, stdout: expect.stringContaining('store/iris.sealed') });
    expect(existsSync(join(out, 'manifest.json'))).toBe(true);
  });
});
