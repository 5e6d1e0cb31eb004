/**
 * What a sealed model calls itself and its files, and the rules for both (docs/sealed-model.md section 3).
 * One list of rules, used by the reader of heads, the reader of manifests and the sealer.
 */
export interface ModelIdentity {
  readonly name: string;
  /** A positive integer that grows; deployments state a minimum. */
  readonly version: number;
  /** For people, for example "2026-11 after review". */
  readonly versionLabel?: string;
  /** For example "onnx" or "gguf". */
  readonly format: string;
}

/** The same names that deployments, the link and evidence accept. */
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
const FORMAT = /^[a-z0-9][a-z0-9._+-]{0,31}$/;
/** Any text of one line: no control characters, no line or paragraph separators. */
const LABEL = /^[^\p{Cc}\u2028\u2029]{1,128}$/u;

/** Resolves to what is wrong with an identity, or undefined. */
export function faultOfIdentity({ name, version, versionLabel, format }: ModelIdentity): string | undefined {
  if (!NAME.test(name)) {
    return `the model name ${JSON.stringify(name)} must be 1 to 64 letters, digits, ".", "_" or "-", beginning with a letter or digit`;
  }
  if (!Number.isSafeInteger(version) || version < 1) {
    return `the model version ${version} must be a positive integer`;
  }
  if (versionLabel !== undefined && (!versionLabel.isWellFormed() || !LABEL.test(versionLabel))) {
    return 'the version label must be one line of 1 to 128 characters';
  }
  if (!FORMAT.test(format)) {
    return `the format ${JSON.stringify(format)} must be 1 to 32 lower-case letters, digits, ".", "_", "+" or "-"`;
  }
  return undefined;
}

const PATH_MAX_BYTES = 1024;
const PATH_PART_MAX_BYTES = 255;
const PATH_DEPTH_MAX = 32;

/** Resolves to what is wrong with a list of file paths, or undefined. They become real names on a tmpfs. */
export function faultOfPaths(paths: readonly string[]): string | undefined {
  let previous: string | undefined;
  const folders = new Set<string>();
  for (const path of paths) {
    const parts = path.split('/');
    if (!path.isWellFormed() || Buffer.byteLength(path) > PATH_MAX_BYTES || parts.length > PATH_DEPTH_MAX) {
      return `a file path is not well-formed, longer than ${PATH_MAX_BYTES} bytes or deeper than ${PATH_DEPTH_MAX}`;
    }
    if (/[\p{Cc}\\]/u.test(path)) return `the file path ${JSON.stringify(path)} has a forbidden character`;
    for (const part of parts) {
      if (part === '' || part === '.' || part === '..' || Buffer.byteLength(part) > PATH_PART_MAX_BYTES) {
        return `the file path ${JSON.stringify(path)} must be relative, without empty, "." or ".." parts`;
      }
    }
    if (previous !== undefined && comparePaths(previous, path) >= 0) {
      return `file paths must be unique and in order; ${JSON.stringify(path)} is not after ${JSON.stringify(previous)}`;
    }
    previous = path;
    for (let end = path.indexOf('/'); end !== -1; end = path.indexOf('/', end + 1)) {
      folders.add(path.slice(0, end));
    }
  }
  const both = paths.find((path) => folders.has(path));
  return both === undefined ? undefined : `${JSON.stringify(both)} is both a file and a folder`;
}

/** The order of files in a head: by the bytes of their UTF-8 paths. */
export function comparePaths(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}
