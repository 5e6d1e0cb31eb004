/** The virtual machine: QEMU with a kernel, a command line, a ramdisk, and two serial lines. */
import { spawn } from 'node:child_process';
import { accessSync, constants, mkdirSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { BUSYBOX, type Kernel, QEMU } from './kernel.ts';
import { appendRamdisk, onDisk, script } from './ramdisk.ts';
import { serveVsockDevice } from './vsock-device.ts';

export const MEMORY_MIB = 3_072;
const ALIVE = 'the machine is alive';

/**
 * KVM inside a virtual machine cannot always set the register behind arch-capabilities, and QEMU ends.
 *
 * In emulation (docs/simulation.md section 6): one thread, because V8 writes code while it runs, and its own
 * checks failed at times with a thread a CPU. An old processor, because Debian 12's QEMU is the first that
 * emulates AVX. And time that passes with instructions, a nanosecond each, instead of with the clock: however
 * busy this machine is, no deadline in the guest comes sooner.
 */
const ACCELERATION = {
  kvm: ['-accel', 'kvm', '-cpu', 'max,arch-capabilities=off', '-smp', '2'],
  tcg: [
    ...['-accel', 'tcg,thread=single', '-cpu', 'Westmere,+rdrand', '-smp', '2'],
    ...['-icount', 'shift=0,sleep=off', '-rtc', 'clock=vm'],
  ],
} as const;
export type Accelerator = keyof typeof ACCELERATION;

/** From QEMU's start to the first word on the console. */
const SILENCE_MS = { kvm: 20_000, tcg: 600_000 } as const;
const TIMEOUT_MS = { kvm: 240_000, tcg: 1_500_000 } as const;

export interface MachineParts {
  readonly kernel: string;
  readonly commandLine: string;
  readonly ramdisk: string;
  /** A folder of this machine alone, for its sockets. */
  readonly folder: string;
  /** The context id of its virtio vsock; without one it has no such device. */
  readonly contextId?: number;
}

export interface MachineLines {
  /** The first serial line: the kernel, and whatever has no better place. */
  readonly console: (line: string) => void;
  /** The second serial line: the checks, and nothing else. */
  readonly results: (line: string) => void;
}

/** KVM where it does run a machine: KVM inside a virtual machine may be half there. */
export async function usableAccelerator(kernel: Kernel, folder: string): Promise<Accelerator> {
  try {
    accessSync('/dev/kvm', constants.R_OK | constants.W_OK);
  } catch {
    return 'tcg';
  }
  mkdirSync(folder);
  const ramdisk = join(folder, 'alive.cpio');
  await appendRamdisk([script('init', 'alive.sh'), onDisk('bin/busybox', BUSYBOX)], ramdisk);
  let alive = false;
  const parts = { kernel: kernel.image, commandLine: 'console=ttyS0 quiet panic=-1', ramdisk, folder };
  await runMachine(parts, 'kvm', {
    console: (line) => {
      alive ||= line.includes(ALIVE);
    },
    results: () => {},
  });
  return alive ? 'kvm' : 'tcg';
}

/** Runs the machine to its end. It is stopped, and the console says so, when it is silent or takes too long. */
export async function runMachine(
  parts: MachineParts,
  accelerator: Accelerator,
  lines: MachineLines,
): Promise<void> {
  mkdirSync(parts.folder, { recursive: true });
  const results = join(parts.folder, 'results.sock');
  const servers = [await listening(lineServer(lines.results), results)];
  const vsock = join(parts.folder, 'vsock.sock');
  if (parts.contextId !== undefined) {
    servers.push(await listening(serveVsockDevice(parts.contextId), vsock));
  }
  const child = spawn(
    QEMU,
    [
      ...['-machine', 'q35,memory-backend=memory', '-m', `${MEMORY_MIB}`],
      ...['-object', `memory-backend-memfd,id=memory,size=${MEMORY_MIB}M,share=on`],
      ...ACCELERATION[accelerator],
      ...['-nodefaults', '-no-user-config', '-no-reboot', '-display', 'none'],
      ...['-serial', 'stdio', '-chardev', `socket,id=results,path=${results}`, '-serial', 'chardev:results'],
      ...(parts.contextId === undefined
        ? []
        : ['-chardev', `socket,id=vsock,path=${vsock}`, '-device', 'vhost-user-vsock-pci,chardev=vsock']),
      ...['-kernel', parts.kernel, '-initrd', parts.ramdisk, '-append', parts.commandLine],
    ],
    { stdio: ['ignore', 'pipe', 'pipe'] },
  );
  const stop = () => child.kill('SIGKILL');
  process.once('exit', stop);
  // A guest that KVM cannot go on with stays, paused, until somebody ends it.
  child.stderr.on('data', (text: Buffer) => {
    if (child.killed) return;
    lines.console(`qemu: ${text.toString().split('\n')[0]}`);
    if (text.includes('KVM internal error')) stop();
  });
  const stopAfter = (ms: number, reason: string) =>
    setTimeout(() => {
      lines.console(reason);
      stop();
    }, ms);
  const timers = [
    stopAfter(TIMEOUT_MS[accelerator], `Still running after ${TIMEOUT_MS[accelerator]} ms: stopped.`),
  ];
  const silence = stopAfter(SILENCE_MS[accelerator], 'The machine says nothing: stopped.');
  timers.push(silence);
  child.stdout.once('data', () => clearTimeout(silence));
  try {
    const ended = new Promise<void>((resolve, reject) => {
      child.once('error', reject);
      child.once('exit', () => resolve());
    });
    for await (const line of createInterface({ input: child.stdout })) lines.console(line);
    await ended;
  } finally {
    for (const timer of timers) clearTimeout(timer);
    process.off('exit', stop);
    stop();
    await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  }
}

function lineServer(onLine: (line: string) => void): Server {
  return createServer((connection) => {
    connection.on('error', () => {});
    createInterface({ input: connection }).on('line', onLine);
  });
}

function listening(server: Server, path: string): Promise<Server> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(path, () => resolve(server));
  });
}
