import { type ErrorTable, StrongroomError } from '../shared/errors.ts';

export const linkErrors = {
  LINK_UNREACHABLE: {
    exit: 3,
    means: 'Nobody listens at the other end of the link.',
    action:
      'Start the other side: seen from the parent the enclave is not running or has not finished its boot; seen from the enclave the parent is not running.',
  },
  LINK_TIMEOUT: {
    exit: 3,
    means: 'The other end of the link did not connect, answer or make progress before the deadline.',
    action: 'Look at the log of the other side; it is stopped, overloaded or stalling on purpose.',
  },
  LINK_LOST: {
    exit: 3,
    means: 'The connection ended in the middle of an exchange.',
    action: 'Look at the log of the other side, then try again; nothing of the unfinished answer was used.',
  },
  LINK_ADDRESS_IN_USE: {
    exit: 2,
    means: 'Another live process, or a file that is no socket, holds this port of the link.',
    action: 'Stop the other process, remove the file, or give this run a folder of its own.',
  },
  LINK_FOLDER_UNSAFE: {
    exit: 2,
    means: 'The folder of the link is open to other users, belongs to another user or is no folder.',
    action: 'Use a folder that only this user can enter: mkdir -m 700.',
  },
  LINK_PATH_TOO_LONG: {
    exit: 2,
    means: 'The path of a UNIX socket is longer than the kernel can hold (107 bytes).',
    action: 'Use a shorter folder, or a path relative to the working directory.',
  },
  LINK_UNSUPPORTED: {
    exit: 2,
    means: 'This machine or this build has no such transport.',
    action: 'Use a link of kind "unix" here; "vsock" needs a kernel with AF_VSOCK (docs/link.md).',
  },
  LINK_PEER_REFUSED: {
    exit: 1,
    means: 'A vsock connection came from, or reached, a context id that is not the peer.',
    action: 'Check the context id in the configuration; only the one peer may talk on this link.',
  },
  LINK_ANSWER_REFUSED: {
    exit: 3,
    means: 'The other side answered with a status that says no.',
    action: 'Look at the log of the other side for the reason: not found, not allowed, or over a limit.',
  },
  LINK_ANSWER_MALFORMED: {
    exit: 1,
    means: 'The other side answered with something that was not asked for.',
    action: 'Run the parent of the same release; if it is, treat the host as hostile and investigate.',
  },
  LINK_ANSWER_TOO_LARGE: {
    exit: 1,
    means: 'The other side answered with more bytes than this exchange allows.',
    action: 'Check the file that the parent serves; docs/link.md lists the bounds.',
  },
} as const satisfies ErrorTable;

export type LinkErrorCode = keyof typeof linkErrors;

export class LinkError extends StrongroomError<LinkErrorCode> {
  constructor(code: LinkErrorCode, message: string, cause?: unknown) {
    super(linkErrors, code, message, cause);
  }
}
