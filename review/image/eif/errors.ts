import { type ErrorTable, StrongroomError } from '../../../shared/errors.ts';

const BUILD_AGAIN = 'Do not start it; build the image again, or get an unchanged copy.';

export const eifErrors = {
  EIF_TRUNCATED: {
    exit: 2,
    means: 'The image file ends before its header says that it does.',
    action: 'Copy the file again, whole.',
  },
  EIF_TRAILING_BYTES: {
    exit: 2,
    means: 'Something follows the last section of the image file.',
    action: BUILD_AGAIN,
  },
  EIF_NOT_AN_IMAGE: {
    exit: 2,
    means: 'The file does not begin as an enclave image does.',
    action: 'Give the .eif file that nitro-cli or strongroom image build wrote.',
  },
  EIF_VERSION: {
    exit: 2,
    means: 'The image file is of a version that is not supported.',
    action: 'Build the image with a current nitro-cli or with strongroom image build.',
  },
  EIF_HEADER: {
    exit: 2,
    means: 'A field of the header, or a flag of a section, has a value that it cannot have.',
    action: BUILD_AGAIN,
  },
  EIF_TABLES: {
    exit: 2,
    means:
      'The tables in the header and the sections in the file disagree, so two readers would see two images.',
    action: BUILD_AGAIN,
  },
  EIF_LIMIT: {
    exit: 2,
    means: 'The image, or a section of it, is larger than any image is.',
    action: BUILD_AGAIN,
  },
  EIF_SECTIONS: {
    exit: 2,
    means: 'A section is missing, unknown, there too often, or in the wrong place.',
    action: BUILD_AGAIN,
  },
  EIF_CRC: {
    exit: 2,
    means: 'The checksum of the image file is wrong: it was damaged or changed.',
    action: 'Copy the file again, whole; if that does not help, build it again.',
  },
  EIF_COMMAND_LINE: {
    exit: 2,
    means: 'The kernel command line is not text.',
    action: BUILD_AGAIN,
  },
  EIF_METADATA: {
    exit: 2,
    means: 'The metadata is not one strict JSON object.',
    action: BUILD_AGAIN,
  },
  EIF_SIGNATURE_FORM: {
    exit: 2,
    means: 'The signature section is not what a signing tool writes.',
    action: 'Sign the image again.',
  },
  EIF_SIGNATURE_WRONG: {
    exit: 2,
    means: 'The signature is not over this image, or not by the key of its certificate.',
    action: 'Do not start it; find out who signed what, and sign the image again.',
  },
  EIF_INPUT: {
    exit: 2,
    means: 'An image cannot be made of what was given.',
    action: 'Give the file that the message asks for.',
  },
  EIF_OUTPUT: {
    exit: 2,
    means: 'The image file was not written, or is not there as it was meant.',
    action: 'Choose another name or say --force; check that the disk has space.',
  },
  EIF_READ_BACK: {
    exit: 3,
    means: 'The image that was written is not the image that was meant; it was removed.',
    action: 'Stop whatever changes the inputs, check the disk, and build again.',
  },
  CPIO_MALFORMED: {
    exit: 2,
    means: 'A ramdisk is not a well-formed newc archive, so nobody can list it with certainty.',
    action: 'Do not start the image; build it again.',
  },
  CPIO_LIMIT: {
    exit: 2,
    means: 'A ramdisk holds more than a listing can hold, or expands beyond all measure.',
    action: 'Do not start the image; build it again.',
  },
  DEBIAN_LOCK: {
    exit: 2,
    means: 'The lock file of Debian packages is not as it should be, or has nothing for this platform.',
    action: 'Take deploy/debian-packages.lock.json of the commit that you build.',
  },
  DEBIAN_PACKAGE_MISSING: {
    exit: 2,
    means: 'A Debian package that the image takes its C library from is not there.',
    action: 'Run node scripts/debian-packages.ts download, or give the folder with --packages.',
  },
  DEBIAN_PACKAGE_WRONG: {
    exit: 2,
    means: 'A Debian package, or a file in it, is not the one of the lock file.',
    action:
      'Download it again; if the archive has a newer version, update the lock file and review the change.',
  },
} as const satisfies ErrorTable;

export class EifError extends StrongroomError<keyof typeof eifErrors> {
  constructor(code: keyof typeof eifErrors, message: string, cause?: unknown) {
    super(eifErrors, code, message, cause);
  }
}
