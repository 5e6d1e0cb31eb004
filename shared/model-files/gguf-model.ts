/** A GGUF model is one file, whatever it is called. */
import { ModelFileError } from './errors.ts';
import type { ModelFiles } from './onnx-model.ts';

/** Throws ModelFileError. */
export function ggufFilesOf(paths: readonly string[]): ModelFiles {
  if (paths.length !== 1) {
    throw new ModelFileError(
      'MODEL_FILES_DISAGREE',
      `The model is refused: ${paths.length} files where a GGUF model has one; merge the parts of a split one with llama-gguf-split, and seal the file alone.`,
    );
  }
  return { main: 0, external: [], tokenizer: [] };
}
