/** Runs a program that is not ours: no shell, bounded output, a deadline, and nothing inherited. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Readable } from 'node:stream';
import { NitroError } from './errors.ts';

const OUTPUT_MAX_BYTES = 256 * 1024;
const ERRORS_KEPT_BYTES = 16 * 1024;
/** How long its output may stay open once it has ended: a process that it left behind may hold it. */
const OUTPUT_GRACE_MS = 1_000;

export interface ProgramEnd {
  /** Undefined if a signal ended it. */
  readonly status: number | undefined;
  readonly stdout: Uint8Array;
  /** The last 16 KiB. */
  readonly stderr: string;
}

/**
 * Resolves when the program has ended, whatever its status. Throws NITRO_CLI_MISSING, NITRO_CLI_TIMEOUT,
 * NITRO_CLI_UNREADABLE (more than 256 KiB of output). After an abort it is
 * killed, which counts as its end.
 */
export async function runProgram(
  program: string,
  args: readonly string[],
  options: {
    readonly timeoutMs: number;
    readonly signal?: AbortSignal | undefined;
    /** How long after an abort it may still take to end by itself. */
    readonly abortGraceMs?: number | undefined;
  },
): Promise<ProgramEnd> {
  const shown = `${program} ${args[0] ?? ''}`;
  const child = spawn(program, args, {
    cwd: '/',
    // nitro-cli asks lscpu, and says what the driver refused only in its backtrace.
    env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', BACKTRACE: '1' },
    stdio: ['ignore', 'pipe', 'pipe'],
    // A group of its own: Ctrl-C in a terminal is for the parent, which then ends it in order; and killing the
    // group reaches what the program has forked.
    detached: true,
  });
  if (child.pid === undefined) {
    // Without a descriptor to spare it has no pipes either.
    const [cause] = (await once(child, 'error')) as [Error];
    throw new NitroError('NITRO_CLI_MISSING', `Cannot run ${program}: ${cause.message}`, cause);
  }
  const group = -child.pid;
  const end = Promise.withResolvers<number | undefined>();
  child.once('exit', (status) => end.resolve(status ?? undefined));
  const kill = (): void => {
    try {
      process.kill(group, 'SIGKILL');
    } catch {
      // It has just ended by itself.
    }
  };
  const stop = (error: NitroError): void => {
    end.reject(error);
    kill();
  };

  const stdout = collect(child.stdout, OUTPUT_MAX_BYTES, () => {
    stop(new NitroError('NITRO_CLI_UNREADABLE', `${shown} wrote more than ${OUTPUT_MAX_BYTES} bytes.`));
  });
  const stderr = collectTail(child.stderr, ERRORS_KEPT_BYTES);
  const timer = setTimeout(() => {
    const said = stderr.text().trim().slice(-500);
    const message = `${shown} did not end within ${options.timeoutMs} ms${said === '' ? '.' : `; it said: ${said}`}`;
    stop(new NitroError('NITRO_CLI_TIMEOUT', message));
  }, options.timeoutMs);
  let grace: NodeJS.Timeout | undefined;
  const abort = (): void => {
    grace = setTimeout(kill, options.abortGraceMs ?? 0);
  };
  options.signal?.addEventListener('abort', abort, { once: true });
  if (options.signal?.aborted === true) abort();
  try {
    const status = await end.promise;
    await Promise.race([Promise.all([stdout.ended, stderr.ended]), pause(OUTPUT_GRACE_MS)]);
    return { status, stdout: stdout.bytes(), stderr: stderr.text() };
  } finally {
    clearTimeout(timer);
    clearTimeout(grace);
    options.signal?.removeEventListener('abort', abort);
    child.stdout.destroy();
    child.stderr.destroy();
  }
}

function collect(stream: Readable, maxBytes: number, tooMuch: () => void) {
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  stream.on('data', (chunk: Buffer) => {
    sizeBytes += chunk.length;
    if (sizeBytes <= maxBytes) chunks.push(chunk);
    else tooMuch();
  });
  return { ended: ended(stream), bytes: () => Buffer.concat(chunks) };
}

function collectTail(stream: Readable, keptBytes: number) {
  let kept = Buffer.alloc(0);
  stream.on('data', (chunk: Buffer) => {
    kept = Buffer.concat([kept, chunk]).subarray(-keptBytes);
  });
  return { ended: ended(stream), text: () => kept.toString('utf8') };
}

function ended(stream: Readable): Promise<void> {
  return new Promise((resolve) => {
    stream.once('error', () => {});
    stream.once('close', () => resolve());
  });
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, milliseconds).unref();
  });
}
