/** A process of the benchmark's own that answers one question at a time over Node's channel between processes. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

export interface Worker<Question, Answer = number[]> {
  readonly pid: number;
  ask(question: Question): Promise<Answer>;
  stop(): Promise<void>;
}

/** Starts `file` on these processors, if any are named, and waits for its first word. */
export async function startWorker<Question extends object, Answer = number[]>(
  file: URL,
  args: readonly string[],
  processors?: string,
  flags: readonly string[] = [],
): Promise<Worker<Question, Answer> & { readonly ready: Answer }> {
  const child = spawnOn(processors, process.execPath, [...flags, fileURLToPath(file), ...args]);
  const answer = async (): Promise<Answer> => {
    const gone = new AbortController();
    const exited = once(child, 'exit', { signal: gone.signal }).then(() => {
      throw new Error(`${file.pathname} ended`);
    });
    try {
      return await Promise.race([once(child, 'message').then(([message]) => message as Answer), exited]);
    } finally {
      gone.abort();
      exited.catch(() => {});
    }
  };
  return {
    pid: child.pid as number,
    ready: await answer(),
    ask: (question) => {
      const answered = answer();
      child.send(question);
      return answered;
    },
    stop: () => stopProcess(child),
  };
}

/** Tells a worker's questions to `respond`, one after the other, and ends with the benchmark. */
export function serveQuestions<Question>(respond: (question: Question) => Promise<object>): void {
  process.on('message', (question) => {
    respond(question as Question).then((answer) => process.send?.(answer));
  });
  process.on('disconnect', () => process.exit());
}

/** As many processors as are named, through taskset where there is one. */
export function spawnOn(
  processors: string | undefined,
  program: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv = {},
): ChildProcess {
  const [first, ...rest] =
    processors === undefined ? [program, ...args] : ['taskset', '-c', processors, program, ...args];
  const isNode = program === process.execPath;
  return spawn(first as string, rest, {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'ignore', 'inherit', ...(isNode ? ['ipc' as const] : [])],
  });
}

export async function stopProcess(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  child.kill('SIGKILL');
  await exited;
}
