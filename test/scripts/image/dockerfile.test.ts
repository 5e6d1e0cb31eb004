import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { layOut } from '../../../review/image/root-filesystem.ts';
import { type BuildOptions, buildImage } from '../../../scripts/image/build.ts';
import { applicationRamdisk } from '../../../scripts/image/ramdisks.ts';
import { removeTree } from '../../../simulator/run-folder.ts';

const ROOT = join(import.meta.dirname, '..', '..', '..');
const DOCKERFILE = join(ROOT, 'Dockerfile.enclave');
const ARCHITECTURE = process.arch === 'x64' ? 'x86_64' : 'aarch64';
const hasBuildah = spawnSync('buildah', ['--version']).status === 0;

/** Instructions of a Dockerfile without comments, each on one line. */
function instructions(): readonly string[] {
  const text = readFileSync(DOCKERFILE, 'utf8')
    .replace(/^#.*\n/gm, '')
    .replace(/\\\n/g, '');
  return text.split('\n').filter((line) => line.trim() !== '');
}

function startFile(name: 'cmd' | 'env'): string {
  const entry = applicationRamdisk(ROOT, ARCHITECTURE, []).find(({ path }) => path === name);
  if (entry?.kind !== 'file' || !(entry.content instanceof Uint8Array)) throw new Error(`no ${name}`);
  return Buffer.from(entry.content).toString();
}

describe('Dockerfile.enclave', () => {
  it('names the command and the environment of the image writer, word for word', () => {
    const [command = ''] = instructions().filter((line) => line.startsWith('CMD '));
    expect(JSON.parse(command.slice('CMD '.length))).toEqual(startFile('cmd').trimEnd().split('\n'));
    const [environment = ''] = instructions().filter((line) => line.startsWith('ENV '));
    expect(environment.slice('ENV '.length).split(' ')).toEqual(startFile('env').trimEnd().split('\n'));
  });

  it('does nothing but copy one tree into nothing, so there is nothing to fetch and no digest to name', () => {
    const names = instructions().map((line) => line.split(' ')[0]);
    expect(names).toEqual(['FROM', 'COPY', 'USER', 'WORKDIR', 'ENV', 'CMD']);
    expect(instructions().slice(0, 4)).toEqual(['FROM scratch', 'COPY rootfs/ /', 'USER 0:0', 'WORKDIR /']);
    expect(readFileSync(DOCKERFILE, 'utf8')).not.toMatch(/[0-9a-f]{32}/);
  });
});

describe.skipIf(!hasBuildah || process.getuid?.() !== 0)(
  'an image of Dockerfile.enclave (needs buildah, and root)',
  () => {
    let base = '';
    beforeAll(() => {
      base = mkdtempSync(join(tmpdir(), 'strongroom-buildah-'));
    });
    afterAll(() => removeTree(base));

    function buildah(...args: readonly string[]): void {
      const stores = [
        '--root',
        join(base, 'store'),
        '--runroot',
        join(base, 'run'),
        '--storage-driver',
        'vfs',
      ];
      const { status, stderr } = spawnSync('buildah', [...stores, ...args], { encoding: 'utf8' });
      expect(status, stderr).toBe(0);
    }

    async function registers(application: BuildOptions['application']) {
      const blob = join(base, 'blob');
      writeFileSync(blob, 'kernel, init and driver');
      const { measurements } = await buildImage({
        ...{ kernelFile: blob, initFile: blob, nsmModuleFile: blob, commandLine: 'quiet', imageName: 'x' },
        ...{ architecture: ARCHITECTURE, signer: undefined, at: new Date(), replace: true },
        outputFile: join(base, 'image.eif'),
        application,
      });
      return measurements;
    }

    it('has the measurements of the image that is built without a container, however it is saved', async () => {
      const context = join(base, 'context');
      mkdirSync(context);
      // Without the C library, whose packages may not be here; it is copied like everything else.
      await layOut(applicationRamdisk(ROOT, ARCHITECTURE, []), context);
      const direct = await registers({ kind: 'folder', folder: context });
      buildah('build', '--isolation', 'chroot', '-f', DOCKERFILE, '-t', 'enclave', context);
      const forms = { 'oci-archive': 'a.tar', 'docker-archive': 'b.tar', oci: 'c' };
      for (const [form, name] of Object.entries(forms)) {
        buildah('push', 'enclave', `${form}:${join(base, name)}`);
        const found = await registers({ kind: 'container-image', path: join(base, name) });
        expect(found, form).toEqual(direct);
      }
      buildah('push', '--compression-format', 'zstd', 'enclave', `oci:${join(base, 'zstd')}`);
      expect(await registers({ kind: 'container-image', path: join(base, 'zstd') })).toEqual(direct);
    }, 300_000);
  },
);
