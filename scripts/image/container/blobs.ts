/** The files inside a saved container image: of a folder, or of a tar archive. Nothing is unpacked. */
import { closeSync, fstatSync, lstatSync, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { ContainerImageError } from './errors.ts';
import { JSON_MAX_BYTES } from './json.ts';
import { tarMembers } from './tar.ts';
import type { Bytes } from './tar-scan.ts';

/** Where something of that name is; undefined if there is no such file. */
export type SavedFiles = (name: string) => Bytes | undefined;

/** Layers, manifests, configs, and for docker save three files more a layer. */
const MEMBERS_MAX = 4096;

/** Throws ContainerImageError, and what node:fs throws. */
export async function openSaved(path: string, signal?: AbortSignal): Promise<SavedFiles> {
  const status = lstatSync(path);
  if (status.isDirectory()) return (name) => fileIn(path, name);
  if (!status.isFile()) {
    throw new ContainerImageError('CONTAINER_FORM', `${path} is neither a folder nor a file.`);
  }
  const archive = { path, offsetBytes: 0, sizeBytes: status.size };
  const [first, second] = readBytes({ ...archive, sizeBytes: Math.min(2, status.size) });
  if (first === 0x1f && second === 0x8b) {
    throw new ContainerImageError(
      'CONTAINER_FORM',
      `${path} is compressed as a whole; give it unpacked: gunzip.`,
    );
  }
  const files = new Map<string, Bytes>();
  for (const { name, kind, content } of await tarMembers(archive, MEMBERS_MAX, signal)) {
    const plain = name.replace(/^\.\//, '');
    if (files.has(plain)) throw new ContainerImageError('CONTAINER_TAR', `${path} holds ${plain} twice.`);
    if (kind === 'file') files.set(plain, content);
  }
  return (name) => files.get(name);
}

/** Manifests and configs. They are small, or they are refused. */
export function readBytes({ path, offsetBytes, sizeBytes }: Bytes): Uint8Array {
  if (sizeBytes > JSON_MAX_BYTES) {
    throw new ContainerImageError(
      'CONTAINER_LIMIT',
      `A manifest or config of ${sizeBytes} bytes is too large.`,
    );
  }
  const bytes = new Uint8Array(sizeBytes);
  const fd = openSync(path, 'r');
  try {
    if (readSync(fd, bytes, 0, sizeBytes, offsetBytes) !== sizeBytes) {
      throw new ContainerImageError('CONTAINER_DIGEST', `${path} changed while it was read.`);
    }
  } finally {
    closeSync(fd);
  }
  return bytes;
}

/** Names come from us (`index.json`) or are made of a digest: no part of them is from the image. */
function fileIn(folder: string, name: string): Bytes | undefined {
  const path = join(folder, name);
  if (lstatSync(path, { throwIfNoEntry: false })?.isFile() !== true) return undefined;
  const fd = openSync(path, 'r');
  try {
    return { path, offsetBytes: 0, sizeBytes: fstatSync(fd).size };
  } finally {
    closeSync(fd);
  }
}
