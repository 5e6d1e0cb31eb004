/**
 * Which image a saved file holds, and which layers it has: an OCI image layout (image-spec image-layout.md), or what
 * `docker save` wrote (moby image-spec "Combined Image JSON + Filesystem Changeset Format"). Newer Dockers write
 * one that is both; then it is read as the former, because that has a digest for everything.
 */
import { createHash } from 'node:crypto';
import type { Architecture } from '../../../review/image/eif/format.ts';
import type { JsonObject } from '../../../shared/json.ts';
import { openSaved, readBytes, type SavedFiles } from './blobs.ts';
import { type ContainerConfig, parseContainerConfig } from './config.ts';
import { ContainerImageError } from './errors.ts';
import { form, isObject, json, jsonValue, objectIn, objectsIn, textIn } from './json.ts';
import type { Bytes } from './tar-scan.ts';

export interface ContainerImage {
  readonly config: ContainerConfig;
  /** From the lowest up. */
  readonly layers: readonly SavedLayer[];
}

export interface SavedLayer {
  readonly bytes: Bytes;
  /** Of these bytes, hex; undefined where only the unpacked archive has a digest. */
  readonly sha256: string | undefined;
  /** Undefined: as the first bytes say. */
  readonly compression: 'none' | 'gzip' | 'zstd' | undefined;
  /** Of the unpacked archive, hex. */
  readonly diffId: string;
}

const LAYERS_MAX = 128;
/** Each is at most 4 MiB of JSON in memory. */
const MANIFESTS_MAX = 32;
const INDEX_DEPTH_MAX = 4;
const GO_ARCHITECTURES: Readonly<Record<Architecture, string>> = { x86_64: 'amd64', aarch64: 'arm64' };

const INDEX_TYPES = [
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
];
const MANIFEST_TYPES = [
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.docker.distribution.manifest.v2+json',
];
const CONFIG_TYPES = [
  'application/vnd.oci.image.config.v1+json',
  'application/vnd.docker.container.image.v1+json',
];
const LAYER_TYPES: Readonly<Record<string, SavedLayer['compression']>> = {
  'application/vnd.oci.image.layer.v1.tar': 'none',
  'application/vnd.oci.image.layer.v1.tar+gzip': 'gzip',
  'application/vnd.oci.image.layer.v1.tar+zstd': 'zstd',
  'application/vnd.docker.image.rootfs.diff.tar': 'none',
  'application/vnd.docker.image.rootfs.diff.tar.gzip': 'gzip',
  'application/vnd.docker.image.rootfs.diff.tar.zstd': 'zstd',
};

/** Layers are not looked into. Throws ContainerImageError. */
export async function openContainerImage(
  path: string,
  architecture: Architecture,
  signal?: AbortSignal,
): Promise<ContainerImage> {
  const files = await openSaved(path, signal);
  const layout = files('oci-layout');
  if (layout !== undefined) {
    if (json(readBytes(layout), 'oci-layout').imageLayoutVersion !== '1.0.0') {
      throw form('oci-layout is of another version than 1.0.0');
    }
    return ociImage(files, architecture);
  }
  if (files('manifest.json') !== undefined) return dockerImage(files, architecture);
  throw form(
    `${path} has neither oci-layout nor manifest.json, so it is no OCI image layout and not of docker save`,
  );
}

function ociImage(files: SavedFiles, architecture: Architecture): ContainerImage {
  const collected: Collected = { manifests: [], seen: new Set() };
  const index = json(readBytes(needed(files, 'index.json')), 'index.json');
  collectManifests(files, index, GO_ARCHITECTURES[architecture], collected, 0);
  const images = collected.manifests.flatMap((manifest) => {
    const descriptor = objectIn(manifest, 'config', 'a manifest');
    // Attestations and other artifacts have manifests too, with configs of their own.
    if (!CONFIG_TYPES.includes(textIn(descriptor, 'mediaType', 'a config'))) return [];
    const config = readBlob(files, descriptor);
    return isFor(config, architecture) ? [{ manifest, config }] : [];
  });
  const { manifest, config } = only(images, architecture);
  const descriptors = objectsIn(manifest, 'layers', 'a manifest');
  const layers = descriptors.map((descriptor) => {
    const type = textIn(descriptor, 'mediaType', 'a layer');
    if (!Object.hasOwn(LAYER_TYPES, type)) throw form(`a layer is of type ${JSON.stringify(type)}`);
    return {
      bytes: locateBlob(files, descriptor),
      sha256: digestOf(descriptor),
      compression: LAYER_TYPES[type],
    };
  });
  return withDiffIds(parseContainerConfig(config), layers);
}

interface Collected {
  readonly manifests: JsonObject[];
  /** Digests of manifests and indexes: each is read once. */
  readonly seen: Set<string>;
}

/** Through indexes within indexes. */
function collectManifests(
  files: SavedFiles,
  index: JsonObject,
  goArchitecture: string,
  collected: Collected,
  depth: number,
): void {
  if (index.schemaVersion !== 2) throw form('an index is of another schema than 2');
  for (const descriptor of objectsIn(index, 'manifests', 'an index')) {
    const digest = digestOf(descriptor);
    if (collected.seen.has(digest) || isForOthers(descriptor, goArchitecture)) continue;
    collected.seen.add(digest);
    if (collected.seen.size > MANIFESTS_MAX) {
      throw new ContainerImageError('CONTAINER_LIMIT', `Expected at most ${MANIFESTS_MAX} manifests.`);
    }
    const type = textIn(descriptor, 'mediaType', 'a descriptor');
    const content = json(readBlob(files, descriptor), `manifest ${digest}`);
    if (INDEX_TYPES.includes(type)) {
      if (depth === INDEX_DEPTH_MAX) throw form('indexes lie within indexes without end');
      collectManifests(files, content, goArchitecture, collected, depth + 1);
    } else if (MANIFEST_TYPES.includes(type)) {
      if (content.schemaVersion !== 2) throw form('a manifest is of another schema than 2');
      collected.manifests.push(content);
    } else throw form(`a descriptor is of type ${JSON.stringify(type)}`);
  }
}

/** What is for other platforms may be missing from what was saved. */
function isForOthers({ platform }: JsonObject, goArchitecture: string): boolean {
  if (!isObject(platform)) return false;
  const { os, architecture } = platform;
  return os !== 'linux' || architecture !== goArchitecture;
}

function dockerImage(files: SavedFiles, architecture: Architecture): ContainerImage {
  const list = jsonValue(readBytes(needed(files, 'manifest.json')), 'manifest.json');
  if (!Array.isArray(list) || !list.every(isObject)) throw form('manifest.json is no list of images');
  if (list.length > MANIFESTS_MAX) {
    throw new ContainerImageError('CONTAINER_LIMIT', `Expected at most ${MANIFESTS_MAX} images.`);
  }
  const images = list.flatMap((image) => {
    const name = textIn(image, 'Config', 'manifest.json');
    const config = readBytes(needed(files, name));
    // Docker names a config by its digest.
    const [, digest] = /(?:^|\/)([0-9a-f]{64})(?:\.json)?$/.exec(name) ?? [];
    if (digest !== undefined) expectSha256(config, digest, name);
    return isFor(config, architecture) ? [{ image, config }] : [];
  });
  const { image, config } = only(images, architecture);
  const names = image.Layers;
  if (!Array.isArray(names) || !names.every((name) => typeof name === 'string')) {
    throw form('manifest.json lists no layers');
  }
  const layers = names.map((name) => {
    return { bytes: needed(files, name), sha256: undefined, compression: undefined };
  });
  return withDiffIds(parseContainerConfig(config), layers);
}

function withDiffIds(config: ContainerConfig, layers: readonly Omit<SavedLayer, 'diffId'>[]): ContainerImage {
  const { diffIds } = config;
  if (layers.length !== diffIds.length) {
    throw form(`there are ${layers.length} layers, and the config lists ${diffIds.length}`);
  }
  if (layers.length > LAYERS_MAX) {
    throw new ContainerImageError('CONTAINER_LIMIT', `Expected at most ${LAYERS_MAX} layers.`);
  }
  return { config, layers: layers.map((layer, index) => ({ ...layer, diffId: diffIds[index] as string })) };
}

/** The config has the last word on what an image is for. */
function isFor(config: Uint8Array, architecture: Architecture): boolean {
  const { os, architecture: found } = json(config, 'the config');
  return os === 'linux' && found === GO_ARCHITECTURES[architecture];
}

function only<Image>(images: readonly Image[], architecture: Architecture): Image {
  const [image, ...others] = images;
  if (image === undefined || others.length > 0) {
    throw new ContainerImageError(
      'CONTAINER_PLATFORM',
      `Expected one image for linux/${GO_ARCHITECTURES[architecture]}, found ${images.length}.`,
    );
  }
  return image;
}

function readBlob(files: SavedFiles, descriptor: JsonObject): Uint8Array {
  const bytes = readBytes(locateBlob(files, descriptor));
  expectSha256(bytes, digestOf(descriptor), 'a manifest or config');
  return bytes;
}

/** Its size is checked here; its digest by whoever reads it. */
function locateBlob(files: SavedFiles, descriptor: JsonObject): Bytes {
  const bytes = needed(files, `blobs/sha256/${digestOf(descriptor)}`);
  if (bytes.sizeBytes !== descriptor.size) {
    throw new ContainerImageError(
      'CONTAINER_DIGEST',
      `Blob ${digestOf(descriptor)} has ${bytes.sizeBytes} bytes, its descriptor says ${String(descriptor.size)}.`,
    );
  }
  return bytes;
}

function digestOf(descriptor: JsonObject): string {
  const digest = textIn(descriptor, 'digest', 'a descriptor');
  const [, hex] = /^sha256:([0-9a-f]{64})$/.exec(digest) ?? [];
  if (hex === undefined) throw form(`a digest is ${JSON.stringify(digest)} and no SHA-256`);
  return hex;
}

function needed(files: SavedFiles, name: string): Bytes {
  const found = files(name);
  if (found === undefined) {
    throw new ContainerImageError(
      'CONTAINER_DIGEST',
      `The saved image does not hold ${JSON.stringify(name)}.`,
    );
  }
  return found;
}

export function expectSha256(bytes: Uint8Array, expected: string, what: string): void {
  expectDigest(createHash('sha256').update(bytes).digest('hex'), expected, what);
}

export function expectDigest(found: string, expected: string, what: string): void {
  if (found !== expected) {
    throw new ContainerImageError(
      'CONTAINER_DIGEST',
      `${what}: expected SHA-256 ${expected}, found ${found}.`,
    );
  }
}
