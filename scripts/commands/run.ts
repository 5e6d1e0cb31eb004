import { parseArgs } from 'node:util';
import { readParentConfig } from '../../parent/config/config.ts';
import { type Log, operatorLog } from '../../parent/log.ts';
import { type Service, startService } from '../../parent/service.ts';
import { StrongroomError } from '../../shared/errors.ts';
import type { Command, CommandIo } from '../command.ts';
import { CommandError } from '../errors.ts';
import { checkParent } from '../parent-check.ts';
import { openLink } from '../parent-link.ts';

const DRAIN_TIMEOUT_MS = 30_000;
/** A terminal signals a whole group, and who passes a signal on repeats it: within that time it is the same one. */
const SAME_SIGNAL_MS = 1_000;

export const command: Command = {
  name: 'run',
  summary: 'Run the parent: keep an enclave running, serve it what it asks for, relay callers to it.',
  printsLog: true,
  help: `
Usage: strongroom run --config FILE [--check] [--json]

Runs the parent until it is interrupted. The configuration is strict JSON (docs/link.md section 6); how to run it
on an EC2 host is in docs/operations.md. Standard output is the log, one JSON object a line: {"event":"ready"}
says where callers connect, {"event":"enclave-serving"} that an enclave answers there.

  SIGHUP           reads the file again: egress, deployment, models and credentials; connections stay open
  SIGINT, SIGTERM  takes no more callers, lets the open connections finish for 30 s, ends the enclave, and ends
  again            after a second or more: cuts the open connections

Options:
  --config FILE    the configuration
  --check          start nothing: check the configuration, and that image and models fit into the enclave and the
                   enclave into the host, with the sum shown
  --json           with --check: print one JSON document; the log is always JSON

Example:
  strongroom run --config /etc/strongroom/parent.json --check
  strongroom run --config /etc/strongroom/parent.json

Exit codes: 0 ended after an interrupt, or the check found nothing; 1 the enclave does not fit; 2 unusable
configuration, address, link or nitro-cli; 3 the enclave could not be ended.
An enclave that fails to start or ends is no exit: it is started again, and the log says why.
`,
  run: async (args, io) => {
    const { values } = parseArgs({
      args: [...args],
      options: {
        config: { type: 'string' },
        check: { type: 'boolean', default: false },
        json: { type: 'boolean', default: false },
      },
    });
    if (values.config === undefined) throw new CommandError('USAGE', 'run needs --config FILE.');
    if (values.check) return checkParent(await readParentConfig(values.config), values.json, io);
    await runParent(values.config, io);
    return 0;
  },
};

async function runParent(path: string, io: CommandIo): Promise<void> {
  const log = operatorLog(io.stdout);
  const interrupt = interrupted(io);
  const starting = start(path, log);
  // From the first moment on, because the signal would otherwise end the process; and one after the other, so that
  // what was read last is what holds.
  let turn: Promise<unknown> = starting.catch(() => {});
  const reload = (): void => {
    turn = turn
      .then(async () => (await starting).reload(await readParentConfig(path)))
      .catch((error: unknown) => log({ event: 'reload-refused', ...describe(error) }));
  };
  process.on('SIGHUP', reload);
  try {
    const service = await starting;
    await interrupt;
    await drain(service, log);
  } finally {
    process.off('SIGHUP', reload);
  }
}

async function start(path: string, log: Log): Promise<Service> {
  const config = await readParentConfig(path);
  const service = await startService(config, await openLink(config.link), log);
  const { address, port } = service.address;
  log({ event: 'ready', address, port });
  if (service.adminAddress !== undefined) {
    log({ event: 'admin-ready', address: service.adminAddress.address, port: service.adminAddress.port });
  }
  return service;
}

async function drain(service: Service, log: Log): Promise<void> {
  const cut = new AbortController();
  const firstMs = performance.now();
  const again = (): void => {
    if (performance.now() - firstMs >= SAME_SIGNAL_MS) cut.abort();
  };
  process.on('SIGINT', again);
  process.on('SIGTERM', again);
  try {
    log({ event: 'draining', timeoutMs: DRAIN_TIMEOUT_MS });
    const graceful = await service.drain(DRAIN_TIMEOUT_MS, cut.signal);
    log({ event: 'stopped', graceful, counters: service.counters() });
  } finally {
    process.off('SIGINT', again);
    process.off('SIGTERM', again);
  }
}

/**
 * Resolves by a signal, or when the terminal is gone. Any other log that cannot be written (a full disk, a reader
 * that left) aborts as well, and is no reason to end an enclave.
 */
function interrupted({ signal, stdout }: CommandIo): Promise<void> {
  return new Promise((resolve) => {
    const onAbort = (): void => {
      const isWriteError = signal.reason instanceof Error && 'code' in signal.reason;
      if (!isWriteError || stdout.isTTY === true) resolve();
    };
    if (signal.aborted) onAbort();
    signal.addEventListener('abort', onAbort, { once: true });
    process.once('SIGINT', resolve);
    process.once('SIGTERM', resolve);
  });
}

function describe(error: unknown): { code: string; message: string } {
  if (error instanceof StrongroomError) return { code: error.code, message: error.message };
  return { code: 'INPUT_UNREADABLE', message: error instanceof Error ? error.message : String(error) };
}
