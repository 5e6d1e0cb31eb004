import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { LocalStackError } from './errors.ts';
import type { EnclaveExit, SimulatedEnclave, SimulatedInstance } from './hypervisor.ts';
import { collector, ended, firstLine, LIFELINE, OUT_OF_REACH } from './processes.ts';

interface StartEnclaveOptions {
  readonly image: string;
  readonly debug: boolean;
  readonly onStep: (step: string) => Promise<void> | void;
  readonly onLine: OnLine;
}

/** Told of each line that the parent logs and that the enclave writes to its console. */
export type OnLine = (from: 'parent' | 'enclave', line: string) => void;

/** One simulated EC2 instance: its parent process and its enclave process. */
export class LocalInstance implements AsyncDisposable {
  readonly folder: string;
  readonly #instance: SimulatedInstance;
  readonly #onClosed: () => void;
  #serving = servingOnce();
  readonly #ended = Promise.withResolvers<'parent' | 'enclave'>();
  readonly #errors: string[] = [];
  #parent: ChildProcess | undefined;
  #startParentAgain: (() => Promise<void>) | undefined;
  #startEnclaveAgain: (() => Promise<void>) | undefined;
  #starting: Promise<SimulatedEnclave> | undefined;
  #enclave: SimulatedEnclave | undefined;
  #port = 0;
  #closed: Promise<void> | undefined;

  constructor(instance: SimulatedInstance, onClosed: () => void) {
    this.#instance = instance;
    this.#onClosed = onClosed;
    this.folder = instance.folder;
  }

  /** Where callers connect: the parent's relay. */
  get url(): string {
    return `https://127.0.0.1:${this.#port}`;
  }

  get enclave(): SimulatedEnclave {
    if (this.#enclave === undefined) throw new Error('the enclave has not been started');
    return this.#enclave;
  }

  get parentPid(): number {
    return this.#parent?.pid ?? 0;
  }

  /** What the enclave wrote to its console, and the parent to its standard error. */
  get console(): string {
    return this.#errors.join('');
  }

  /** Resolves to the first of the two processes that ends. */
  get ended(): Promise<'parent' | 'enclave'> {
    return this.#ended.promise;
  }

  /**
   * Of the enclave that was started last: resolves once it serves, rejects with LocalStackError
   * `SIMULATED_ENCLAVE_STOPPED` when it stops before.
   */
  get serving(): Promise<void> {
    return this.#serving.promise;
  }

  async startParent(projectFolder: string, command: readonly string[], onLine: OnLine): Promise<void> {
    this.#startParentAgain = () => this.startParent(projectFolder, command, onLine);
    const [entry = '', ...rest] = command;
    const child = spawn(process.execPath, ['--import', LIFELINE, join(projectFolder, entry), ...rest], {
      cwd: this.folder,
      env: { PATH: '/nowhere' },
      stdio: ['pipe', 'pipe', 'pipe'],
      ...OUT_OF_REACH,
    });
    this.#parent = child;
    child.once('exit', () => this.#ended.resolve('parent'));
    child.stderr?.on('data', (text: Buffer) => this.#errors.push(text.toString()));
    for (const stream of [child.stdout, child.stderr]) {
      createInterface({ input: stream as Readable }).on('line', (line) => onLine('parent', line));
    }
    const ready = await firstLine<{ port: number }>(child, (line) => line.event === 'ready');
    this.#port = ready.port;
  }

  async startEnclave(options: StartEnclaveOptions): Promise<void> {
    if (this.#closed !== undefined) throw new Error('The instance is closed.');
    this.#startEnclaveAgain = () => this.startEnclave(options);
    const { image, debug, onStep, onLine } = options;
    const serving = servingOnce();
    this.#serving = serving;
    const toldBefore = this.#errors.length;
    const stderr = collector(this.#errors);
    createInterface({ input: stderr }).on('line', (line) => onLine('enclave', line));
    this.#starting = this.#instance.runEnclave({
      image,
      debug,
      stdout: stderr,
      stderr,
      onStep: async (step) => {
        await onStep(step);
        if (step === 'serving') serving.resolve();
      },
    });
    this.#enclave = await this.#starting;
    this.#enclave.process.exited.then((exit) => {
      serving.reject(stopped(exit, this.#errors.slice(toldBefore)));
      this.#ended.resolve('enclave');
    });
  }

  /** A parent in the place of one that has ended. It listens where callers' `url` says from then on. */
  async startParentAgain(): Promise<void> {
    if (this.#parent !== undefined) await ended(this.#parent, 'SIGTERM');
    await this.#startParentAgain?.();
  }

  /** A fresh enclave in the place of the one before, under the same parent. */
  async startEnclaveAgain(): Promise<void> {
    await this.#enclave?.close();
    await this.#startEnclaveAgain?.();
  }

  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    const enclave = await this.#starting?.catch(() => undefined);
    await enclave?.close();
    if (this.#parent !== undefined) await ended(this.#parent, 'SIGTERM');
    await this.#instance.close();
    this.#onClosed();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

function servingOnce(): PromiseWithResolvers<void> {
  const serving = Promise.withResolvers<void>();
  // Not everybody waits for it.
  serving.promise.catch(() => {});
  return serving;
}

/** The stand-in writes the error that ended its boot as one line of JSON; it is the reason to tell. */
function stopped({ code, signal }: EnclaveExit, errors: readonly string[]): LocalStackError {
  for (const line of errors.join('').split('\n').toReversed()) {
    try {
      const found = JSON.parse(line) as { code?: unknown; message?: unknown };
      if (typeof found.code === 'string') {
        return new LocalStackError('SIMULATED_ENCLAVE_STOPPED', String(found.message), found.code);
      }
    } catch {
      // Not the line that we look for.
    }
  }
  const how = signal === null ? `exit code ${code}` : `signal ${signal}`;
  return new LocalStackError('SIMULATED_ENCLAVE_STOPPED', `${how}: ${errors.join('').trim()}`, undefined);
}
