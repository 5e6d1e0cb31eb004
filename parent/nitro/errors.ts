import { type ErrorTable, StrongroomError } from '../../shared/errors.ts';

export const nitroErrors = {
  NITRO_CLI_MISSING: {
    exit: 2,
    means: 'nitro-cli cannot be run.',
    action:
      'Install aws-nitro-enclaves-cli, or name the program in enclave.program; strongroom doctor checks the host.',
  },
  NITRO_CLI_FAILED: {
    exit: 3,
    means: 'nitro-cli ended with an error.',
    action: 'Do what the message says; strongroom doctor checks the host step by step.',
  },
  NITRO_CLI_TIMEOUT: {
    exit: 3,
    means: 'nitro-cli did not end in time and was killed.',
    action: 'Look at /var/log/nitro_enclaves; strongroom doctor checks the host step by step.',
  },
  NITRO_CLI_UNREADABLE: {
    exit: 3,
    means: 'nitro-cli said something else than it is documented to say.',
    action: 'Run the command of the message by hand; install a current aws-nitro-enclaves-cli.',
  },
  NITRO_SIZE_REFUSED: {
    exit: 1,
    means: 'The enclave as configured cannot hold its image and models, or the host cannot give it so much.',
    action:
      'Change enclave.memoryMib or cpuCount, or what the allocator reserves; strongroom run --check shows the arithmetic.',
  },
  NITRO_IMAGE_MISMATCH: {
    exit: 1,
    means: 'The image has another measurement than the configuration says. KMS would give it no key.',
    action: 'Put the released image in place, or correct enclave.pcr0 from strongroom image measure.',
  },
  NITRO_DEBUG_MODE: {
    exit: 1,
    means: 'The enclave runs in debug mode: this host can read everything in it, and its registers are zero.',
    action:
      'Find out who changed how it is started; Strongroom never asks for debug mode. It was terminated.',
  },
  NITRO_CID_TAKEN: {
    exit: 2,
    means: 'An enclave that is not ours has the context id of the configuration.',
    action: 'Terminate that enclave, or choose another link.enclaveCid.',
  },
  NITRO_ENCLAVE_SILENT: {
    exit: 3,
    means: 'The enclave started and did not come to serve.',
    action:
      "Look at the parent's log for what it asked last: deployment, models, credentials, KMS; docs/operations.md section 6.",
  },
} as const satisfies ErrorTable;

export class NitroError extends StrongroomError<keyof typeof nitroErrors> {
  constructor(code: keyof typeof nitroErrors, message: string, cause?: unknown) {
    super(nitroErrors, code, message, cause);
  }
}
