import { type ErrorTable, StrongroomError } from '../../shared/errors.ts';

export const imageErrors = {
  IMAGE_SOURCE_UNREADABLE: {
    exit: 2,
    means: 'A file that the image would hold is missing or cannot be read.',
    action: 'Run npm ci in a complete checkout; the message names the file and who asks for it.',
  },
  IMAGE_IMPORT_UNCLEAR: {
    exit: 1,
    means: 'A file names what it loads in a way that cannot be followed without running it.',
    action: 'Write the name as one string literal, so that everything the image holds can be listed.',
  },
  IMAGE_FILE_REFUSED: {
    exit: 1,
    means: 'The root file system holds something that an image never holds.',
    action: 'Remove it: an image is made of regular files and folders with plain names only.',
  },
  IMAGE_CHANGED_WHILE_READ: {
    exit: 3,
    means: 'A file changed while the image was measured.',
    action: 'Stop whatever writes there and measure again.',
  },
} as const satisfies ErrorTable;

export class ImageError extends StrongroomError<keyof typeof imageErrors> {
  constructor(code: keyof typeof imageErrors, message: string, cause?: unknown) {
    super(imageErrors, code, message, cause);
  }
}
