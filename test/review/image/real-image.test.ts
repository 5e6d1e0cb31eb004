import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  appendFileSync,
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { imageClosure } from '../../../review/image/closure.ts';
import { cpioArchive } from '../../../review/image/cpio.ts';
import { rootFileSystem } from '../../../review/image/root-filesystem.ts';
import { layOutSimulatedImage } from '../../../simulator/image.ts';
import { removeTree } from '../../../simulator/run-folder.ts';

const ROOT = join(import.meta.dirname, '..', '..', '..');
const FOLDERS = ['enclave', 'shared', 'link', 'simulator', 'docs'];
const PLATFORM = { os: 'linux', cpu: process.arch as 'x64' | 'arm64' } as const;
const NODE_PACKAGE = `node-linux-${process.arch}`;

/** A checkout that a test may change: our files copied, packages linked, and a word for the Node binary. */
class Checkout {
  readonly folder = mkdtempSync(join(tmpdir(), 'strongroom-checkout-'));

  constructor() {
    for (const name of FOLDERS) cpSync(join(ROOT, name), join(this.folder, name), { recursive: true });
    mkdirSync(join(this.folder, 'node_modules'));
    for (const name of readdirSync(join(ROOT, 'node_modules'))) {
      if (name !== NODE_PACKAGE) {
        symlinkSync(join(ROOT, 'node_modules', name), join(this.folder, 'node_modules', name));
      }
    }
    mkdirSync(join(this.folder, 'node_modules', NODE_PACKAGE, 'bin'), { recursive: true });
    writeFileSync(join(this.folder, 'node_modules', NODE_PACKAGE, 'bin', 'node'), 'Node\n');
  }

  /** Replaces the link to a package by a copy that can be changed. */
  own(name: string): string {
    const path = join(this.folder, 'node_modules', name);
    rmSync(path);
    cpSync(join(ROOT, 'node_modules', name), path, { recursive: true });
    return path;
  }

  async digest(): Promise<string> {
    const closure = imageClosure({
      projectFolder: this.folder,
      entries: ['enclave/main.ts'],
      platform: PLATFORM,
    });
    const hash = createHash('sha384');
    const entries = rootFileSystem(closure, { nodeFlags: [], entry: 'enclave/main.ts', environment: {} });
    for await (const piece of cpioArchive(entries)) hash.update(piece);
    return hash.digest('hex');
  }
}

describe.skipIf(!existsSync(join(ROOT, 'enclave/main.ts')))('the image of this checkout', () => {
  let checkout: Checkout;
  let before: string;
  beforeAll(async () => {
    checkout = new Checkout();
    before = await checkout.digest();
  });
  afterAll(() => rmSync(checkout.folder, { recursive: true, force: true }));

  it('is the same in another folder and at another time', async () => {
    const other = new Checkout();
    expect(await other.digest()).toBe(before);
    rmSync(other.folder, { recursive: true });
  });

  it('does not change with docs/', async () => {
    writeFileSync(join(checkout.folder, 'docs', 'flow.md'), 'another text\n');
    expect(await checkout.digest()).toBe(before);
  });

  it('changes with one line of enclave/, a dependency, a file mode and the Node binary, each by itself', async () => {
    const digests = [before];
    appendFileSync(join(checkout.folder, 'enclave', 'boot.ts'), '// one line\n');
    digests.push(await checkout.digest());
    appendFileSync(join(checkout.own('cbor-x'), 'decode.js'), '// one line\n');
    digests.push(await checkout.digest());
    chmodSync(join(checkout.folder, 'enclave', 'boot.ts'), 0o755);
    digests.push(await checkout.digest());
    appendFileSync(join(checkout.folder, 'node_modules', NODE_PACKAGE, 'bin', 'node'), '.');
    digests.push(await checkout.digest());
    expect(new Set(digests).size).toBe(5);
  });
});

describe.skipIf(!existsSync(join(ROOT, 'enclave/main.ts')))(
  'the copy that a simulated enclave starts from',
  () => {
    let base: string;
    let image: string;
    beforeAll(async () => {
      base = mkdtempSync(join(tmpdir(), 'strongroom-copy-'));
      image = join(base, 'image');
      await layOutSimulatedImage(ROOT, image);
    });
    afterAll(() => removeTree(base));

    it('holds what its packages need to load, after all that was left out', () => {
      const load = `
      const { createRequire } = require('node:module');
      const inImage = createRequire(process.argv[1] + '/rootfs/app/enclave/main.ts');
      const names = ['@aws-sdk/client-kms', '@smithy/node-http-handler', 'cbor-x', 'koffi', 'node-forge', 'onnxruntime-node'];
      for (const name of names) {
        if (!inImage.resolve(name).startsWith(process.argv[1])) throw new Error(name + ' is not of the image');
        inImage(name);
      }
      console.log('loaded ' + names.length);`;
      const output = execFileSync(join(image, 'rootfs/usr/bin/node'), ['-e', load, image], {
        env: { ORT_DISABLE_TELEMETRY: '1' },
        cwd: base,
      });
      expect(output.toString()).toBe('loaded 6\n');
    });

    it('holds nothing that can be written to, but for the folders that init mounts upon', () => {
      const open = execFileSync('find', [image, '-perm', '/222', '-printf', '%P\\n'])
        .toString()
        .trim()
        .split('\n');
      expect(open.sort()).toEqual(
        ['dev', 'proc', 'run', 'sys', 'tmp', 'var'].map((name) => `rootfs/${name}`),
      );
    });
  },
);
