/**
 * npm packages in the image, whole package by whole package, less what never runs there. A package brings its
 * declared dependencies; the exceptions are the table below, each with its reason. What is left out can only
 * make the image smaller: a file that is missing at run time fails to load, it is never fetched.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { basename, dirname, join, relative } from 'node:path';
import { ImageError } from './errors.ts';

/** The machine that the image is for: the values of npm's `os` and `cpu`. */
export interface ImagePlatform {
  readonly os: 'linux';
  readonly cpu: 'x64' | 'arm64';
}

export interface ImagePackage {
  readonly name: string;
  readonly version: string;
  /** From the project's folder: `node_modules/koffi`. */
  readonly path: string;
  /** The file or package that asks for it. */
  readonly because: string;
}

interface PackageRule {
  /** Dependencies that are declared but do not run in the image. */
  readonly withoutDependencies?: readonly string[];
  /** Files that do not run in the image, beside what is dropped from every package. */
  readonly withoutFiles?: (platform: ImagePlatform) => RegExp;
  /** What the package is made for, where it is imported beside that of the other platform. */
  readonly onlyFor?: ImagePlatform['cpu'];
  /** An optional dependency that this platform cannot do without. */
  readonly needs?: (platform: ImagePlatform) => string;
}

/** Beside the library: variants for processors that are in no machine with enclaves, and a note of the build. */
const LLAMA_WITHOUT = /^bins\/[^/]+\/(_|libggml-cpu-(sandybridge|ivybridge|piledriver|cannonlake)\.so)/;

const RULES: Readonly<Record<string, PackageRule>> = {
  // Its native speed-up is prebuilt for each platform and off in our CBOR reader.
  'cbor-x': { withoutDependencies: ['cbor-extract'] },
  // Sources for building the native part; one prebuilt binary comes with the platform's package.
  koffi: {
    withoutFiles: () => /^(vendor|lib|cnoke\.cjs|src\/koffi\/src\/(abi|[^/]*\.(inc|def)$))/,
    needs: ({ os, cpu }) => `@koromix/koffi-${os}-${cpu}`,
  },
  '@koromix/koffi-linux-x64': { withoutFiles: () => /^musl_/ },
  '@koromix/koffi-linux-arm64': { withoutFiles: () => /^musl_/ },
  '@node-llama-cpp/linux-x64': { onlyFor: 'x64', withoutFiles: () => LLAMA_WITHOUT },
  '@node-llama-cpp/linux-arm64': { onlyFor: 'arm64', withoutFiles: () => LLAMA_WITHOUT },
  // Bundled for browsers.
  'node-forge': { withoutFiles: () => /^(dist|flash)\// },
  // The install script downloads GPU providers; images have neither GPU nor install scripts.
  'onnxruntime-node': {
    withoutDependencies: ['adm-zip', 'global-agent'],
    withoutFiles: ({ os, cpu }) =>
      new RegExp(`^(script/|bin/napi-v\\d+/(?!${os}/${cpu}/)|.*(cuda|tensorrt|DirectML))`),
  },
};

const LICENCE = /^(licen[cs]e|notice|copying|copyright|third.?party)/i;
const NEVER_RUNS =
  /(^\.|\.(ts|mts|cts|map|md|markdown|flow|tsbuildinfo|cc|cpp|c|hh|hpp|h|S|asm|gyp|dll|dylib|exe|lib)$|^CMakeLists\.txt$)/;
/** Only at the top of a package: deeper down such names can be code. */
const TOP_FOLDERS_NEVER_RUN =
  /^(\..*|tests?|__tests__|specs?|docs?|examples?|bench|benchmarks?|node_modules)$/;

interface PackageJson {
  readonly name: string;
  readonly version: string;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
  readonly peerDependencies?: Readonly<Record<string, string>>;
  readonly peerDependenciesMeta?: Readonly<Record<string, { readonly optional?: boolean }>>;
  readonly os?: readonly string[];
  readonly cpu?: readonly string[];
}

/** The packages that `requests` (package name, asking file) reach, in order of their paths. */
export function packageClosure(
  projectFolder: string,
  requests: ReadonlyMap<string, string>,
  platform: ImagePlatform,
): readonly ImagePackage[] {
  const found = new Map<string, ImagePackage>();

  const add = (name: string, fromFolder: string, because: string, optional: boolean) => {
    const { onlyFor } = RULES[name] ?? {};
    if (onlyFor !== undefined && onlyFor !== platform.cpu) return;
    const folder = findPackage(projectFolder, name, fromFolder);
    if (folder === undefined) {
      if (optional) return;
      throw new ImageError(
        'IMAGE_SOURCE_UNREADABLE',
        `Package ${name}, asked for by ${because}, is not installed.`,
      );
    }
    const path = relative(projectFolder, folder);
    if (found.has(path)) return;
    const manifest = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as PackageJson;
    if (!fits(manifest, platform)) {
      if (optional) return;
      throw new ImageError(
        'IMAGE_SOURCE_UNREADABLE',
        `Package ${name}, asked for by ${because}, is not for ${platform.os}/${platform.cpu}.`,
      );
    }
    found.set(path, { name: manifest.name, version: manifest.version, path, because });
    const rule = RULES[manifest.name] ?? {};
    const needed = rule.needs?.(platform);
    for (const [dependency, isOptional] of dependenciesOf(manifest)) {
      if (rule.withoutDependencies?.includes(dependency)) continue;
      add(dependency, folder, path, isOptional && dependency !== needed);
    }
  };

  for (const [name, because] of requests) add(name, dirname(join(projectFolder, because)), because, false);
  return [...found.values()].sort((a, b) => (a.path < b.path ? -1 : 1));
}

/** The package's files that go into the image, relative to its folder, sorted. */
export function packageFiles(folder: string, name: string, platform: ImagePlatform): readonly string[] {
  const files: string[] = [];
  const dropped = RULES[name]?.withoutFiles?.(platform);
  const walk = (path: string) => {
    for (const entry of readdirSync(join(folder, path), { withFileTypes: true })) {
      const child = path === '' ? entry.name : `${path}/${entry.name}`;
      if (entry.isDirectory()) {
        const skipped =
          entry.name === 'node_modules' || (path === '' && TOP_FOLDERS_NEVER_RUN.test(entry.name));
        if (!skipped) walk(child);
      } else if (LICENCE.test(basename(child)) || !(NEVER_RUNS.test(entry.name) || dropped?.test(child))) {
        files.push(child);
      }
    }
  };
  walk('');
  return files.sort();
}

/** Node's own search: `node_modules` beside the asking file, then upwards, but never above the project. */
function findPackage(projectFolder: string, name: string, fromFolder: string): string | undefined {
  for (let folder = fromFolder; ; folder = dirname(folder)) {
    const candidate = join(folder, 'node_modules', name);
    if (statSync(join(candidate, 'package.json'), { throwIfNoEntry: false })?.isFile()) return candidate;
    if (folder === projectFolder || folder === dirname(folder)) return undefined;
  }
}

function dependenciesOf(manifest: PackageJson): ReadonlyMap<string, boolean> {
  const optional = manifest.optionalDependencies ?? {};
  const peersMeta = manifest.peerDependenciesMeta ?? {};
  return new Map([
    ...Object.keys(manifest.peerDependencies ?? {}).map(
      (name) => [name, peersMeta[name]?.optional === true] as const,
    ),
    ...Object.keys(manifest.dependencies ?? {}).map((name) => [name, false] as const),
    ...Object.keys(optional).map((name) => [name, true] as const),
  ]);
}

function fits(manifest: PackageJson, platform: ImagePlatform): boolean {
  const allows = (list: readonly string[] | undefined, value: string) =>
    list === undefined ||
    list.includes(value) ||
    (list.length > 0 && list.every((item) => /^!/.test(item) && item !== `!${value}`));
  return allows(manifest.os, platform.os) && allows(manifest.cpu, platform.cpu);
}
