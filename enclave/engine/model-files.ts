/**
 * The model's files as this process has them, by descriptor. They are hostile until checked, and checked here,
 * where nothing is lost if the checker is the one that they attack.
 */
import { fstatSync, readSync } from 'node:fs';
import { ModelFileError } from '../../shared/model-files/errors.ts';
import { checkGgufFile, type GgufFile } from '../../shared/model-files/gguf-file.ts';
import { checkOnnxModel } from '../../shared/model-files/onnx-model.ts';
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
