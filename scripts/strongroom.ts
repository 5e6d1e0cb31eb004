import { writeSync } from 'node:fs';
import { Socket } from 'node:net';
import { Writable } from 'node:stream';
import { setImmediate } from 'node:timers/promises';
import { StrongroomError } from '../shared/errors.ts';
import type { CommandIo } from './command.ts';
import { COMMANDS } from './commands.ts';
import { CommandError } from './errors.ts';

/** Finds the command whose words the arguments begin with; two-word names win over one-word names. */
function findCommand(args: readonly string[]): { name: string; rest: readonly string[] } | undefined {
  for (const words of [2, 1]) {
    const name = args.slice(0, words).join(' ');
    if (args.length >= words && Object.hasOwn(COMMANDS, name)) return { name, rest: args.slice(words) };
  }
  return undefined;
}

async function overview(): Promise<string> {
  const lines = ['Usage: strongroom COMMAND [OPTIONS]', '', 'Commands:'];
  for (const [name, load] of Object.entries(COMMANDS)) {
    const { command } = await load();
    lines.push(`  ${name.padEnd(20)} ${command.summary}`);
  }
  lines.push('', 'strongroom COMMAND --help shows options and an example.');
  return `${lines.join('\n')}\n`;
}

function noCommand(word: string): string {
  const longer = Object.keys(COMMANDS).filter((name) => name.startsWith(`${word} `));
  const hint = longer.length > 0 ? `There are: ${longer.join(', ')}.` : '"strongroom --help" lists them.';
  return `There is no command "${word}". ${hint}`;
}

/** What stands after `--` belongs to a command that is run (`strongroom exec`), or is a path that looks like an option. */
function ownArguments(args: readonly string[]): readonly string[] {
  const end = args.indexOf('--');
  return end === -1 ? args : args.slice(0, end);
}

/**
 * Runs one command line and resolves to its exit code; every error is reported here and nowhere else. A result that did
 * not arrive is no success. A reader that leaves (`| head`) has what it wanted, and is told nothing.
 */
export async function main(args: readonly string[], io: CommandIo): Promise<number> {
  const lostOutput = watchOutput(io.stdout);
  let code: number;
  try {
    const done = await runCommandLine(args, io);
    if (done.printsLog) return done.code;
    code = done.code;
  } catch (error) {
    const lost = await lostOutput();
    if (lost === undefined) code = report(error, args, io);
    else code = hasLeft(lost) ? asReported(error).exitCode : 0;
  }
  const lost = await lostOutput();
  if (lost === undefined || hasLeft(lost)) return code;
  const message = `Standard output could not be written, so what it should say is incomplete: ${lost.message}. Anything else that the command did stands.`;
  const unwritable = new CommandError('OUTPUT_UNWRITABLE', message, lost);
  io.stderr.write(asText(unwritable));
  return code === 0 ? unwritable.exitCode : code;
}

/** Gives what looks, once all was written, whether it arrived: the first error of the stream. */
function watchOutput(stdout: CommandIo['stdout']): () => Promise<NodeJS.ErrnoException | undefined> {
  let first: NodeJS.ErrnoException | undefined;
  stdout.once('error', (error) => {
    first = error;
  });
  return async () => {
    await setImmediate(); // a write that failed is told of in a later turn
    // A write now would only find out that a reader has left who had everything.
    if (first !== undefined || (stdout as Writable).writableLength === 0) return first;
    const last = await new Promise<Error | null | undefined>((resolve) => stdout.write('', resolve));
    return first ?? last ?? undefined;
  };
}

function hasLeft({ code }: NodeJS.ErrnoException): boolean {
  return code === 'EPIPE' || code === 'ECONNRESET';
}

interface Done {
  readonly code: number;
  readonly printsLog: boolean;
}

async function runCommandLine(args: readonly string[], io: CommandIo): Promise<Done> {
  const found = findCommand(args);
  if (found === undefined) {
    if (args.length === 0 || args[0] === '--help' || args[0] === '-h' || args[0] === 'help') {
      io.stdout.write(await overview());
      return { code: 0, printsLog: false };
    }
    throw new CommandError('USAGE', noCommand(args[0] ?? ''));
  }
  const load = COMMANDS[found.name] as (typeof COMMANDS)[string];
  const { command } = await load();
  const own = ownArguments(args);
  if (own.includes('--help') || own.includes('-h')) {
    io.stdout.write(`${command.help.trim()}\n`);
    return { code: 0, printsLog: false };
  }
  return { code: await command.run(found.rest, io), printsLog: command.printsLog === true };
}

function report(error: unknown, args: readonly string[], io: CommandIo): number {
  const known = asReported(error);
  const { code, message, action } = known;
  if (ownArguments(args).includes('--json')) {
    io.stdout.write(`${JSON.stringify({ error: { code, message, action } })}\n`);
  } else {
    io.stderr.write(asText(known));
    if (code === 'UNEXPECTED' && error instanceof Error) io.stderr.write(`\n${error.stack}\n`);
  }
  return known.exitCode;
}

function asText({ code, message, action }: StrongroomError): string {
  return `strongroom: ${message}\n  code: ${code}\n  next: ${action}\n`;
}

function asReported(error: unknown): StrongroomError {
  return asKnownError(error) ?? unexpected(error);
}

function unexpected(error: unknown): CommandError {
  return new CommandError('UNEXPECTED', error instanceof Error ? error.message : String(error), error);
}

const NO_ROOM = ['ENOSPC', 'EDQUOT', 'EROFS', 'EFBIG'];
const WRITING = ['mkdir', 'write', 'rename', 'fsync', 'unlink', 'rm', 'rmdir'];

/** `parseArgs` and the file system throw errors of their own; both have a code that a reader can act on. */
function asKnownError(error: unknown): StrongroomError | undefined {
  if (error instanceof StrongroomError) return error;
  if (!(error instanceof Error) || !('code' in error)) return undefined;
  const { code, syscall, path } = error as NodeJS.ErrnoException;
  if (code?.startsWith('ERR_PARSE_ARGS')) return new CommandError('USAGE', error.message, error);
  if (syscall === undefined || !/^E[A-Z0-9]+$/.test(code ?? '')) return undefined;
  // Results are written aside, under hidden names of this form.
  const aside = path?.includes('.partial-') === true;
  const writing = aside || NO_ROOM.includes(code ?? '') || WRITING.includes(syscall);
  return new CommandError(writing ? 'OUTPUT_UNWRITABLE' : 'INPUT_UNREADABLE', error.message, error);
}

const STDOUT_FD = 1;

/**
 * Node's own stream for a redirected file writes once and never looks how much of it went: on a full disk, the rest of a
 * model would be missing, without an error.
 */
function wholeOutput(): Writable {
  return new Writable({
    write(chunk: Buffer, _encoding, done) {
      try {
        for (let at = 0; at < chunk.length; ) at += writeSync(STDOUT_FD, chunk, at);
        done();
      } catch (error) {
        done(error as Error);
      }
    },
  });
}

if (import.meta.main) {
  const stdout = (process.stdout as Writable) instanceof Socket ? process.stdout : wholeOutput();
  const interrupt = new AbortController();
  process.once('SIGINT', () => interrupt.abort(new Error('interrupted')));
  // A supervisor's signal arrives twice: to the process group, and through strongroom.mjs.
  process.on('SIGTERM', () => interrupt.abort(new Error('terminated')));
  // The terminal has closed; or Ctrl-\, whose core file would hold keys and weights. `run` and `exec` have uses of their own.
  for (const signal of ['SIGHUP', 'SIGQUIT'] as const) {
    process.on(signal, () => {
      if (process.listenerCount(signal) === 1) interrupt.abort(new Error(`ended by ${signal}`));
    });
  }
  // Nobody can be told that nobody can be told; the work goes on, and the exit code says how it ended.
  process.stderr.on('error', () => {});
  // Whoever read the output has left (`| head`): an interrupt like any other, so that commands clean up.
  stdout.on('error', (error) => interrupt.abort(error));
  process.exitCode = await main(process.argv.slice(2), {
    stdin: process.stdin,
    stdout,
    stderr: process.stderr,
    signal: interrupt.signal,
  });
}
