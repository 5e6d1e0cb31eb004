import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { PassThrough } from 'node:stream';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fileStream } from '../../../review/image/eif/file-stream.ts';
import { measureEif } from '../../../review/image/eif/measure-eif.ts';
import { RamdiskLister } from '../../../review/image/eif/ramdisk.ts';
import { layOut } from '../../../review/image/root-filesystem.ts';
import { type BuildOptions, buildImage } from '../../../scripts/image/build.ts';
import { debianFiles } from '../../../scripts/image/debian-files.ts';
import {
  DEBIAN_LOCK_FILE,
  DEBIAN_PACKAGES_FOLDER,
  readDebianLock,
} from '../../../scripts/image/debian-lock.ts';
import { applicationRamdisk, platformOf } from '../../../scripts/image/ramdisks.ts';
import { main } from '../../../scripts/strongroom.ts';
import { removeTree } from '../../../simulator/run-folder.ts';
import { testSigner } from '../../review/image/eif/eif-file.ts';
import { fixtureProject } from '../../review/image/fixture.ts';

const ROOT = join(import.meta.dirname, '..', '..', '..');
const hasReadelf = spawnSync('readelf', ['--version']).status === 0;
const hasDpkg = spawnSync('dpkg-deb', ['--version']).status === 0;
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

let base: string;
let blobs: Pick<BuildOptions, 'kernelFile' | 'initFile' | 'nsmModuleFile'>;
beforeAll(() => {
  base = mkdtempSync(join(tmpdir(), 'strongroom-build-'));
  const blob = (name: string) => {
    writeFileSync(join(base, name), `the ${name}\n`);
    return join(base, name);
  };
  blobs = { kernelFile: blob('bzImage'), initFile: blob('init'), nsmModuleFile: blob('nsm.ko') };
});
afterAll(() => removeTree(base));

const settings = () => ({
  ...blobs,
  architecture: 'x86_64' as const,
  commandLine: 'console=ttyS0',
  imageName: 'test',
  signer: undefined,
  replace: false,
  at: new Date(),
});

async function listing(path: string) {
  const lister = new RamdiskLister();
  await measureEif(fileStream(path), { at: new Date(), ramdisks: lister });
  return lister.outcomes.map(({ list }) => list?.entries ?? []);
}

describe('an image of a folder', () => {
  const makeRoot = (name: string, umask: number): string => {
    const before = process.umask(umask);
    const folder = join(base, name);
    mkdirSync(join(folder, 'rootfs', 'bin'), { recursive: true });
    writeFileSync(join(folder, 'cmd'), '/bin/app\n');
    writeFileSync(join(folder, 'env'), 'A=b\n');
    writeFileSync(join(folder, 'rootfs', 'bin', 'app'), 'an app');
    chmodSync(join(folder, 'rootfs', 'bin', 'app'), 0o700);
    process.umask(before);
    return folder;
  };

  it('is the same file from another folder, at another time and under another umask', async () => {
    const outputs = [];
    for (const [name, umask, at] of [
      ['one', 0o022, 0],
      ['two', 0o077, 1e12],
    ] as const) {
      const outputFile = join(base, `${name}.eif`);
      const application = { kind: 'folder', folder: makeRoot(name, umask) } as const;
      await buildImage({ ...settings(), application, outputFile, at: new Date(at) });
      outputs.push(readFileSync(outputFile));
    }
    expect(outputs[0]?.equals(outputs[1] as Buffer)).toBe(true);
  });

  it('holds nitro-cli’s two ramdisks', async () => {
    const outputFile = join(base, 'layout.eif');
    const application = { kind: 'folder', folder: makeRoot('layout', 0o022) } as const;
    const { commandLine, unmeasuredMetadata } = await buildImage({ ...settings(), application, outputFile });
    const shape = (await listing(outputFile)).map((entries) =>
      entries.map(({ kind, mode, path }) => `${kind} ${mode.toString(8)} ${path}`),
    );
    expect(shape).toEqual([
      ['folder 755 dev', 'file 755 init', 'file 755 nsm.ko'],
      [
        'file 444 cmd',
        'file 444 env',
        'folder 555 rootfs',
        'folder 555 rootfs/bin',
        'file 555 rootfs/bin/app',
        ...['dev', 'proc', 'run', 'sys', 'tmp', 'var'].map((name) => `folder 755 rootfs/${name}`),
      ],
    ]);
    expect(commandLine).toBe('console=ttyS0');
    expect(JSON.parse(JSON.stringify(unmeasuredMetadata))).toMatchObject({
      ImageName: 'test',
      DockerInfo: null,
      CustomMetadata: {
        inputs: { kernel: { file: 'bzImage', sha256: sha256(Buffer.from('the bzImage\n')) } },
      },
    });
  });

  it('is refused if it is laid out otherwise, or holds a link', async () => {
    const folder = makeRoot('odd', 0o022);
    const build = () =>
      buildImage({
        ...settings(),
        application: { kind: 'folder', folder },
        outputFile: join(base, 'odd.eif'),
      });
    symlinkSync('/etc/passwd', join(folder, 'rootfs', 'link'));
    await expect(build()).rejects.toMatchObject({ code: 'IMAGE_FILE_REFUSED' });
    rmSync(join(folder, 'rootfs', 'link'));
    writeFileSync(join(folder, 'stray'), '');
    await expect(build()).rejects.toMatchObject({ code: 'EIF_INPUT' });
    expect(existsSync(join(base, 'odd.eif'))).toBe(false);
  });

  it('is built and signed by the command, and measured by the other', async () => {
    const signer = testSigner('secp384r1');
    const [key, certificate, out] = ['key.pem', 'cert.pem', 'signed.eif'].map((name) => join(base, name)) as [
      string,
      string,
      string,
    ];
    writeFileSync(key, signer.keyPem);
    writeFileSync(certificate, signer.certificatePem);
    const run = async (...args: string[]) => {
      const [stdout, stderr] = [new PassThrough(), new PassThrough()];
      const exit = await main(['image', ...args], {
        stdin: new PassThrough(),
        stdout,
        stderr,
        signal: new AbortController().signal,
      });
      return { exit, output: String(stdout.read() ?? '') + String(stderr.read() ?? '') };
    };
    const inputs = [
      '--kernel',
      blobs.kernelFile,
      '--init',
      blobs.initFile,
      '--nsm-module',
      blobs.nsmModuleFile,
    ];
    const more = ['--root', makeRoot('signed', 0o022), '-o', out, '--json'];
    const built = await run('build', ...inputs, ...more, '--sign', key, '--certificate', certificate);
    expect(built.exit).toBe(0);
    expect(JSON.parse(built.output).Measurements.PCR8).toMatch(/^[0-9a-f]{96}$/);
    expect(await run('measure', out, '--json')).toEqual(built);

    expect((await run('build', ...inputs, ...more)).output).toContain('EIF_OUTPUT');
    expect((await run('build', ...inputs, ...more, '--force')).exit).toBe(0);
    const wrongKey = await run(
      'build',
      ...inputs,
      ...more,
      '--force',
      '--sign',
      certificate,
      '--certificate',
      key,
    );
    expect(wrongKey.exit).toBe(2);
    expect(wrongKey.output).not.toContain(signer.keyPem.slice(60, 90));
    expect((await run('build', ...inputs, ...more, '--sign', key)).exit).toBe(2);
    expect((await run('build', ...inputs, ...more, '--arch', 'mips')).exit).toBe(2);
    expect((await run('build', ...more)).exit).toBe(2);
  });
});

describe.skipIf(!hasDpkg)('an image of a checkout', () => {
  const LIBRARY = 'a C library\n';

  /** A Debian package of one file, and a lock file that names it. */
  function withPackage(projectFolder: string): string {
    const tree = mkdtempSync(join(base, 'deb-'));
    const write = (path: string, content: string) => {
      mkdirSync(dirname(join(tree, path)), { recursive: true });
      writeFileSync(join(tree, path), content);
    };
    write(
      'DEBIAN/control',
      'Package: libc6\nVersion: 1-1\nArchitecture: amd64\nMaintainer: a <a@b>\nDescription: x\n',
    );
    write('lib/libc.so.6', LIBRARY);
    write('usr/bin/sh', 'a shell');
    const packages = join(projectFolder, 'packages');
    mkdirSync(packages);
    const file = join(packages, 'libc6_1-1_amd64.deb');
    execFileSync('dpkg-deb', ['--root-owner-group', '--build', tree, file], { stdio: 'ignore' });
    lock(projectFolder, sha256(readFileSync(file)), sha256(Buffer.from(LIBRARY)));
    return packages;
  }
  function lock(projectFolder: string, packageSha256: string, fileSha256: string): void {
    mkdirSync(join(projectFolder, 'deploy'), { recursive: true });
    const files = [{ from: 'lib/libc.so.6', to: 'lib/libc.so.6', executable: false, sha256: fileSha256 }];
    const x64 = [{ name: 'libc6', version: '1-1', sha256: packageSha256, files }];
    const content = { format: 'strongroom-debian-packages/1', release: 'test', x64, arm64: [] };
    writeFileSync(join(projectFolder, DEBIAN_LOCK_FILE), JSON.stringify(content));
  }

  it('is the same file from two checkouts, and holds of a package what the lock names, nothing else', async () => {
    const images: Buffer[] = [];
    let entries: readonly { path: string; sha256: string | undefined }[] = [];
    for (const name of ['first', 'second']) {
      const project = fixtureProject();
      const application = {
        kind: 'checkout',
        projectFolder: project.folder,
        packagesFolder: withPackage(project.folder),
      } as const;
      const outputFile = join(base, `${name}-checkout.eif`);
      await buildImage({ ...settings(), application, outputFile });
      images.push(readFileSync(outputFile));
      [, entries = []] = await listing(outputFile);
      project.remove();
    }
    // The two packages were built at different times; their file is the same.
    expect(images[0]?.equals(images[1] as Buffer)).toBe(true);
    expect(entries.find(({ path }) => path === 'rootfs/lib/libc.so.6')?.sha256).toBe(
      sha256(Buffer.from(LIBRARY)),
    );
    expect(entries.some(({ path }) => path.endsWith('/sh'))).toBe(false);
    expect(entries.some(({ path }) => path === 'rootfs/app/enclave/main.ts')).toBe(true);
  });

  it('is refused without its packages, with another package, another file, or for another platform', async () => {
    const project = fixtureProject();
    const packagesFolder = withPackage(project.folder);
    const build = (architecture: 'x86_64' | 'aarch64', folder = packagesFolder) =>
      buildImage({
        ...settings(),
        architecture,
        application: { kind: 'checkout', projectFolder: project.folder, packagesFolder: folder },
        outputFile: join(base, 'refused.eif'),
      });
    await expect(build('x86_64', base)).rejects.toMatchObject({
      code: 'DEBIAN_PACKAGE_MISSING',
      exitCode: 2,
    });
    await expect(build('aarch64')).rejects.toMatchObject({ code: 'DEBIAN_LOCK' });
    const file = sha256(readFileSync(join(packagesFolder, 'libc6_1-1_amd64.deb')));
    lock(project.folder, file, '0'.repeat(64));
    await expect(build('x86_64')).rejects.toMatchObject({ code: 'DEBIAN_PACKAGE_WRONG' });
    lock(project.folder, '0'.repeat(64), sha256(Buffer.from(LIBRARY)));
    await expect(build('x86_64')).rejects.toMatchObject({ code: 'DEBIAN_PACKAGE_WRONG' });
    writeFileSync(join(project.folder, DEBIAN_LOCK_FILE), '{}');
    await expect(build('x86_64')).rejects.toMatchObject({ code: 'DEBIAN_LOCK' });
    expect(existsSync(join(base, 'refused.eif'))).toBe(false);
    project.remove();
  });
});

const ARCHITECTURE = process.arch === 'x64' ? 'x86_64' : 'aarch64';
const PLATFORM = platformOf(ARCHITECTURE);

describe('the application ramdisk of this checkout', () => {
  it('holds no simulator, no test, no tool of development and no shell', () => {
    const paths = applicationRamdisk(ROOT, ARCHITECTURE, []).map(({ path }) => path);
    const ours = paths.filter((path) => !path.includes('/node_modules/'));
    const strange =
      /^rootfs\/app\/(simulator|test|scripts|owner|client|parent|review|docs|deploy)(\/|$)|\.test\.|\/bin\/(?!node$)/;
    expect(ours.filter((path) => strange.test(path))).toEqual([]);
    const tools =
      /node_modules\/(vitest|typescript|@biomejs|knip|fast-check|@types|esbuild|undici|@peculiar)(\/|$)/;
    expect(paths.filter((path) => tools.test(path))).toEqual([]);
    expect(paths).toContain('rootfs/app/enclave/main.ts');
  });

  it.skipIf(!hasReadelf)('names every library that its native files need, and none more', () => {
    const lock = readDebianLock(join(ROOT, DEBIAN_LOCK_FILE))[PLATFORM.cpu];
    const locked = lock
      .flatMap(({ files }) => files.map(({ to }) => to))
      .filter((to) => !to.endsWith('copyright'));
    const entries = applicationRamdisk(ROOT, ARCHITECTURE, []);
    const native = entries.flatMap((entry) => {
      const isNative = /\.node$|\.so(\.\d+)*$|\/bin\/node$/.test(entry.path);
      return isNative && entry.kind === 'file' && typeof entry.content === 'string' ? [entry.content] : [];
    });
    const output = execFileSync('readelf', ['-d', ...native], { encoding: 'utf8' });
    const needed = new Set([...output.matchAll(/\(NEEDED\).*\[(.+)\]/g)].map(([, name = '']) => name));
    const own = new Set(native.map((path) => basename(path)));
    expect([...needed].filter((name) => !own.has(name)).sort()).toEqual(
      locked.map((to) => basename(to)).sort(),
    );
  });

  const packagesFolder = join(ROOT, DEBIAN_PACKAGES_FOLDER);
  const canRun = existsSync(packagesFolder) && process.getuid?.() === 0;
  it.skipIf(!canRun)(
    'starts its Node and every native part with nothing but what it holds (needs root, and node scripts/debian-packages.ts download)',
    async () => {
      const libraries = debianFiles(readDebianLock(join(ROOT, DEBIAN_LOCK_FILE)), packagesFolder, PLATFORM);
      const folder = join(base, 'complete');
      mkdirSync(folder);
      await layOut(applicationRamdisk(ROOT, ARCHITECTURE, libraries), folder);
      const load = `for (const name of ['koffi', 'onnxruntime-node']) require('/app/node_modules/' + name); console.log('loaded')`;
      const output = execFileSync('/usr/sbin/chroot', [join(folder, 'rootfs'), '/usr/bin/node', '-e', load], {
        env: { ORT_DISABLE_TELEMETRY: '1' },
      });
      expect(output.toString()).toBe('loaded\n');
    },
  );
});
