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

/** Runs one command line and resolves to its exit code; every error is reported here and nowhere else. */
export async function main(args: readonly string[], io: CommandIo): Promise<number> {
  const json = args.includes('--json');
  try {
    const found = findCommand(args);
    if (found === undefined) {
      if (args.length === 0 || args[0] === '--help' || args[0] === '-h' || args[0] === 'help') {
        io.stdout.write(await overview());
        return 0;
      }
      throw new CommandError('USAGE', `There is no command "${args[0]}". "strongroom --help" lists them.`);
    }
    const load = COMMANDS[found.name] as (typeof COMMANDS)[string];
    const { command } = await load();
    if (found.rest.includes('--help') || found.rest.includes('-h')) {
      io.stdout.write(`${command.help.trim()}\n`);
      return 0;
    }
    return await command.run(found.rest, io);
  } catch (error) {
    return report(error, json, io);
  }
}

function report(error: unknown, json: boolean, io: CommandIo): number {
  const known = asKnownError(error);
  if (known === undefined) {
    io.stderr.write(
      `strongroom: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`,
    );
    return 2;
  }
  if (json) {
    const { code, message, action } = known;
    io.stdout.write(`${JSON.stringify({ error: { code, message, action } })}\n`);
  } else {
    io.stderr.write(`strongroom: ${known.message}\n  code: ${known.code}\n  next: ${known.action}\n`);
  }
  return known.exitCode;
}

/** `parseArgs` and the file system throw errors of their own; both have a code that a reader can act on. */
function asKnownError(error: unknown): StrongroomError | undefined {
  if (error instanceof StrongroomError) return error;
  if (!(error instanceof Error) || !('code' in error)) return undefined;
  const code = String(error.code);
  if (code.startsWith('ERR_PARSE_ARGS')) return new CommandError('USAGE', error.message, error);
  if (['ENOENT', 'EACCES', 'EISDIR', 'ENOTDIR', 'EPERM'].includes(code)) {
    return new CommandError('INPUT_UNREADABLE', error.message, error);
  }
  return undefined;
}

if (import.meta.main) {
  const interrupt = new AbortController();
  process.once('SIGINT', () => interrupt.abort(new Error('interrupted')));
  process.once('SIGTERM', () => interrupt.abort(new Error('terminated')));
  // Whoever read the output has left (`| head`): an interrupt like any other, so that commands clean up.
  process.stdout.on('error', (error) => interrupt.abort(error));
  process.exitCode = await main(process.argv.slice(2), {
    stdin: process.stdin,
    stdout: process.stdout,
    stderr: process.stderr,
    signal: interrupt.signal,
  });
}
