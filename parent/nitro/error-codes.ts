/**
 * nitro-cli's error codes, in words and with what to do.
 *
 * nitro-cli ends with the number of its code and prints `[ E36 ] text` on standard error, often several in a row:
 * the enclave's own process says the cause, and the command in front of it then says that it lost that process.
 * Source: AWS Nitro Enclaves User Guide "Nitro Enclaves CLI error codes"; aws-nitro-enclaves-cli
 * src/common/document_errors.rs (E00 to E59). What an ioctl refused is in the backtrace alone, which nitro-cli
 * prints if the environment has BACKTRACE=1 (src/enclave_proc/resource_manager.rs, NE_ERR_*).
 */

export interface NitroErrorExplanation {
  /** For example `E27`. */
  readonly code: string;
  readonly means: string;
  /** What an operator should do next. */
  readonly action: string;
}

type Entry = readonly [means: string, action: string];

const RETRY = 'Try again; if it stays, restart the instance.';
const OURS = 'Run nitro-cli and strongroom of current releases; if it stays, report it.';
const DESCRIPTORS = 'Free memory and check the limits on open files and processes, then try again.';
const ALLOCATOR = '/etc/nitro_enclaves/allocator.yaml and restart nitro-enclaves-allocator.service';
const LOGS = 'Look at the newest /var/log/nitro_enclaves/err*.log';
const CONSOLE =
  'The console exists in debug mode alone, and Strongroom never starts an enclave in debug mode.';
const BUILD = 'strongroom image build needs none of this; see docs/image.md section 6.';

const CODES: Readonly<Record<string, Entry>> = {
  E00: ['Something failed that nitro-cli has no code for.', `${LOGS}.`],
  E01: ['A mandatory argument is missing.', OURS],
  E02: ['Two arguments exclude each other.', OURS],
  E03: ['An argument is not of the type that it should be.', OURS],
  E04: ['nitro-cli could not open a socket pair to its enclave process.', DESCRIPTORS],
  E05: ['nitro-cli could not start its enclave process.', DESCRIPTORS],
  E06: ['The enclave process could not detach itself.', DESCRIPTORS],
  E07: [
    'The folder of the enclave sockets cannot be read.',
    'Check that /run/nitro_enclaves exists and that this user is in the group "ne".',
  ],
  E08: [
    'The connection to an enclave process is gone.',
    'The enclave has ended or was never started; look at nitro-cli describe-enclaves.',
  ],
  E09: ['A socket could not be closed.', RETRY],
  E10: ["The time-out of the console's socket could not be set.", CONSOLE],
  E11: [
    'A socket operation failed.',
    'Usually the enclave process has ended: the code before this one says why. Otherwise check AF_VSOCK and /run/nitro_enclaves.',
  ],
  E12: ['epoll failed.', DESCRIPTORS],
  E13: ['inotify failed.', 'Check the limits on inotify watches (fs.inotify.*), then try again.'],
  E14: ['An enclave process did not understand a command.', OURS],
  E15: ['A lock could not be taken.', RETRY],
  E16: ['A thread could not be joined.', RETRY],
  E17: ['A message between nitro-cli and its enclave process was malformed.', OURS],
  E18: [
    "The permissions of nitro-cli's log file cannot be changed.",
    'Let the owner of /var/log/nitro_enclaves run nitro-cli, or correct the owner; the group is "ne".',
  ],
  E19: [
    'A file could not be opened, read or written.',
    'Check that the image exists and can be read, that /dev/nitro_enclaves exists, that this user is in the group "ne", and that /var/log/nitro_enclaves can be written.',
  ],
  E20: ['The same CPU was named twice.', 'Name a CPU count and no list of CPUs.'],
  E21: [
    'A CPU was asked for that is not in the pool.',
    `Add it to cpu_pool in ${ALLOCATOR}, or ask for a CPU count.`,
  ],
  E22: [
    "More CPUs were asked for than the allocator's pool has.",
    `Raise cpu_count in ${ALLOCATOR}, or lower enclave.cpuCount.`,
  ],
  E23: [
    'lscpu gave a line that nitro-cli cannot read.',
    'Check lscpu and that CPUs are not offline by other means.',
  ],
  E24: ['A range of CPUs is invalid.', `Correct cpu_pool in ${ALLOCATOR}.`],
  E25: ['A huge page has a size that nitro-cli does not know.', 'Use huge pages of 2 MiB or 1 GiB.'],
  E26: [
    'Less memory was asked for than the image needs: nitro-cli wants four times the size of the image file.',
    'Raise enclave.memoryMib; strongroom run --check shows how much is needed.',
  ],
  E27: [
    'More memory was asked for than huge pages are free.',
    `Raise memory_mib in ${ALLOCATOR}; if it fails to reserve so much, restart the instance, because memory fragments. Another enclave may hold the pages.`,
  ],
  E28: [
    'The driver gave no enclave.',
    'Check that the instance was launched with enclave support and that the module nitro_enclaves is loaded.',
  ],
  E29: ['The driver refused an operation.', `${LOGS} for the reason.`],
  E30: ['The driver gave no place for the image.', `${LOGS} for the reason.`],
  E31: [
    'The driver refused memory for the enclave.',
    `Restart nitro-enclaves-allocator.service, so that huge pages and CPUs are of one NUMA node. ${LOGS}.`,
  ],
  E32: [
    'The driver refused a CPU for the enclave.',
    `Ask for full cores: an even number where a core has two threads. ${LOGS}.`,
  ],
  E33: [
    'The driver refused to start the enclave.',
    `The usual reasons are cores that were not taken whole, or a context id that is taken. ${LOGS}.`,
  ],
  E34: [
    'The image does not fit into the address space.',
    'Check that the image file is whole: strongroom image measure.',
  ],
  E35: [
    'The image could not be read into memory.',
    'Check the image with strongroom image measure, and that huge pages are free (grep Huge /proc/meminfo).',
  ],
  E36: [
    'The enclave started and gave no sign of life.',
    'Check the image with strongroom image measure (an expired signing certificate stops it too), give it more memory, and see that nobody else listens on vsock port 9000 or starts an enclave at the same time.',
  ],
  E37: ['Waiting for events of the enclave failed.', `${LOGS}.`],
  E38: [
    'An enclave process did not carry out the command.',
    'The code before this one, or its log, says why.',
  ],
  E39: [
    'An enclave process cannot be reached.',
    'The code before this one says why. Alone it is a socket of a dead enclave, which nitro-cli removes at the next command.',
  ],
  E40: ['The enclave id leads to no socket.', 'The enclave has ended; look at nitro-cli describe-enclaves.'],
  E41: ['The enclave process could not answer.', RETRY],
  E42: [
    'Memory for the enclave could not be mapped.',
    `Check free huge pages (grep Huge /proc/meminfo); raise memory_mib in ${ALLOCATOR}.`,
  ],
  E43: ['Memory of the enclave could not be released.', 'Restart the instance.'],
  E44: ['The console of the enclave cannot be reached.', CONSOLE],
  E45: ['Reading the console failed.', CONSOLE],
  E46: ['Writing what the console said failed.', CONSOLE],
  E47: ['The context id of the enclave is no number.', OURS],
  E48: ['The image could not be built.', BUILD],
  E49: ['The Docker image could not be built.', BUILD],
  E50: ['The Docker image could not be pulled.', BUILD],
  E51: ['Neither HOME nor NITRO_CLI_ARTIFACTS is set.', BUILD],
  E52: ['NITRO_CLI_BLOBS is not set.', BUILD],
  E53: ['The clock went backwards while the console was read.', CONSOLE],
  E54: ['Signals could not be blocked.', RETRY],
  E55: ['Signals could not be unblocked.', RETRY],
  E56: [
    'nitro-cli could not open its log.',
    'Check that /var/log/nitro_enclaves exists, has room, and that this user is in the group "ne".',
  ],
  E57: [
    'A hash could not be computed.',
    'Check that the image file can be read as a whole, and that memory is free.',
  ],
  E58: ['The name belongs to no enclave, or to more than one.', 'Look at nitro-cli describe-enclaves.'],
  E59: [
    'The signature of the image was refused.',
    'Check the dates of its certificate with strongroom image measure; build the image again, signed with a valid one, or unsigned.',
  ],
};

/** They say that another process failed; the reason is in another code. */
const CONSEQUENCES = ['E08', 'E11', 'E38', 'E39', 'E41'];

/** What an ioctl of the driver refused, from the words in nitro-cli's backtrace. */
const REFUSALS: readonly (readonly [RegExp, string, string])[] = [
  [
    /full CPU cores have not been set/i,
    'The enclave was given half a core.',
    'Ask for an even enclave.cpuCount where a core has two threads.',
  ],
  [
    /different NUMA nodes/i,
    'Huge pages and CPUs of the pool are of different NUMA nodes.',
    `Lower memory_mib or cpu_count in ${ALLOCATOR}, so that one node can give both.`,
  ],
  [
    /maximum number of memory regions/i,
    'The memory is in too many huge pages.',
    'Reserve pages of 1 GiB at boot: hugepagesz=1G hugepages=N on the kernel command line.',
  ],
  [/no CPUs are available in the pool/i, 'The pool has no CPUs.', `Set cpu_count in ${ALLOCATOR}.`],
  [
    /not available in the CPU pool|already used/i,
    'CPUs or memory of the pool are in use.',
    'Look at nitro-cli describe-enclaves for another enclave.',
  ],
  [/memory size is lower than the minimum/i, 'The driver wants at least 64 MiB.', 'Raise enclave.memoryMib.'],
  [
    /enclave CID is invalid/i,
    'The context id is reserved.',
    'Choose a link.enclaveCid from 4 on that is not this host.',
  ],
  [
    /vsock bind error/i,
    'Another program listens on vsock port 9000, where the enclave gives its sign of life.',
    'Start one enclave at a time, and end the other program.',
  ],
];

/**
 * Explains what nitro-cli printed, or undefined if it holds no code. Of several codes it takes the one that is a
 * cause and not a consequence. A code that is not in the table is named and left to `nitro-cli explain`.
 */
export function explainNitroError(text: string): NitroErrorExplanation | undefined {
  const codes = [...text.matchAll(/\[\s*(E\d{2})\s*\]/g)].map((match) => String(match[1]));
  const code = codes.find((found) => !CONSEQUENCES.includes(found)) ?? codes[0];
  return code === undefined ? undefined : explain(code, text);
}

function explain(code: string, text: string): NitroErrorExplanation {
  for (const [words, means, action] of REFUSALS) {
    if (words.test(text)) return { code, means, action };
  }
  const [means, action] = CODES[code] ?? [
    'nitro-cli gave a code that this release does not know.',
    `Run nitro-cli explain --error-code ${code}.`,
  ];
  return { code, means, action };
}

/** nitro-cli's exit status is the number of its code (src/common/mod.rs, ok_or_exit_with_errno). */
export function explainNitroExit(status: number): NitroErrorExplanation | undefined {
  const code = `E${String(status).padStart(2, '0')}`;
  return Object.hasOwn(CODES, code) ? explain(code, '') : undefined;
}
