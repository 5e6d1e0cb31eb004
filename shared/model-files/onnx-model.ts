/** An ONNX model of one or several files: the files that it names are exactly those that it consists of. */
import { ModelFileError } from './errors.ts';
import { checkOnnxFile, type OnnxFile } from './onnx-file.ts';
import type { FileBytes } from './protobuf.ts';

/** Which of a sealed model's files is which. */
export interface ModelFiles {
  /** Index of the file that the engine is given. */
  readonly main: number;
  /** The others, by the location that this file has for them: relative to its own folder. */
  readonly external: readonly { readonly index: number; readonly location: string }[];
  /** What makes tokens of text, by the names of TOKENIZER_FILES; none for a model of tensors. */
  readonly tokenizer: readonly { readonly index: number; readonly location: string }[];
}

/** As Hugging Face's libraries name them, below the folder that was sealed. The first makes the others be read. */
export const TOKENIZER_FILES = [
  'tokenizer.json',
  'tokenizer_config.json',
  'config.json',
  '1_Pooling/config.json',
] as const;

/**
 * The ONNX file is the only file, or the only one whose path ends in .onnx. Beside a tokenizer.json the names of
 * TOKENIZER_FILES are the tokenizer's; every other file is the ONNX file's. Throws ModelFileError.
 */
export function onnxFilesOf(paths: readonly string[]): ModelFiles {
  const named = paths.flatMap((path, index) => (path.endsWith('.onnx') ? [index] : []));
  const main = paths.length === 1 ? 0 : named[0];
  if (main === undefined || named.length > 1) {
    throw disagree(`${paths.length} files, of which ${named.length} end in .onnx: expected one`);
  }
  const mainPath = paths[main] ?? '';
  const folder = mainPath.slice(0, mainPath.lastIndexOf('/') + 1);
  const tokenizer = paths.includes(TOKENIZER_FILES[0])
    ? paths.flatMap((path, index) => (isOfTokenizer(path) ? [{ index, location: path }] : []))
    : [];
  const external = paths.flatMap((path, index) => {
    if (index === main || tokenizer.some((file) => file.index === index)) return [];
    if (!path.startsWith(folder)) throw disagree(`${JSON.stringify(path)} is outside the ONNX file's folder`);
    return [{ index, location: path.slice(folder.length) }];
  });
  return { main, external, tokenizer };
}

function isOfTokenizer(path: string): boolean {
  return TOKENIZER_FILES.some((name) => name === path);
}

export interface ExternalFile {
  readonly location: string;
  readonly sizeBytes: number;
}

/**
 * Checks the ONNX file, and that it refers to every other file, to no more, and nowhere beyond an end. Locations
 * are compared letter by letter with those of the model's own files, so `../`, absolute paths and the runtime's
 * own markers for memory can name nothing. Throws ModelFileError.
 */
export function checkOnnxModel(main: FileBytes, external: readonly ExternalFile[]): OnnxFile {
  const checked = checkOnnxFile(main);
  const others = new Map(external.map(({ location, sizeBytes }) => [location, sizeBytes]));
  for (const [location, end] of checked.externalEnds) {
    const sizeBytes = others.get(location);
    if (sizeBytes === undefined) {
      throw disagree(`it refers to ${JSON.stringify(location)}, which is not part of it`);
    }
    if (end > sizeBytes) {
      throw disagree(`it refers to byte ${end} of ${JSON.stringify(location)}, which has ${sizeBytes} bytes`);
    }
  }
  const extra = external.find(({ location }) => !checked.externalEnds.has(location));
  if (extra !== undefined) {
    throw disagree(`${JSON.stringify(extra.location)} is part of it, and it does not refer to it`);
  }
  return checked;
}

function disagree(why: string): ModelFileError {
  return new ModelFileError('MODEL_FILES_DISAGREE', `The model is refused: ${why}.`);
}
