/**
 * The process's own native calls: prctl and seccomp, which Node does not offer. With memory-map.ts,
 * the vsock and the NSM's ioctl these are the only native calls of our own in the image, one file each.
 *
 * Constants: Linux include/uapi/linux/{prctl,seccomp}.h; system call numbers: arch/x86/entry/syscalls/
 * syscall_64.tbl and include/uapi/asm-generic/unistd.h.
 */
import koffi from 'koffi';
import { EngineError } from '../engine/errors.ts';

const PR_SET_PDEATHSIG = 1;
const PR_SET_DUMPABLE = 4;
const PR_SET_NO_NEW_PRIVS = 38;
const SIGKILL = 9;

const SECCOMP_SET_MODE_FILTER = 1;
const SECCOMP_FILTER_FLAG_TSYNC = 1;
const SECCOMP_SYSCALL_NUMBER: Readonly<Record<string, number>> = { x64: 317, arm64: 277 };
const BPF_INSTRUCTION_BYTES = 8;

const libc = koffi.load(null);
// Variadic in C. On both architectures integers travel in the same registers either way.
const prctl = libc.func('int prctl(int, unsigned long, unsigned long, unsigned long, unsigned long)');
const syscall = libc.func('long syscall(long, long, long, void *)');

function prctlOrThrow(name: string, option: number, value: number): void {
  if (prctl(option, value, 0, 0, 0) !== 0) {
    throw new EngineError('ENGINE_CONFINEMENT', `${name} failed with errno ${koffi.errno()}`);
  }
}

/**
 * Nobody without CAP_SYS_PTRACE may read this process's memory or descriptors through /proc or ptrace, and it
 * leaves no core dump (prctl(2), PR_SET_DUMPABLE). The enclave process calls it before it holds any secret.
 */
export function makeNonDumpable(): void {
  prctlOrThrow('PR_SET_DUMPABLE', PR_SET_DUMPABLE, 0);
}

/** The kernel kills this process when the thread that started it ends, so that no engine is left behind. */
export function dieWithParent(): void {
  prctlOrThrow('PR_SET_PDEATHSIG', PR_SET_PDEATHSIG, SIGKILL);
}

/**
 * Puts a seccomp filter on every thread of this process, for good (seccomp(2)). `program` is an array of
 * sock_filter, eight bytes each. no_new_privs comes first: it is what lets a process without privileges
 * install a filter, and TSYNC carries both to the threads that exist already.
 */
export function installSeccompFilter(program: Uint8Array): void {
  const number = SECCOMP_SYSCALL_NUMBER[process.arch];
  if (number === undefined) {
    throw new EngineError('ENGINE_CONFINEMENT', `no seccomp on the architecture ${process.arch}`);
  }
  prctlOrThrow('PR_SET_NO_NEW_PRIVS', PR_SET_NO_NEW_PRIVS, 1);
  const sockFprog = new Uint8Array(16);
  const view = new DataView(sockFprog.buffer);
  view.setUint16(0, program.length / BPF_INSTRUCTION_BYTES, true);
  view.setBigUint64(8, koffi.address(program), true);
  // A positive result is the id of a thread that could not be brought along: a refusal like any other.
  const result = syscall(number, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, sockFprog);
  if (Number(result) !== 0) {
    throw new EngineError(
      'ENGINE_CONFINEMENT',
      `seccomp returned ${String(result)}, errno ${koffi.errno()}: the filter is not on every thread`,
    );
  }
}
