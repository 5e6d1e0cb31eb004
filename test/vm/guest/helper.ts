/** Another process of the virtual machine: it says on the IPC channel when it is ready, and what it has seen. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';

export class Helper {
  readonly process: ChildProcess;
  readonly #messages: object[] = [];
  readonly #waiting: ((message: object) => void)[] = [];

  private constructor(child: ChildProcess) {
    this.process = child;
    child.on('message', (message: object) => {
      const next = this.#waiting.shift();
      if (next === undefined) this.#messages.push(message);
      else next(message);
    });
  }

  /** Starts a file of this folder. Resolves with its first message. */
  static async start(file: string, argument: object): Promise<{ helper: Helper; ready: object }> {
    const child = fork(join(import.meta.dirname, file), [JSON.stringify(argument)], { execArgv: [] });
    const helper = new Helper(child);
    const ended = once(child, 'exit').then(() => {
      throw new Error(`${file} ended before it was ready`);
    });
    return { helper, ready: await Promise.race([helper.next(), ended]) };
  }

  /** The next message that nobody has taken yet. */
  next(): Promise<object> {
    const message = this.#messages.shift();
    if (message !== undefined) return Promise.resolve(message);
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** Ends it as a crash would. */
  async kill(): Promise<void> {
    if (this.process.exitCode !== null || this.process.signalCode !== null) return;
    const exited = once(this.process, 'exit');
    this.process.kill('SIGKILL');
    await exited;
  }
}

/** In a helper's process: what start() was given. */
export function givenArgument<T>(): T {
  return JSON.parse(process.argv[2] ?? '{}') as T;
}

export function tell(message: object): void {
  process.send?.(message);
}
