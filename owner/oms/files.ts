/** The files of a folder as Model Signing sees them (OMS specification 1.0, sections 6.1 to 6.3), and their digests. */
import type { Dirent } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { fileSource } from '../../shared/sealed-model/source.ts';
import { expectNotAborted } from '../spool.ts';
import { sha256Of } from '../verify/segments.ts';
import { OmsError } from './errors.ts';
import type { OmsManifest, OmsResource, OmsSerialization } from './statement.ts';

/** Left out by every tool for the standard, at the top of a model alone (section 6.2). */
export const ALWAYS_IGNORED = ['.git', '.gitattributes', '.github', '.gitignore'];

export interface FoundFile {
  readonly path: string;
  readonly sizeBytes: number;
}

/** Throws OMS_FILES_DIFFER for a symbolic link, a pipe or a device: no statement that is read here allows one. */
export async function filesOf(folder: string, ignorePaths: readonly string[]): Promise<FoundFile[]> {
  const ignored = [...ALWAYS_IGNORED, ...ignorePaths];
  const found: FoundFile[] = [];
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    const path = pathOf(folder, entry);
    if (ignored.some((one) => path === one || path.startsWith(`${one}/`)) || entry.isDirectory()) continue;
    if (!entry.isFile()) throw differ(`${path} is not a regular file`);
    found.push({ path, sizeBytes: (await stat(join(folder, path))).size });
  }
  return found;
}

/** The names of a file's resources, with the range that each digest covers. An empty file has no shards. */
export function* rangesOf(
  { path, sizeBytes }: FoundFile,
  serialization: OmsSerialization,
): Iterable<{ readonly name: string; readonly start: number; readonly length: number }> {
  if (serialization.method === 'files') {
    yield { name: path, start: 0, length: sizeBytes };
    return;
  }
  const { shardBytes } = serialization;
  for (let start = 0; start < sizeBytes; start += shardBytes) {
    const end = Math.min(start + shardBytes, sizeBytes);
    yield { name: `${path}:${start}:${end}`, start, length: end - start };
  }
}

/** `onBytes` is told of every piece that was read. Throws SEALED_SOURCE_FAILED. */
export async function resourcesOf(
  folder: string,
  file: FoundFile,
  serialization: OmsSerialization,
  {
    signal,
    onBytes,
  }: { readonly signal?: AbortSignal | undefined; readonly onBytes?: (bytes: number) => void } = {},
): Promise<OmsResource[]> {
  await using source = await fileSource(join(folder, file.path));
  const resources: OmsResource[] = [];
  for (const { name, start, length } of rangesOf(file, serialization)) {
    const digest = await sha256Of(source, start, length, (bytes) => {
      expectNotAborted(signal);
      onBytes?.(bytes);
    });
    resources.push({ name, sha256: digest.toString('hex') });
  }
  return resources;
}

/** Throws OMS_FILES_DIFFER unless these are the resources that the manifest states, all of them and no other. */
export function expectResources(
  { resources }: Pick<OmsManifest, 'resources'>,
  found: readonly OmsResource[],
): void {
  const stated = new Map(resources.map(({ name, sha256 }) => [name, sha256]));
  for (const { name, sha256 } of found) {
    const expected = stated.get(name);
    if (expected === undefined) throw differ(`${JSON.stringify(name)} is there and not signed`);
    if (expected !== sha256)
      throw differ(`${JSON.stringify(name)} has SHA-256 ${sha256}, signed was ${expected}`);
    stated.delete(name);
  }
  const [missing] = stated.keys();
  if (missing !== undefined) throw differ(`${JSON.stringify(missing)} was signed and is not there`);
}

function pathOf(folder: string, entry: Dirent): string {
  return relative(folder, join(entry.parentPath, entry.name));
}

export function differ(why: string): OmsError {
  return new OmsError('OMS_FILES_DIFFER', `The files are not those that were signed: ${why}.`);
}
