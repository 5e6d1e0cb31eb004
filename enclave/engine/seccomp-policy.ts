/**
 * What a confined engine may ask of the kernel: the list below, and nothing else. Node and onnxruntime need
 * memory, threads, time, and to read files; no list of dangerous calls would stay complete as kernels grow.
 *
 * Numbers: x86_64 from arch/x86/entry/syscalls/syscall_64.tbl, aarch64 from include/uapi/asm-generic/unistd.h.
 */
import type { CallRule, Condition, FilterPolicy } from './seccomp-program.ts';

type Architecture = 'x64' | 'arm64';
/** System call numbers [x86_64, aarch64]; null where the architecture has no such call. */
type Numbers = readonly [x64: number, arm64: number | null];

const ALWAYS: Readonly<Record<string, Numbers>> = {
  // memory
  mmap: [9, 222],
  mprotect: [10, 226],
  munmap: [11, 215],
  brk: [12, 214],
  mremap: [25, 216],
  madvise: [28, 233],
  membarrier: [324, 283],
  pkey_mprotect: [329, 288],
  pkey_alloc: [330, 289],
  pkey_free: [331, 290],
  // reading, and writing to descriptors that are open already
  read: [0, 63],
  readv: [19, 65],
  pread64: [17, 67],
  preadv: [295, 69],
  write: [1, 64],
  writev: [20, 66],
  close: [3, 57],
  lseek: [8, 62],
  stat: [4, null],
  lstat: [6, null],
  fstat: [5, 80],
  newfstatat: [262, 79],
  statx: [332, 291],
  statfs: [137, 43],
  fstatfs: [138, 44],
  access: [21, null],
  faccessat: [269, 48],
  faccessat2: [439, 439],
  readlink: [89, null],
  readlinkat: [267, 78],
  getdents64: [217, 61],
  getcwd: [79, 17],
  fadvise64: [221, 223],
  // waiting
  futex: [202, 98],
  sched_yield: [24, 124],
  epoll_create1: [291, 20],
  epoll_ctl: [233, 21],
  epoll_wait: [232, null],
  epoll_pwait: [281, 22],
  epoll_pwait2: [441, 441],
  poll: [7, null],
  ppoll: [271, 73],
  eventfd2: [290, 19],
  pipe2: [293, 59],
  nanosleep: [35, 101],
  clock_nanosleep: [230, 115],
  restart_syscall: [219, 128],
  // time and facts
  clock_gettime: [228, 113],
  clock_getres: [229, 114],
  gettimeofday: [96, 169],
  time: [201, null],
  times: [100, 153],
  getrandom: [318, 278],
  getcpu: [309, 168],
  sched_getaffinity: [204, 123],
  sched_getparam: [143, 121],
  sched_getscheduler: [145, 120],
  getrusage: [98, 165],
  sysinfo: [99, 179],
  uname: [63, 160],
  getpid: [39, 172],
  getppid: [110, 173],
  gettid: [186, 178],
  getuid: [102, 174],
  geteuid: [107, 175],
  getgid: [104, 176],
  getegid: [108, 177],
  capget: [125, 90],
  // this process's own signals, threads and end
  rt_sigaction: [13, 134],
  rt_sigprocmask: [14, 135],
  rt_sigreturn: [15, 139],
  sigaltstack: [131, 132],
  set_robust_list: [273, 99],
  set_tid_address: [218, 96],
  rseq: [334, 293],
  exit: [60, 93],
  exit_group: [231, 94],
};

/** "There is no such call": the C library then falls back to a call whose arguments a filter can see. */
const ENOSYS: Readonly<Record<string, Numbers>> = {
  clone3: [435, 435],
  openat2: [437, 437],
};

// include/uapi/asm-generic/fcntl.h: O_ACCMODE, O_CREAT, O_TRUNC, O_APPEND, __O_TMPFILE. The same on both.
const ANY_WRITING_FLAG = 0o3 | 0o100 | 0o1000 | 0o2000 | 0o20000000;
/** What glibc's pthread_create passes: CLONE_VM|FS|FILES|SIGHAND|THREAD|SYSVSEM|SETTLS|PARENT_SETTID|CHILD_CLEARTID. */
const CLONE_FLAGS_OF_A_THREAD = 0x3d0f00;
// Commands that change no owner and no signal of a descriptor: with F_SETOWN, F_SETSIG and O_ASYNC a process
// can have the kernel send any signal to another process of its user.
const FCNTL_COMMANDS = [1 /* F_GETFD */, 2 /* F_SETFD */, 3 /* F_GETFL */, 1030 /* F_DUPFD_CLOEXEC */];
const F_SETFL = 4;
const O_ASYNC = 0o20000;
/** TCGETS (isatty), FIONCLEX, FIOCLEX, FIONBIO, FIONREAD. Not the NSM's 0xC0200A00, and no other device's. */
const IOCTL_REQUESTS = [0x5401, 0x5450, 0x5451, 0x5421, 0x541b];
/** PR_SET_NAME, PR_GET_NAME, and PR_SET_VMA, by which allocators name their memory. */
const PRCTL_OPTIONS = [15, 16, 0x53564d41];

/** arch/x86/include/uapi/asm/prctl.h, and Documentation/arch/x86/xstate.rst, "Feature enabling". */
const ARCH_REQ_XCOMP_PERM = 0x1023;
const XFEATURE_XTILE_DATA = 18;

const oneOf = (argument: Condition['argument'], values: readonly number[]): Condition[][] =>
  values.map((equals) => [{ argument, equals }]);

interface Conditional {
  readonly numbers: Numbers;
  readonly allow: readonly (readonly Condition[])[];
}

function conditionalCalls(ownPid: number): Readonly<Record<string, Conditional>> {
  return {
    open: { numbers: [2, null], allow: [[{ argument: 1, mask: ANY_WRITING_FLAG, equals: 0 }]] },
    openat: { numbers: [257, 56], allow: [[{ argument: 2, mask: ANY_WRITING_FLAG, equals: 0 }]] },
    clone: { numbers: [56, 220], allow: [[{ argument: 0, equals: CLONE_FLAGS_OF_A_THREAD }]] },
    fcntl: {
      numbers: [72, 25],
      allow: [
        ...oneOf(1, FCNTL_COMMANDS),
        [
          { argument: 1, equals: F_SETFL },
          { argument: 2, mask: O_ASYNC, equals: 0 },
        ],
      ],
    },
    ioctl: { numbers: [16, 29], allow: oneOf(1, IOCTL_REQUESTS) },
    prctl: { numbers: [157, 167], allow: oneOf(0, PRCTL_OPTIONS) },
    // abort() signals the process itself; nobody else may be signalled.
    tgkill: { numbers: [234, 131], allow: [[{ argument: 0, equals: ownPid }]] },
    // llama.cpp asks for the tiles of AMX, and is several times slower without them; nothing else is asked this way.
    arch_prctl: {
      numbers: [158, null],
      allow: [
        [
          { argument: 0, equals: ARCH_REQ_XCOMP_PERM },
          { argument: 1, equals: XFEATURE_XTILE_DATA },
        ],
      ],
    },
    // Reading its own limits (pid 0, no new limit).
    prlimit64: {
      numbers: [302, 261],
      allow: [
        [
          { argument: 0, equals: 0 },
          { argument: 2, equals: 0, whole: true },
        ],
      ],
    },
  };
}

const AUDIT_ARCH: Readonly<Record<Architecture, number>> = { x64: 0xc000003e, arm64: 0xc00000b7 };
/** __X32_SYSCALL_BIT of arch/x86/include/uapi/asm/unistd.h. */
const X32_SYSCALL_BIT = 0x40000000;

/** The filter policy of an engine with process id `ownPid`, or undefined for an architecture not supported. */
export function enginePolicy(architecture: string, ownPid: number): FilterPolicy | undefined {
  if (architecture !== 'x64' && architecture !== 'arm64') return undefined;
  const column = architecture === 'x64' ? 0 : 1;
  const calls: CallRule[] = [];
  const add = (numbers: Numbers, allow: CallRule['allow']): void => {
    const number = numbers[column];
    if (number !== null) calls.push({ number, allow });
  };
  for (const numbers of Object.values(ALWAYS)) add(numbers, 'always');
  for (const numbers of Object.values(ENOSYS)) add(numbers, 'enosys');
  for (const { numbers, allow } of Object.values(conditionalCalls(ownPid))) add(numbers, allow);
  return {
    auditArch: AUDIT_ARCH[architecture],
    ...(architecture === 'x64' ? { foreignAbiFrom: X32_SYSCALL_BIT } : {}),
    calls,
  };
}
