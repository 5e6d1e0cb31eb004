import { type ErrorTable, StrongroomError } from '../../../shared/errors.ts';

const SAVE_AGAIN = 'Save the image again: buildah push IMAGE oci-archive:FILE, or docker save -o FILE IMAGE.';

export const containerImageErrors = {
  CONTAINER_FORM: {
    exit: 2,
    means: 'What was given is not a container image in one of the forms that can be read.',
    action: SAVE_AGAIN,
  },
  CONTAINER_DIGEST: {
    exit: 2,
    means: 'A part of the container image is missing, or is not what its digest or size says.',
    action: SAVE_AGAIN,
  },
  CONTAINER_LIMIT: {
    exit: 2,
    means: 'The container image is larger, deeper or more numerous than any enclave image is.',
    action: 'Make it smaller; if it expanded beyond all measure, find out who made it.',
  },
  CONTAINER_PLATFORM: {
    exit: 2,
    means: 'The container image has none, or more than one, for this architecture.',
    action: 'Choose with --arch, or save one image alone.',
  },
  CONTAINER_CONFIG: {
    exit: 2,
    means: 'The container image asks for a start that the init of an enclave does not give.',
    action: 'Change the Dockerfile: CMD with an absolute path, no WORKDIR but /, no USER but 0.',
  },
  CONTAINER_ENTRY: {
    exit: 2,
    means: 'A layer holds something that an enclave image cannot hold, or that two readers see differently.',
    action: 'Change what makes the layer; the message names the entry.',
  },
  CONTAINER_TAR: {
    exit: 2,
    means: 'A tar archive is malformed, or has a form that readers understand in more than one way.',
    action: SAVE_AGAIN,
  },
} as const satisfies ErrorTable;

export class ContainerImageError extends StrongroomError<keyof typeof containerImageErrors> {
  constructor(code: keyof typeof containerImageErrors, message: string, cause?: unknown) {
    super(containerImageErrors, code, message, cause);
  }
}
