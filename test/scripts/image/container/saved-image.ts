/** Container images as they are saved, made by hand: an OCI image layout in a folder, or what docker save writes. */
import { createHash } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { file, tarFile } from './tar-file.ts';

export const sha256 = (bytes: Uint8Array | string) => createHash('sha256').update(bytes).digest('hex');

export const TYPES = {
  index: 'application/vnd.oci.image.index.v1+json',
  manifest: 'application/vnd.oci.image.manifest.v1+json',
  config: 'application/vnd.oci.image.config.v1+json',
  none: 'application/vnd.oci.image.layer.v1.tar',
  gzip: 'application/vnd.oci.image.layer.v1.tar+gzip',
  zstd: 'application/vnd.oci.image.layer.v1.tar+zstd',
} as const;
export type Packing = 'none' | 'gzip' | 'zstd';

export interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
  readonly platform?: object;
}

/** Blobs by digest, and what refers to them. */
export class Layout {
  readonly blobs = new Map<string, Uint8Array>();

  add(mediaType: string, content: Uint8Array | object, more: object = {}): Descriptor {
    const bytes = content instanceof Uint8Array ? content : Buffer.from(JSON.stringify(content));
    const digest = sha256(bytes);
    this.blobs.set(digest, bytes);
    return { mediaType, digest: `sha256:${digest}`, size: bytes.length, ...more };
  }

  /** A descriptor of a whole image. */
  image(layers: readonly Uint8Array[], options: ImageOptions = {}): Descriptor {
    const { packing = 'gzip', level = 6 } = options;
    const packed = layers.map((layer) => this.add(TYPES[packing], pack(layer, packing, level)));
    const config = this.add(TYPES.config, imageConfig(layers, options));
    const { platform } = options;
    return this.add(
      TYPES.manifest,
      { schemaVersion: 2, config, layers: packed },
      platform === undefined ? {} : { platform },
    );
  }

  /** `manifests` are what index.json lists. */
  write(folder: string, manifests: readonly object[]): string {
    mkdirSync(join(folder, 'blobs', 'sha256'), { recursive: true });
    for (const [name, content] of this.files(manifests)) writeFileSync(join(folder, name), content);
    return folder;
  }

  /** The same in one archive. */
  archive(manifests: readonly object[]): Buffer {
    return tarFile([...this.files(manifests)].map(([name, content]) => file(name, content)));
  }

  files(manifests: readonly object[]): ReadonlyMap<string, Uint8Array | string> {
    return new Map<string, Uint8Array | string>([
      ['oci-layout', '{"imageLayoutVersion":"1.0.0"}'],
      ['index.json', JSON.stringify({ schemaVersion: 2, manifests })],
      ...[...this.blobs].map(([digest, bytes]) => [`blobs/sha256/${digest}`, bytes] as const),
    ]);
  }
}

export interface ImageOptions {
  readonly packing?: Packing;
  readonly level?: number;
  readonly platform?: object;
  readonly architecture?: string;
  /** Replaces members of the config's `config`. */
  readonly config?: object;
}

export function imageConfig(layers: readonly Uint8Array[], options: ImageOptions = {}): object {
  return {
    created: '2026-01-01T00:00:00Z',
    architecture: options.architecture ?? 'amd64',
    os: 'linux',
    config: { Env: ['PATH=/usr/bin'], Cmd: ['/usr/bin/app'], ...options.config },
    rootfs: { type: 'layers', diff_ids: layers.map((layer) => `sha256:${sha256(layer)}`) },
  };
}

export function dockerArchive(layers: readonly Uint8Array[], options: ImageOptions = {}): Buffer {
  const config = JSON.stringify(imageConfig(layers, options));
  const names = layers.map((layer) => `${sha256(layer)}.tar`);
  const packing = options.packing ?? 'none';
  return tarFile([
    ...layers.map((layer, at) => file(names[at] as string, pack(layer, packing, 6))),
    file(`${sha256(config)}.json`, config),
    file(
      'manifest.json',
      JSON.stringify([{ Config: `${sha256(config)}.json`, RepoTags: null, Layers: names }]),
    ),
  ]);
}

function pack(layer: Uint8Array, packing: Packing, level: number): Uint8Array {
  if (packing === 'none') return layer;
  return packing === 'gzip' ? gzipSync(layer, { level }) : zstdCompressSync(layer);
}
