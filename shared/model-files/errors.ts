import { type ErrorTable, StrongroomError } from '../errors.ts';

export const modelFileErrors = {
  MODEL_FILE_MALFORMED: {
    exit: 2,
    means: 'A model file is not what its format says: cut off, contradicting itself, or beyond every bound.',
    action: 'Export the model again. If it came from somebody else, treat the file as hostile.',
  },
  MODEL_FILE_UNSUPPORTED: {
    exit: 2,
    means:
      'A model file uses something that is not served, for example foreign operators or an unknown architecture.',
    action:
      'Export ONNX with standard operators, inlined and without training information; convert GGUF to a listed architecture and tensor type.',
  },
  MODEL_FILES_DISAGREE: {
    exit: 2,
    means: 'A model refers to another file than those sealed with it, or beyond the end of one.',
    action:
      'Seal the folder that the exporter wrote: the .onnx file, exactly the data files it names, and the files of its tokenizer, if any, by their names; or one .gguf file.',
  },
} as const satisfies ErrorTable;

export class ModelFileError extends StrongroomError<keyof typeof modelFileErrors> {
  constructor(code: keyof typeof modelFileErrors, message: string) {
    super(modelFileErrors, code, message);
  }
}
