/**
 * The framework format of what is to be sealed, as far as it can be told: by what a file begins with, where its format
 * has a beginning of its own (GGUF, safetensors), and by its extension otherwise. ONNX is protobuf without a magic.
 */
import { open, readdir, stat } from 'node:fs/promises';
import { extname, join } from 'node:path';

/** Formats of which one in a folder says what the folder is; configuration and external data lie beside them. */
const WEIGHTS = ['onnx', 'gguf', 'safetensors'];
/** safetensors, "Format": a header of at most 100 MB. */
const SAFETENSORS_HEADER_MAX_BYTES = 100_000_000;

/** Undefined if it cannot be told: no extension, or files of several formats. */
export async function guessFormat(paths: readonly string[]): Promise<string | undefined> {
  const [only, ...more] = paths;
  if (only === undefined) return undefined;
  if (more.length === 0 && (await stat(only)).isFile()) return formatOfFile(only);
  const files = more.length === 0 ? await filesIn(only) : paths;
  const found = new Set<string>();
  for (const file of files) {
    const format = await formatOfFile(file);
    if (format !== undefined && WEIGHTS.includes(format)) found.add(format);
  }
  const [format, ...others] = found;
  return others.length === 0 ? format : undefined;
}

export function formatOfName(name: string): string | undefined {
  const extension = extname(name).slice(1).toLowerCase();
  return extension === '' ? undefined : extension;
}

async function formatOfFile(path: string): Promise<string | undefined> {
  if (!(await stat(path)).isFile()) return undefined; // opening a pipe would wait for its writer
  const file = await open(path, 'r');
  try {
    const { size } = await file.stat();
    const first = Buffer.alloc(9);
    const { bytesRead } = await file.read(first, 0, first.length, 0);
    if (bytesRead >= 4 && first.toString('latin1', 0, 4) === 'GGUF') return 'gguf';
    if (bytesRead === first.length && beginsAsSafetensors(first, size)) return 'safetensors';
    return formatOfName(path);
  } finally {
    await file.close();
  }
}

/** Its header's length (8 bytes, little-endian), then JSON. */
function beginsAsSafetensors(first: Buffer, sizeBytes: number): boolean {
  const headerBytes = first.readBigUInt64LE(0);
  const fits =
    headerBytes >= 2n && headerBytes <= SAFETENSORS_HEADER_MAX_BYTES && headerBytes + 8n <= sizeBytes;
  return fits && first[8] === 0x7b;
}

async function filesIn(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
}
