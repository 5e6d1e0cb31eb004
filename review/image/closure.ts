/**
 * The import closure of an entry file: everything of the project that an image of it holds, and nothing else
 * (docs/simulation.md section 3). Our own files are taken one by one, packages as a whole.
 */
import { readFileSync, statSync } from 'node:fs';
import { isBuiltin } from 'node:module';
import { dirname, join, posix, relative, resolve } from 'node:path';
import { ImageError } from './errors.ts';
import { loadsOf } from './imports.ts';
import { type ImagePackage, type ImagePlatform, packageClosure } from './packages.ts';

export interface ImageFile {
  /** From the project's folder: `enclave/boot.ts`. */
  readonly path: string;
  /** The file that names it; undefined for an entry. */
  readonly because: string | undefined;
}

export interface Closure {
  readonly projectFolder: string;
  readonly platform: ImagePlatform;
  /** In order of their paths. */
  readonly files: readonly ImageFile[];
  readonly packages: readonly ImagePackage[];
}

/** Entries are paths from the project's folder. Throws ImageError. */
export function imageClosure(options: {
  readonly projectFolder: string;
  readonly entries: readonly string[];
  readonly platform: ImagePlatform;
}): Closure {
  const projectFolder = resolve(options.projectFolder);
  const files = new Map<string, ImageFile>();
  const packages = new Map<string, string>();
  const waiting: ImageFile[] = options.entries.map((path) => ({ path, because: undefined }));

  for (let file = waiting.shift(); file !== undefined; file = waiting.shift()) {
    if (files.has(file.path)) continue;
    const { path } = file;
    const source = readSource(projectFolder, file);
    files.set(path, file);
    if (!/\.[cm]?[jt]s$/.test(path)) continue;
    const { modules, files: named } = loadsOf(source, path);
    waiting.push({ path: nearestManifest(projectFolder, path), because: path });
    for (const name of [...modules, ...named.map((file) => `./${file}`)]) {
      if (isBuiltin(name)) continue;
      if (name.startsWith('.')) waiting.push({ path: inProject(path, name), because: path });
      else packages.set(packageName(path, name), path);
    }
  }
  return {
    projectFolder,
    platform: options.platform,
    files: [...files.values()].sort((a, b) => (a.path < b.path ? -1 : 1)),
    packages: packageClosure(projectFolder, packages, options.platform),
  };
}

function readSource(projectFolder: string, { path, because }: ImageFile): string {
  try {
    return readFileSync(join(projectFolder, path), 'utf8');
  } catch (error) {
    const asker = because === undefined ? 'an entry of the image' : `named in ${because}`;
    throw new ImageError('IMAGE_SOURCE_UNREADABLE', `${path}, ${asker}, cannot be read.`, error);
  }
}

function inProject(from: string, name: string): string {
  const path = posix.normalize(posix.join(posix.dirname(from), name));
  if (path.startsWith('../') || path.split('/').includes('node_modules')) {
    throw new ImageError(
      'IMAGE_IMPORT_UNCLEAR',
      `${from} names ${name}, which is not a file of the project.`,
    );
  }
  return path;
}

/** Node reads the nearest package.json to know that a .ts file is a module. */
function nearestManifest(projectFolder: string, path: string): string {
  for (let folder = dirname(join(projectFolder, path)); ; folder = dirname(folder)) {
    const candidate = join(folder, 'package.json');
    if (statSync(candidate, { throwIfNoEntry: false })?.isFile()) return relative(projectFolder, candidate);
    if (folder === projectFolder) {
      throw new ImageError('IMAGE_SOURCE_UNREADABLE', `${path} has no package.json above it.`);
    }
  }
}

/** `@scope/name/inside` -> `@scope/name` */
function packageName(from: string, specifier: string): string {
  const [, name] = /^((?:@[\w.-]+\/)?[\w.-]+)(?:\/|$)/.exec(specifier) ?? [];
  if (name === undefined || name.startsWith('@strongroom/')) {
    throw new ImageError(
      'IMAGE_IMPORT_UNCLEAR',
      `${from} imports ${specifier}: files of the project are imported by relative path, packages by name.`,
    );
  }
  return name;
}
