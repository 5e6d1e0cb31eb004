import { type ErrorTable, StrongroomError } from '../shared/errors.ts';

export const localStackErrors = {
  SIMULATED_ENCLAVE_STOPPED: {
    exit: 1,
    means: 'A simulated enclave ended before it served.',
    action: 'Read its reason; the code inside names the step that refused.',
  },
  SIMULATION_FOLDER_CLOSED: {
    exit: 2,
    means:
      'The temporary folder cannot be entered by other users, and as root engines run under a user of their own.',
    action: 'Set TMPDIR to a folder that everybody may enter, such as /tmp, or run without root.',
  },
  SIMULATION_PROCESS_ENDED: {
    exit: 2,
    means: 'A process of the local stack ended by itself.',
    action: 'Read what it wrote; a missing dependency or a full disk are the usual causes.',
  },
} as const satisfies ErrorTable;

export class LocalStackError extends StrongroomError<keyof typeof localStackErrors> {
  /** The enclave's own error code, where it told one. */
  readonly reason: string | undefined;

  constructor(code: keyof typeof localStackErrors, message: string, reason?: string) {
    super(localStackErrors, code, message);
    this.reason = reason;
  }
}
