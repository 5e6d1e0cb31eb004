import { readFile } from 'node:fs/promises';
import { dirname, relative, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import type { Link } from '../../link/link.ts';
import { unixLink } from '../../link/unix.ts';
import { type ParentConfig, parseParentConfig } from '../../parent/config/config.ts';
import type { LinkConfig } from '../../parent/config/link.ts';
import { startParent } from '../../parent/parent.ts';
import { StrongroomError } from '../../shared/errors.ts';
import type { Command, CommandIo } from '../command.ts';
import { CommandError } from '../errors.ts';

const DRAIN_TIMEOUT_MS = 10_000;

export const command: Command = {
  name: 'run',
  summary: 'Run the parent: relay callers to the enclave and serve it what it asks for.',
  help: `
Usage: strongroom run --config FILE [--json]

Runs the parent until it is interrupted. The configuration is strict JSON (docs/link.md section 6). Standard
output has one JSON object a line; the first says {"event":"ready", ...} with the address for callers.

  SIGHUP           reads the file again: egress, deployment, models and credentials; connections stay open
  SIGINT, SIGTERM  takes no more callers, lets the open connections finish for 10 s, and ends

Options:
  --config FILE    the configuration
  --json           accepted for uniformity: the log is always JSON

Example:
  strongroom run --config parent.json

Exit codes: 0 ended after an interrupt, 2 unusable configuration, address or link.
`,
  run: async (args, io) => {
    const { values } = parseArgs({
      args: [...args],
      options: { config: { type: 'string' }, json: { type: 'boolean' } },
    });
    if (values.config === undefined) throw new CommandError('USAGE', 'run needs --config FILE.');
    await runParent(values.config, io);
    return 0;
  },
};

async function runParent(path: string, io: CommandIo): Promise<void> {
  const log = (entry: object): void => {
    io.stdout.write(`${JSON.stringify(entry)}\n`);
  };
  const config = await readConfig(path);
  const parent = await startParent(config, await openLink(config.link), { observe: log });
  const { address, port } = parent.address;
  log({ event: 'ready', address, port });

  const reload = (): void => {
    readConfig(path)
      .then((next) => parent.reload(next))
      .catch((error: unknown) => log({ event: 'reload-refused', ...describe(error) }));
  };
  process.on('SIGHUP', reload);
  try {
    await aborted(io.signal);
    const graceful = await parent.drain(DRAIN_TIMEOUT_MS);
    log({ event: 'stopped', graceful, counters: parent.counters() });
  } finally {
    process.off('SIGHUP', reload);
  }
}

async function readConfig(path: string): Promise<ParentConfig> {
  return parseParentConfig(await readFile(path), dirname(resolve(path)));
}

async function openLink(config: LinkConfig): Promise<Link> {
  if (config.kind === 'unix')
    return unixLink({ dial: shortest(config.dial), listen: shortest(config.listen) });
  // Loaded only here: it brings native calls along, which nobody needs for a link of the other kind.
  const { vsockLink } = await import('../../link/vsock.ts');
  return vsockLink({ peerCid: config.enclaveCid });
}

/** A UNIX socket's path has few bytes to spend, so of two spellings of a folder the shorter one is used. */
function shortest(folder: string): string {
  const fromHere = relative(process.cwd(), folder) || '.';
  return fromHere.length < folder.length ? fromHere : folder;
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    signal.addEventListener('abort', () => resolve(), { once: true });
  });
}

function describe(error: unknown): { code: string; message: string } {
  if (error instanceof StrongroomError) return { code: error.code, message: error.message };
  return { code: 'INPUT_UNREADABLE', message: error instanceof Error ? error.message : String(error) };
}
