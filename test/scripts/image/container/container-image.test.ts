import { mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { cpioArchive } from '../../../../review/image/cpio.ts';
import { fileStream } from '../../../../review/image/eif/file-stream.ts';
import { measureEif } from '../../../../review/image/eif/measure-eif.ts';
import { RamdiskLister } from '../../../../review/image/eif/ramdisk.ts';
import { buildImage } from '../../../../scripts/image/build.ts';
import { containerRamdisk } from '../../../../scripts/image/container/container-ramdisk.ts';
import { main } from '../../../../scripts/strongroom.ts';
import { dockerArchive, type ImageOptions, imageConfig, Layout, sha256, TYPES } from './saved-image.ts';
import { file, folder, hardLink, link, tarFile, whiteout } from './tar-file.ts';

let base = '';
let count = 0;
beforeAll(() => {
  base = mkdtempSync(join(tmpdir(), 'strongroom-container-'));
});
afterAll(() => rmSync(base, { recursive: true, force: true }));
const place = () => {
  count += 1;
  return join(base, String(count));
};
const save = (bytes: Uint8Array): string => {
  const path = place();
  writeFileSync(path, bytes);
  return path;
};

const LAYERS = [
  tarFile([
    folder('usr'),
    folder('usr/bin'),
    file('usr/bin/app', 'an app', { mode: 0o755 }),
    file('gone', 'x'),
  ]),
  tarFile([whiteout('.wh.gone'), link('app', 'usr/bin/app'), hardLink('again', 'usr/bin/app')]),
];

async function archiveOf(path: string, architecture: 'x86_64' | 'aarch64' = 'x86_64'): Promise<Buffer> {
  const spool = place();
  mkdirSync(spool);
  const pieces: Buffer[] = [];
  for await (const piece of cpioArchive(await containerRamdisk({ path, architecture, folder: spool }))) {
    pieces.push(Buffer.from(piece));
  }
  return Buffer.concat(pieces);
}

const layoutFolder = (options: ImageOptions = {}, layers = LAYERS): string => {
  const layout = new Layout();
  return layout.write(place(), [layout.image(layers, options)]);
};

describe('a container image', () => {
  it('becomes the ramdisk that nitro-cli makes: cmd, env, rootfs, in order, of root, without times', async () => {
    const path = layoutFolder({
      config: { Entrypoint: ['/usr/bin/app'], Cmd: ['--flag'], Env: ['B=2', 'A=1 x'] },
    });
    const archive = (await archiveOf(path)).toString('latin1');
    const [blobs, output] = [place(), place()];
    writeFileSync(blobs, 'x');
    await buildImage({
      ...{
        architecture: 'x86_64',
        kernelFile: blobs,
        initFile: blobs,
        nsmModuleFile: blobs,
        commandLine: '',
      },
      ...{ imageName: 'x', signer: undefined, outputFile: output, replace: false, at: new Date() },
      application: { kind: 'container-image', path },
    });
    const lister = new RamdiskLister();
    await measureEif(fileStream(output), { at: new Date(), ramdisks: lister });
    const lines = lister.outcomes[1]?.list?.entries.map(
      ({ kind, mode, path: name, userId, target }) =>
        `${kind} ${mode.toString(8)} ${userId} ${name}${target === undefined ? '' : ` -> ${target}`}`,
    );
    expect(lines).toEqual([
      'file 444 0 cmd',
      'file 444 0 env',
      'folder 555 0 rootfs',
      'file 755 0 rootfs/again',
      'link 777 0 rootfs/app -> usr/bin/app',
      ...['dev', 'proc', 'run', 'sys', 'tmp'].map((name) => `folder 755 0 rootfs/${name}`),
      'folder 755 0 rootfs/usr',
      'folder 755 0 rootfs/usr/bin',
      'file 755 0 rootfs/usr/bin/app',
      'folder 755 0 rootfs/var',
    ]);
    expect(archive).toContain('/usr/bin/app\n--flag\n');
    expect(archive).toContain('B=2\nA=1 x\n');
  });

  it('gives the same ramdisk however it was saved, packed and named', async () => {
    const expected = await archiveOf(layoutFolder());
    for (const options of [
      { packing: 'none' },
      { packing: 'zstd' },
      { packing: 'gzip', level: 1 },
    ] as const) {
      expect((await archiveOf(layoutFolder(options))).equals(expected)).toBe(true);
    }
    for (const packing of ['none', 'gzip', 'zstd'] as const) {
      expect((await archiveOf(save(dockerArchive(LAYERS, { packing })))).equals(expected)).toBe(true);
    }
    const layout = new Layout();
    const image = layout.image(LAYERS);
    expect((await archiveOf(save(layout.archive([image])))).equals(expected)).toBe(true);
    const tagged = (name: string) => ({
      ...image,
      annotations: { 'org.opencontainers.image.ref.name': name },
    });
    expect((await archiveOf(layout.write(place(), [tagged('1.0'), tagged('latest')]))).equals(expected)).toBe(
      true,
    );
  });

  it('changes with a byte, a mode, a name, a variable, an argument, each by itself', async () => {
    const of = async (member: Parameters<typeof tarFile>[0][number], config: object = {}) =>
      sha256(await archiveOf(layoutFolder({ config }, [tarFile([member])])));
    const digests = [
      await of(file('a', 'x')),
      await of(file('a', 'y')),
      await of(file('a', 'x', { mode: 0o755 })),
      await of(file('b', 'x')),
      await of(file('a', 'x'), { Env: ['PATH=/bin'] }),
      await of(file('a', 'x'), { Cmd: ['/usr/bin/app', 'x'] }),
    ];
    expect(new Set(digests).size).toBe(digests.length);
    expect(
      await of(file('a', 'x'), { Labels: { a: 'b' }, ExposedPorts: { '80/tcp': {} }, Volumes: { '/x': {} } }),
    ).toBe(digests[0]);
  });

  it('is chosen by its architecture, from an index in an index, past attestations and other platforms', async () => {
    const layout = new Layout();
    const platform = (architecture: string) => ({ os: 'linux', architecture });
    const amd64 = layout.image(LAYERS, { platform: platform('amd64') });
    const arm64 = layout.image([tarFile([file('arm')])], {
      architecture: 'arm64',
      platform: platform('arm64'),
    });
    const absent = {
      mediaType: TYPES.manifest,
      digest: `sha256:${'0'.repeat(64)}`,
      size: 1,
      platform: platform('s390x'),
    };
    const attestation = layout.add(
      TYPES.manifest,
      { schemaVersion: 2, config: layout.add('application/vnd.in-toto+json', {}), layers: [] },
      { platform: { os: 'unknown', architecture: 'unknown' } },
    );
    const index = layout.add(TYPES.index, {
      schemaVersion: 2,
      manifests: [amd64, arm64, absent, attestation],
    });
    const path = layout.write(place(), [index]);
    expect((await archiveOf(path)).equals(await archiveOf(layoutFolder()))).toBe(true);
    expect((await archiveOf(path, 'aarch64')).toString('latin1')).toContain('rootfs/arm');
    // A platform that is only in the config counts as well, and the config has the last word.
    const { platform: _, ...bare } = arm64;
    await expect(archiveOf(layout.write(place(), [bare]))).rejects.toMatchObject({
      code: 'CONTAINER_PLATFORM',
    });
    const lies = layout.write(place(), [{ ...arm64, platform: platform('amd64') }]);
    await expect(archiveOf(lies)).rejects.toMatchObject({ code: 'CONTAINER_PLATFORM' });
  });

  it('is taken by the command in place of the checkout and of a folder, and must be there', async () => {
    const blob = save(Buffer.from('x'));
    const inputs = ['--kernel', blob, '--init', blob, '--nsm-module', blob, '--arch', 'arm64', '--json'];
    const run = async (...args: string[]) => {
      const [stdout, stderr] = [new PassThrough(), new PassThrough()];
      const { signal } = new AbortController();
      const io = { stdin: new PassThrough(), stdout, stderr, signal };
      const exit = await main(['image', 'build', ...inputs, ...args], io);
      return { exit, output: String(stdout.read() ?? '') + String(stderr.read() ?? '') };
    };
    const out = place();
    const container = layoutFolder({ architecture: 'arm64' });
    const built = await run('--container', container, '-o', out);
    expect(built.exit, built.output).toBe(0);
    expect(JSON.parse(built.output).image.architecture).toBe('aarch64');
    expect(await run('--container', container, '--root', base, '-o', place())).toMatchObject({ exit: 2 });
    expect(await run('--container', join(base, 'absent'), '-o', place())).toMatchObject({ exit: 2 });
    expect(await run('--container', layoutFolder(), '-o', place())).toMatchObject({ exit: 2 });
  });

  it('leaves no unpacked layer behind, built, refused or interrupted', async () => {
    const blob = save(Buffer.from('x'));
    const temporary = place();
    mkdirSync(temporary);
    const before = process.env.TMPDIR;
    process.env.TMPDIR = temporary;
    const interrupted = new AbortController();
    interrupted.abort();
    try {
      const build = (path: string, signal = new AbortController().signal) =>
        buildImage({
          ...{
            architecture: 'x86_64',
            kernelFile: blob,
            initFile: blob,
            nsmModuleFile: blob,
            commandLine: '',
          },
          ...{
            imageName: 'x',
            signer: undefined,
            outputFile: place(),
            replace: false,
            at: new Date(),
            signal,
          },
          application: { kind: 'container-image', path },
        });
      await build(layoutFolder());
      await expect(build(layoutFolder({ config: { User: 'app' } }))).rejects.toThrow();
      await expect(build(layoutFolder(), interrupted.signal)).rejects.toThrow();
    } finally {
      if (before === undefined) delete process.env.TMPDIR;
      else process.env.TMPDIR = before;
    }
    expect(readdirSync(temporary)).toEqual([]);
  });
});

describe('a container image is refused', () => {
  const configured = (config: object) => () => layoutFolder({ config });
  /** Writes a layout after one of its files was changed. */
  const spoiled =
    (change: (files: Map<string, Uint8Array | string>, layout: Layout) => void) => (): string => {
      const layout = new Layout();
      const files = new Map(layout.files([layout.image(LAYERS)]));
      for (const [name, bytes] of layout.files([])) if (name.startsWith('blobs/')) files.set(name, bytes);
      change(files, layout);
      return save(tarFile([...files].map(([name, content]) => file(name, content))));
    };
  const blobWith = (
    files: ReadonlyMap<string, Uint8Array | string>,
    test: (bytes: Buffer) => boolean,
  ): string => {
    const found = [...files].find(([name, bytes]) => name.startsWith('blobs/') && test(Buffer.from(bytes)));
    return (found as [string, unknown])[0];
  };
  const isLayer = (bytes: Buffer) => bytes[0] === 0x1f;
  const isConfig = (bytes: Buffer) => bytes.includes('diff_ids');
  const isManifest = (bytes: Buffer) => bytes.includes('"layers":[{');
  const manifest = (change: (layout: Layout) => object) => (): string => {
    const layout = new Layout();
    const descriptor = layout.add(TYPES.manifest, change(layout));
    return layout.write(place(), [descriptor]);
  };
  const config = (layout: Layout, layers = LAYERS) => layout.add(TYPES.config, imageConfig(layers));
  const docker = (change: (manifest: Record<string, unknown>) => unknown) => (): string => {
    const bytes = JSON.stringify(imageConfig(LAYERS));
    const members = [file('c.json', bytes), ...LAYERS.map((layer, at) => file(`${at}.tar`, layer))];
    const list = change({ Config: 'c.json', Layers: ['0.tar', '1.tar'] });
    return save(tarFile([...members, file('manifest.json', JSON.stringify(list))]));
  };

  const cases: readonly (readonly [string, () => string, string])[] = [
    ['that runs as another user', configured({ User: 'node' }), 'CONTAINER_CONFIG'],
    ['that runs as another group', configured({ User: '0:1' }), 'CONTAINER_CONFIG'],
    ['that starts in another folder', configured({ WorkingDir: '/app' }), 'CONTAINER_CONFIG'],
    ['without a command', configured({ Cmd: null }), 'CONTAINER_CONFIG'],
    ['with an empty command', configured({ Cmd: [] }), 'CONTAINER_CONFIG'],
    ['with a command that is text', configured({ Cmd: '/usr/bin/app' }), 'CONTAINER_CONFIG'],
    ['with an argument of two lines', configured({ Cmd: ['/usr/bin/app', 'a\nb'] }), 'CONTAINER_CONFIG'],
    ['with an empty argument', configured({ Entrypoint: ['/usr/bin/app', ''] }), 'CONTAINER_CONFIG'],
    ['with a variable of two lines', configured({ Env: ['A=1\nNODE_OPTIONS=x'] }), 'CONTAINER_CONFIG'],
    ['with a variable without value', configured({ Env: ['A'] }), 'CONTAINER_CONFIG'],
    ['with a variable twice', configured({ Env: ['A=1', 'A=2'] }), 'CONTAINER_CONFIG'],
    [
      'without an environment, for which init has one of its own',
      configured({ Env: null }),
      'CONTAINER_CONFIG',
    ],
    [
      'for no platform that was asked for',
      () => layoutFolder({ architecture: 's390x' }),
      'CONTAINER_PLATFORM',
    ],
    [
      'that is two',
      () => {
        const layout = new Layout();
        return layout.write(place(), [layout.image(LAYERS), layout.image([tarFile([file('other')])])]);
      },
      'CONTAINER_PLATFORM',
    ],
    [
      'whose layer was changed',
      spoiled((files) => {
        const name = blobWith(files, isLayer);
        const bytes = Buffer.from(files.get(name) as Uint8Array);
        bytes.writeUInt8((bytes[9] as number) ^ 1, 9);
        files.set(name, bytes);
      }),
      'CONTAINER_DIGEST',
    ],
    [
      'whose layer is damaged inside',
      spoiled((files) => {
        const name = blobWith(files, isLayer);
        const bytes = Buffer.from(files.get(name) as Uint8Array);
        files.set(name, bytes.fill(0xff, 20, 60));
      }),
      'CONTAINER_DIGEST',
    ],
    [
      'whose layer is missing',
      spoiled((files) => files.delete(blobWith(files, isLayer))),
      'CONTAINER_DIGEST',
    ],
    [
      'whose layer is longer than it says',
      spoiled((files) => {
        const name = blobWith(files, isLayer);
        files.set(name, Buffer.concat([files.get(name) as Uint8Array, Buffer.of(0)]));
      }),
      'CONTAINER_DIGEST',
    ],
    [
      'whose config was changed',
      spoiled((files) => {
        const name = blobWith(files, isConfig);
        files.set(name, String(files.get(name)).replace('/usr/bin/app', '/usr/bin/apq'));
      }),
      'CONTAINER_DIGEST',
    ],
    [
      'whose manifest was changed',
      spoiled((files) => {
        const name = blobWith(files, isManifest);
        files.set(name, String(files.get(name)).replace('"schemaVersion":2', '"schemaVersion":1'));
      }),
      'CONTAINER_DIGEST',
    ],
    [
      'whose layers are not those of its config',
      manifest((layout) => {
        const layers = LAYERS.toReversed().map((layer) => layout.add(TYPES.none, layer));
        return { schemaVersion: 2, config: config(layout), layers };
      }),
      'CONTAINER_DIGEST',
    ],
    [
      'with fewer layers than its config',
      manifest((layout) => ({ schemaVersion: 2, config: config(layout), layers: [] })),
      'CONTAINER_FORM',
    ],
    [
      'with bytes behind a compressed layer',
      manifest((layout) => {
        const layers = [
          layout.add(TYPES.gzip, Buffer.concat([gzipSync(LAYERS[0] as Buffer), Buffer.from('more')])),
        ];
        return { schemaVersion: 2, config: config(layout, LAYERS.slice(0, 1)), layers };
      }),
      'CONTAINER_DIGEST',
    ],
    [
      'with a layer that is not what its type says',
      manifest((layout) => {
        const layers = [layout.add(TYPES.zstd, gzipSync(LAYERS[0] as Buffer))];
        return { schemaVersion: 2, config: config(layout, LAYERS.slice(0, 1)), layers };
      }),
      'CONTAINER_DIGEST',
    ],
    [
      'with a layer that others keep',
      manifest((layout) => {
        const type = 'application/vnd.oci.image.layer.nondistributable.v1.tar';
        return {
          schemaVersion: 2,
          config: config(layout),
          layers: LAYERS.map((layer) => layout.add(type, layer)),
        };
      }),
      'CONTAINER_FORM',
    ],
    [
      'with a layer that is no archive',
      () => layoutFolder({}, [Buffer.from('no archive'.repeat(100))]),
      'CONTAINER_TAR',
    ],
    [
      'with more layers than any runtime takes',
      () =>
        layoutFolder(
          { packing: 'none' },
          Array.from({ length: 129 }, () => tarFile([])),
        ),
      'CONTAINER_LIMIT',
    ],
    [
      'with a digest of another kind',
      spoiled((files) => files.set('index.json', String(files.get('index.json')).replace('sha256:', 'md5:'))),
      'CONTAINER_FORM',
    ],
    [
      'with a digest that leads elsewhere',
      spoiled((files) =>
        files.set(
          'index.json',
          String(files.get('index.json')).replace(/sha256:\w{64}/, 'sha256:../../../etc/passwd'),
        ),
      ),
      'CONTAINER_FORM',
    ],
    [
      'with a size that is no number',
      spoiled((files) =>
        files.set('index.json', String(files.get('index.json')).replace(/"size":\d+/, '"size":"1"')),
      ),
      'CONTAINER_DIGEST',
    ],
    [
      'of another version',
      spoiled((files) => files.set('oci-layout', '{"imageLayoutVersion":"2.0.0"}')),
      'CONTAINER_FORM',
    ],
    [
      'whose index says a member twice',
      spoiled((files) => files.set('index.json', '{"schemaVersion":2,"manifests":[],"manifests":[]}')),
      'CONTAINER_FORM',
    ],
    ['whose index is no JSON', spoiled((files) => files.set('index.json', '{')), 'CONTAINER_FORM'],
    ['without an index', spoiled((files) => files.delete('index.json')), 'CONTAINER_DIGEST'],
    ['of indexes without end', () => nested(8), 'CONTAINER_FORM'],
    [
      'of a docker archive whose config is not of its name',
      () => {
        const bytes = dockerArchive(LAYERS).toString('latin1').replace('linux', 'linuy');
        return save(Buffer.from(bytes, 'latin1'));
      },
      'CONTAINER_DIGEST',
    ],
    [
      'of a docker archive whose layers are swapped',
      docker((image) => [{ ...image, Layers: ['1.tar', '0.tar'] }]),
      'CONTAINER_DIGEST',
    ],
    [
      'of a docker archive without a layer',
      docker((image) => [{ ...image, Layers: ['0.tar', '2.tar'] }]),
      'CONTAINER_DIGEST',
    ],
    [
      'of a docker archive that names a file of this machine',
      docker((image) => [{ ...image, Layers: ['/etc/passwd', '../x'] }]),
      'CONTAINER_DIGEST',
    ],
    ['of a docker archive with two images', docker((image) => [image, image]), 'CONTAINER_PLATFORM'],
    ['of a docker archive with no list', docker((image) => image), 'CONTAINER_FORM'],
    ['that is compressed as a whole', () => save(gzipSync(dockerArchive(LAYERS))), 'CONTAINER_FORM'],
    ['that is a tar archive of something else', () => save(tarFile([file('a')])), 'CONTAINER_FORM'],
    ['that is no archive', () => save(Buffer.from('x'.repeat(2048))), 'CONTAINER_TAR'],
    [
      'that is an empty folder',
      () => {
        const path = place();
        mkdirSync(path);
        return path;
      },
      'CONTAINER_FORM',
    ],
    [
      'whose index is a link to a file of this machine',
      () => {
        const path = layoutFolder();
        rmSync(join(path, 'index.json'));
        symlinkSync('/etc/hostname', join(path, 'index.json'));
        return path;
      },
      'CONTAINER_DIGEST',
    ],
  ];
  it.each(cases)('%s', async (_, make, code) => {
    await expect(archiveOf(make())).rejects.toMatchObject({ code, exitCode: 2 });
  });

  function nested(depth: number): string {
    const layout = new Layout();
    let descriptor: object = layout.image(LAYERS);
    for (let level = 0; level < depth; level++) {
      descriptor = layout.add(TYPES.index, { schemaVersion: 2, manifests: [descriptor] });
    }
    return layout.write(place(), [descriptor]);
  }

  it('that expands beyond all measure, long before it has', async () => {
    const zeros = tarFile([file('zeros', Buffer.alloc(96 << 20))]);
    for (const packed of [
      { type: TYPES.gzip, bytes: gzipSync(zeros) },
      { type: TYPES.zstd, bytes: zstdCompressSync(zeros) },
    ]) {
      const layout = new Layout();
      const layers = [layout.add(packed.type, packed.bytes)];
      const image = layout.add(TYPES.manifest, { schemaVersion: 2, config: config(layout, [zeros]), layers });
      const path = layout.write(place(), [image]);
      await expect(archiveOf(path)).rejects.toMatchObject({ code: 'CONTAINER_LIMIT' });
    }
  });

  it('that is small in layers and large in hard links', async () => {
    const links = Array.from({ length: 300 }, (_, at) => hardLink(String(at), 'zeros'));
    const path = layoutFolder({ packing: 'none' }, [
      tarFile([file('zeros', Buffer.alloc(60 << 20)), ...links]),
    ]);
    await expect(archiveOf(path)).rejects.toMatchObject({ code: 'CONTAINER_LIMIT' });
  });
});
