/**
 * Confines the process that calls it, for good, before any native engine is loaded (docs/engine.md).
 *
 * An inference engine is a large C++ program that reads a model somebody else made and inputs that anybody
 * sends. So it runs in a process of its own that has no way out but its answers: no sockets, no other
 * process, no file to write, no device, no privilege to regain. Its user id was dropped when it was spawned.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { dieWithParent, installSeccompFilter, makeNonDumpable } from '../native/process.ts';
import { EngineError } from './errors.ts';
import { enginePolicy } from './seccomp-policy.ts';
import { assembleFilter } from './seccomp-program.ts';

/** Rejects with EngineError ENGINE_CONFINEMENT, and then nothing may be run here, if any part of it fails. */
export async function confineThisProcess(): Promise<void> {
  const uids = [process.getuid?.(), process.geteuid?.(), process.getgid?.(), process.getegid?.()];
  if (uids.some((id) => id === undefined || id === 0)) {
    throw new EngineError(
      'ENGINE_CONFINEMENT',
      'the engine may not run as root: expected a user id of its own',
    );
  }
  const policy = enginePolicy(process.arch, process.pid);
  if (policy === undefined) {
    throw new EngineError('ENGINE_CONFINEMENT', `no filter for ${process.arch}: expected x64 or arm64`);
  }
  await eventLoopsSettled();
  dieWithParent();
  makeNonDumpable();
  installSeccompFilter(assembleFilter(policy));
  requireFilterOnEveryThread();
}

/**
 * libuv hands the first watchers of each event loop to epoll through io_uring where there is one, and aborts
 * if that is refused. So let this loop go round once, and wait until the platform's own loop thread sleeps in
 * its first wait. From then on neither loop has anything to register.
 */
async function eventLoopsSettled(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
  for (let waitedMs = 0; waitedMs < 5_000 && !otherThreadsSleep(); waitedMs += 1) {
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

/** proc_pid_stat(5): the state follows the name, which ends with the last parenthesis. */
function otherThreadsSleep(): boolean {
  return readdirSync('/proc/self/task')
    .filter((thread) => thread !== String(process.pid))
    .every((thread) => /.*\) S /s.test(readFileSync(`/proc/self/task/${thread}/stat`, 'latin1')));
}

/** Asks the kernel rather than trusting the calls above: proc_pid_status(5), Seccomp and NoNewPrivs. */
function requireFilterOnEveryThread(): void {
  for (const thread of readdirSync('/proc/self/task')) {
    const status = readFileSync(`/proc/self/task/${thread}/status`, 'latin1');
    if (!/^Seccomp:\t2$/m.test(status) || !/^NoNewPrivs:\t1$/m.test(status)) {
      throw new EngineError('ENGINE_CONFINEMENT', `thread ${thread} is not confined`);
    }
  }
}
