/**
 * The model's files as this process has them, by descriptor. They are hostile until checked, and checked here,
 * where nothing is lost if the checker is the one that they attack.
 */
import { fstatSync, readSync } from 'node:fs';
import { ModelFileError } from '../../shared/model-files/errors.ts';
import { checkGgufFile, type GgufFile } from '../../shared/model-files/gguf-file.ts';
import { checkOnnxModel, TOKENIZER_FILES } from '../../shared/model-files/onnx-model.ts';
import type { FileBytes } from '../../shared/model-files/protobuf.ts';
import { FIRST_EXTERNAL_DESCRIPTOR, MODEL_DESCRIPTOR } from './channel.ts';
import { EngineError } from './errors.ts';

/** `external`: the locations of the other files, in the order of their descriptors. Throws ModelFileError. */
export function checkOnnxFiles(external: readonly string[]): void {
  checkOnnxModel(
    bytesOf(MODEL_DESCRIPTOR),
    external.map((location, index) => ({
      location,
      sizeBytes: fstatSync(FIRST_EXTERNAL_DESCRIPTOR + index).size,
    })),
  );
}

/** Larger than any published tokenizer (of 256,000 tokens: 33 MB). */
const TOKENIZER_MAX_BYTES = 64 * 2 ** 20;
const SETTINGS_MAX_BYTES = 2 ** 20;

/** The tokenizer's files by name, parsed; each is an object. `external`: how many files lie before them. Throws ModelFileError. */
export function readTokenizerFiles(
  tokenizer: readonly string[],
  external: number,
): ReadonlyMap<string, Readonly<Record<string, unknown>>> {
  return new Map(
    tokenizer.map((name, index) => {
      const file = bytesOf(FIRST_EXTERNAL_DESCRIPTOR + external + index);
      const mostBytes = name === TOKENIZER_FILES[0] ? TOKENIZER_MAX_BYTES : SETTINGS_MAX_BYTES;
      if (file.sizeBytes > mostBytes) {
        throw malformed(`${name} has ${file.sizeBytes} bytes, expected at most ${mostBytes}`);
      }
      const bytes = new Uint8Array(file.sizeBytes);
      file.read(0, bytes);
      return [name, objectIn(name, bytes)];
    }),
  );
}

function objectIn(name: string, bytes: Uint8Array): Readonly<Record<string, unknown>> {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch {
    throw malformed(`${name} is not JSON`);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw malformed(`${name} is no JSON object`);
  }
  return value as Record<string, unknown>;
}

function malformed(why: string): ModelFileError {
  return new ModelFileError('MODEL_FILE_MALFORMED', `The model is refused: ${why}.`);
}

/** A GGUF model is one file. Throws ModelFileError. */
export function checkGgufModel(external: readonly string[]): GgufFile {
  if (external.length > 0) {
    throw new ModelFileError('MODEL_FILES_DISAGREE', 'The model is refused: a GGUF model is one file.');
  }
  return checkGgufFile(bytesOf(MODEL_DESCRIPTOR));
}

function bytesOf(descriptor: number): FileBytes {
  return {
    sizeBytes: fstatSync(descriptor).size,
    read: (offsetBytes, target) => {
      for (let filled = 0; filled < target.length; ) {
        const count = readSync(descriptor, target, filled, target.length - filled, offsetBytes + filled);
        if (count === 0) throw new EngineError('ENGINE_START_FAILED', 'the model is shorter than it was');
        filled += count;
      }
    },
  };
}
