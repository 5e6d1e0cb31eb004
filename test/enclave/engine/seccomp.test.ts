import { constants } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { enginePolicy } from '../../../enclave/engine/seccomp-policy.ts';
import {
  assembleFilter,
  EPERM,
  type FilterPolicy,
  SECCOMP_RET_ALLOW,
  SECCOMP_RET_ERRNO,
  SECCOMP_RET_KILL_PROCESS,
} from '../../../enclave/engine/seccomp-program.ts';

const X64 = 0xc000003e;
const ARM64 = 0xc00000b7;
const REFUSED = SECCOMP_RET_ERRNO | EPERM;
const NO_SUCH_CALL = SECCOMP_RET_ERRNO | 38;
const PID = 4242;

interface Call {
  readonly arch: number;
  readonly nr: number;
  readonly args?: readonly (number | bigint)[];
}

/** Classic BPF as the kernel runs it (Linux kernel/bpf/core.c), only the operations a filter may use. */
function interpret(program: Uint8Array, { arch, nr, args = [] }: Call): number {
  const data = new DataView(new ArrayBuffer(64));
  data.setUint32(0, nr, true);
  data.setUint32(4, arch, true);
  args.forEach((value, index) => {
    data.setBigUint64(16 + index * 8, BigInt.asUintN(64, BigInt(value)), true);
  });
  const view = new DataView(program.buffer, program.byteOffset, program.length);
  let accumulator = 0;
  for (let at = 0; at < program.length / 8; at += 1) {
    const code = view.getUint16(at * 8, true);
    const jumpTrue = view.getUint8(at * 8 + 2);
    const jumpFalse = view.getUint8(at * 8 + 3);
    const value = view.getUint32(at * 8 + 4, true);
    if (code === 0x20) accumulator = data.getUint32(value, true);
    else if (code === 0x54) accumulator = (accumulator & value) >>> 0;
    else if (code === 0x05) at += value;
    else if (code === 0x15) at += accumulator === value ? jumpTrue : jumpFalse;
    else if (code === 0x35) at += accumulator >= value ? jumpTrue : jumpFalse;
    else if (code === 0x06) return value;
    else throw new Error(`operation ${code.toString(16)} at ${at}`);
  }
  throw new Error('ran past the end');
}

function engineFilter(architecture: 'x64' | 'arm64'): Uint8Array {
  const policy = enginePolicy(architecture, PID);
  if (policy === undefined) throw new Error('no policy');
  return assembleFilter(policy);
}

describe('the filter program', () => {
  const policy: FilterPolicy = {
    auditArch: X64,
    foreignAbiFrom: 0x40000000,
    calls: [
      { number: 1, allow: 'always' },
      { number: 2, allow: 'enosys' },
      {
        number: 3,
        allow: [
          [{ argument: 0, equals: 7 }],
          [
            { argument: 1, mask: 0xf0, equals: 0x10 },
            { argument: 5, equals: 0, whole: true },
          ],
        ],
      },
    ],
  };
  const run = (nr: number, ...args: (number | bigint)[]): number =>
    interpret(assembleFilter(policy), { arch: X64, nr, args });

  it('allows what is listed and refuses what is not', () => {
    expect(run(1)).toBe(SECCOMP_RET_ALLOW);
    expect(run(2)).toBe(NO_SUCH_CALL);
    expect(run(0)).toBe(REFUSED);
    expect(run(4)).toBe(REFUSED);
    expect(run(0x3fffffff)).toBe(REFUSED);
  });

  it('allows a call if all conditions of one alternative hold', () => {
    expect(run(3, 7)).toBe(SECCOMP_RET_ALLOW);
    expect(run(3, 8, 0x1f)).toBe(SECCOMP_RET_ALLOW);
    expect(run(3, 8, 0x2f)).toBe(REFUSED);
    expect(run(3, 8, 0x1f, 0, 0, 0, 1)).toBe(REFUSED);
  });

  it('looks at the low half of an argument, and at the high half where it must be zero', () => {
    expect(run(3, (1n << 32n) | 7n)).toBe(SECCOMP_RET_ALLOW);
    expect(run(3, 8, 0x10, 0, 0, 0, 1n << 32n)).toBe(REFUSED);
  });

  it('kills a process that calls with another architecture or the x32 ABI', () => {
    expect(interpret(assembleFilter(policy), { arch: ARM64, nr: 1 })).toBe(SECCOMP_RET_KILL_PROCESS);
    expect(interpret(assembleFilter(policy), { arch: 0x40000003 /* i386 */, nr: 1 })).toBe(
      SECCOMP_RET_KILL_PROCESS,
    );
    expect(run(0x40000001)).toBe(SECCOMP_RET_KILL_PROCESS);
    expect(run(0xffffffff)).toBe(SECCOMP_RET_KILL_PROCESS);
  });

  it('refuses to assemble an alternative without conditions, which would allow everything', () => {
    expect(() => assembleFilter({ auditArch: X64, calls: [{ number: 1, allow: [[]] }] })).toThrow(RangeError);
  });

  it('refuses to assemble a jump that does not fit', () => {
    const allow = Array.from({ length: 100 }, (_, equals) => [{ argument: 0 as const, equals }]);
    expect(() => assembleFilter({ auditArch: X64, calls: [{ number: 1, allow }] })).toThrow(RangeError);
  });
});

it('knows no other architecture', () => {
  expect(enginePolicy('ia32', PID)).toBeUndefined();
  expect(enginePolicy('riscv64', PID)).toBeUndefined();
});

it.each(['x64', 'arm64'] as const)('has no call twice (%s)', (architecture) => {
  const numbers = enginePolicy(architecture, PID)?.calls.map(({ number }) => number) ?? [];
  expect(numbers.length).toBeGreaterThan(60);
  expect(new Set(numbers).size).toBe(numbers.length);
});

/** Names and numbers: arch/x86/entry/syscalls/syscall_64.tbl; include/uapi/asm-generic/unistd.h. */
const ARCHITECTURES = [
  {
    name: 'x64' as const,
    arch: X64,
    allowed: {
      read: 0,
      write: 1,
      mmap: 9,
      futex: 202,
      exit_group: 231,
      epoll_pwait: 281,
      clock_gettime: 228,
    },
    refused: {
      socket: 41,
      connect: 42,
      accept: 43,
      sendto: 44,
      recvfrom: 45,
      sendmsg: 46,
      recvmsg: 47,
      bind: 49,
      listen: 50,
      socketpair: 53,
      accept4: 288,
      fork: 57,
      vfork: 58,
      execve: 59,
      execveat: 322,
      kill: 62,
      tkill: 200,
      ptrace: 101,
      process_vm_readv: 310,
      process_vm_writev: 311,
      mount: 165,
      umount2: 166,
      pivot_root: 155,
      chroot: 161,
      move_mount: 429,
      fsopen: 430,
      open_tree: 428,
      mount_setattr: 442,
      creat: 85,
      unlink: 87,
      unlinkat: 263,
      rename: 82,
      renameat: 264,
      renameat2: 316,
      mkdir: 83,
      mkdirat: 258,
      rmdir: 84,
      link: 86,
      linkat: 265,
      symlink: 88,
      symlinkat: 266,
      mknod: 133,
      mknodat: 259,
      chmod: 90,
      fchmod: 91,
      fchmodat: 268,
      chown: 92,
      fchown: 93,
      truncate: 76,
      ftruncate: 77,
      fallocate: 285,
      pwrite64: 18,
      memfd_create: 319,
      setuid: 105,
      setgid: 106,
      setreuid: 113,
      setresuid: 117,
      setgroups: 116,
      setfsuid: 122,
      capset: 126,
      io_uring_setup: 425,
      io_uring_enter: 426,
      io_uring_register: 427,
      bpf: 321,
      userfaultfd: 323,
      keyctl: 250,
      add_key: 248,
      request_key: 249,
      pidfd_open: 434,
      pidfd_getfd: 438,
      pidfd_send_signal: 424,
      kexec_load: 246,
      init_module: 175,
      finit_module: 313,
      delete_module: 176,
      reboot: 169,
      unshare: 272,
      setns: 308,
      seccomp: 317,
      personality: 135,
      perf_event_open: 298,
      rt_sigqueueinfo: 129,
      rt_tgsigqueueinfo: 297,
      sendfile: 40,
      splice: 275,
      dup: 32,
      dup2: 33,
      ioperm: 173,
      iopl: 172,
      modify_ldt: 154,
      shmget: 29,
      msgget: 68,
      mq_open: 240,
      inotify_init1: 294,
      fanotify_init: 300,
      open_by_handle_at: 304,
      name_to_handle_at: 303,
      process_madvise: 440,
      swapon: 167,
      settimeofday: 164,
      clock_settime: 227,
      sethostname: 170,
      setrlimit: 160,
      sched_setaffinity: 203,
    },
    open: 2,
    openat: 257,
    openat2: 437,
    clone: 56,
    clone3: 435,
    ioctl: 16,
    fcntl: 72,
    prctl: 157,
    tgkill: 234,
    prlimit64: 302,
  },
  {
    name: 'arm64' as const,
    arch: ARM64,
    allowed: {
      read: 63,
      write: 64,
      mmap: 222,
      futex: 98,
      exit_group: 94,
      epoll_pwait: 22,
      clock_gettime: 113,
    },
    refused: {
      socket: 198,
      socketpair: 199,
      bind: 200,
      listen: 201,
      accept: 202,
      connect: 203,
      sendto: 206,
      recvfrom: 207,
      sendmsg: 211,
      recvmsg: 212,
      accept4: 242,
      execve: 221,
      execveat: 281,
      kill: 129,
      tkill: 130,
      ptrace: 117,
      process_vm_readv: 270,
      process_vm_writev: 271,
      mount: 40,
      umount2: 39,
      pivot_root: 41,
      chroot: 51,
      unlinkat: 35,
      renameat: 38,
      renameat2: 276,
      mkdirat: 34,
      linkat: 37,
      symlinkat: 36,
      mknodat: 33,
      fchmod: 52,
      fchmodat: 53,
      fchownat: 54,
      fchown: 55,
      truncate: 45,
      ftruncate: 46,
      fallocate: 47,
      pwrite64: 68,
      memfd_create: 279,
      setuid: 146,
      setgid: 144,
      setresuid: 147,
      setgroups: 159,
      capset: 91,
      io_uring_setup: 425,
      io_uring_enter: 426,
      io_uring_register: 427,
      bpf: 280,
      userfaultfd: 282,
      keyctl: 219,
      add_key: 217,
      pidfd_open: 434,
      pidfd_getfd: 438,
      pidfd_send_signal: 424,
      kexec_load: 104,
      init_module: 105,
      finit_module: 273,
      reboot: 142,
      unshare: 97,
      setns: 268,
      seccomp: 277,
      personality: 92,
      perf_event_open: 241,
      rt_sigqueueinfo: 138,
      sendfile: 71,
      splice: 76,
      dup: 23,
      shmget: 194,
      mq_open: 180,
      fanotify_init: 262,
      open_by_handle_at: 265,
      clock_settime: 112,
      sched_setaffinity: 122,
    },
    open: undefined,
    openat: 56,
    openat2: 437,
    clone: 220,
    clone3: 435,
    ioctl: 29,
    fcntl: 25,
    prctl: 167,
    tgkill: 131,
    prlimit64: 261,
  },
];

describe.each(ARCHITECTURES)('what an engine may ask of the kernel on $name', (table) => {
  const filter = engineFilter(table.name);
  const run = (nr: number, ...args: (number | bigint)[]): number =>
    interpret(filter, { arch: table.arch, nr, args });

  it.each(Object.entries(table.allowed))('%s is allowed', (_, nr) => {
    expect(run(nr)).toBe(SECCOMP_RET_ALLOW);
  });

  it.each(Object.entries(table.refused))('%s is refused', (_, nr) => {
    expect(run(nr)).toBe(REFUSED);
  });

  it('clone3 and openat2 do not exist, so that their arguments need not be seen', () => {
    expect(run(table.clone3)).toBe(NO_SUCH_CALL);
    expect(run(table.openat2)).toBe(NO_SUCH_CALL);
  });

  it('files open for reading alone', () => {
    const { O_RDONLY, O_WRONLY, O_RDWR, O_CREAT, O_TRUNC, O_APPEND } = constants;
    const O_CLOEXEC = 0o2000000;
    const open = (flags: number): number[] => [
      run(table.openat, -100, 1, flags),
      ...(table.open === undefined ? [] : [run(table.open, 1, flags)]),
    ];
    for (const result of open(O_RDONLY | O_CLOEXEC)) expect(result).toBe(SECCOMP_RET_ALLOW);
    for (const flags of [O_WRONLY, O_RDWR, 3, O_CREAT, O_TRUNC, O_APPEND, 0o20000000]) {
      for (const result of open(flags | O_CLOEXEC)) expect(result).toBe(REFUSED);
    }
  });

  it('clone makes a thread as the C library does, and nothing else', () => {
    expect(run(table.clone, 0x3d0f00)).toBe(SECCOMP_RET_ALLOW);
    for (const flags of [17, 0, 0x4111, 0x3d0f00 | 0x10000000, 0x3d0f00 & ~0x10000]) {
      expect(run(table.clone, flags)).toBe(REFUSED);
    }
  });

  it('ioctl never reaches the NSM, whatever the high half of the request', () => {
    expect(run(table.ioctl, 0, 0x5421)).toBe(SECCOMP_RET_ALLOW);
    expect(run(table.ioctl, 0, 0xc0200a00)).toBe(REFUSED);
    expect(run(table.ioctl, 0, (1n << 32n) | 0xc0200a00n)).toBe(REFUSED);
    expect(run(table.ioctl, 0, 0x5412 /* TIOCSTI */)).toBe(REFUSED);
    expect(run(table.ioctl, 0, 0x8901 /* FIOSETOWN */)).toBe(REFUSED);
  });

  it('fcntl changes no owner and no signal of a descriptor', () => {
    expect(run(table.fcntl, 3, 3)).toBe(SECCOMP_RET_ALLOW);
    expect(run(table.fcntl, 3, 4, constants.O_NONBLOCK)).toBe(SECCOMP_RET_ALLOW);
    expect(run(table.fcntl, 3, 4, 0o20000 /* O_ASYNC */)).toBe(REFUSED);
    for (const command of [
      8 /* F_SETOWN */, 15 /* F_SETOWN_EX */, 10 /* F_SETSIG */, 1024 /* F_SETLEASE */,
    ]) {
      expect(run(table.fcntl, 3, command)).toBe(REFUSED);
    }
  });

  it('prctl names threads and memory, and gives nothing back', () => {
    expect(run(table.prctl, 15)).toBe(SECCOMP_RET_ALLOW);
    for (const option of [
      4 /* DUMPABLE */, 1 /* PDEATHSIG */, 22 /* SECCOMP */, 38, 0x59616d61 /* PTRACER */,
    ]) {
      expect(run(table.prctl, option)).toBe(REFUSED);
    }
  });

  it.runIf(table.name === 'x64')('arch_prctl asks for the tiles of AMX, and for nothing else', () => {
    const arch_prctl = 158;
    expect(run(arch_prctl, 0x1023, 18)).toBe(SECCOMP_RET_ALLOW);
    expect(run(arch_prctl, 0x1023, 17)).toBe(REFUSED);
    expect(run(arch_prctl, 0x1002 /* ARCH_SET_FS */, 18)).toBe(REFUSED);
    expect(run(arch_prctl, 0x1012 /* ARCH_SET_CPUID */, 0)).toBe(REFUSED);
  });

  it('signals nobody but itself', () => {
    expect(run(table.tgkill, PID, PID, 6)).toBe(SECCOMP_RET_ALLOW);
    expect(run(table.tgkill, PID - 1, PID - 1, 0)).toBe(REFUSED);
    expect(run(table.tgkill, 0, 0, 0)).toBe(REFUSED);
  });

  it('reads its own limits and sets none', () => {
    expect(run(table.prlimit64, 0, 3, 0, 0x1000)).toBe(SECCOMP_RET_ALLOW);
    expect(run(table.prlimit64, 0, 3, 0x1000, 0)).toBe(REFUSED);
    expect(run(table.prlimit64, 0, 3, 1n << 40n, 0)).toBe(REFUSED);
    expect(run(table.prlimit64, 1, 3, 0, 0x1000)).toBe(REFUSED);
  });
});
