/**
 * Keeps an engine running in a process of its own, whatever kind it is: starts it, and starts it again when it dies.
 *
 * States: starting -> ready; ready -> (process gone) restarting -> ready, without end and after ever longer waits;
 * close() ends it from anywhere. A number of restarts that ended it would let a caller whose inputs crash the model
 * end the service. Only an engine that does not start at first is fatal.
 */

import { fstatSync } from 'node:fs';
import {
  type EngineKind,
  type EngineListener,
  type EngineProcess,
  type ExternalFile,
  spawnEngine,
} from './engine-process.ts';
import { EngineError } from './errors.ts';

export interface EngineOptions {
  /**
   * Read-only descriptor of the model, an unlinked file with mode 0444 on tmpfs. The caller keeps it open
   * until close(): a restarted engine is handed the same one.
   */
  readonly modelFd: number;
  /** The model's other files, each as `modelFd`. None if absent. */
  readonly external?: readonly ExternalFile[];
  /** Its tokenizer's files, each as `modelFd`. None if absent. */
  readonly tokenizer?: readonly ExternalFile[];
  /** Threads for computing: virtual CPUs less one, and at least one. */
  readonly threads: number;
  /** First file of the engine's process; the kind's own if absent. It calls runConfined (engine/launch.ts). */
  readonly entry?: string;
  /** User and group id of the engine's process. Required as root, and only root can give one. */
  readonly uid?: number;
  /** From spawn to loaded. Default: a minute, and one more for each GiB of the model. */
  readonly startTimeoutMs?: number;
  /** The wait before the given restart in a row, from 1. For tests. */
  readonly restartDelayMs?: (restartsInARow: number) => number;
}

const START_TIMEOUT_MS = 60_000;
const START_TIMEOUT_PER_GIB_MS = 60_000;
const FIRST_RESTART_DELAY_MS = 100;
const LAST_RESTART_DELAY_MS = 30_000;
/** After an engine that stayed up this long the waits are short again. */
const STABLE_AFTER_MS = 60_000;

/** From spawn to loaded: the runtime copies what it loads, at the pace of a machine that may be busy. */
export function startTimeoutMs(modelSizeBytes: number): number {
  return START_TIMEOUT_MS + Math.ceil(modelSizeBytes / 2 ** 30) * START_TIMEOUT_PER_GIB_MS;
}

/** `restartsInARow` counts from 1. */
export function restartDelayMs(restartsInARow: number): number {
  return Math.min(FIRST_RESTART_DELAY_MS * 2 ** (restartsInARow - 1), LAST_RESTART_DELAY_MS);
}

type CompleteOptions = Required<Omit<EngineOptions, 'uid'>> & { readonly uid?: number };

function withDefaults(options: EngineOptions, entry: string): CompleteOptions {
  const { modelFd, external = [], tokenizer = [] } = options;
  const sizesBytes = [modelFd, ...[...external, ...tokenizer].map(({ fd }) => fd)].map(
    (fd) => fstatSync(fd).size,
  );
  return {
    entry,
    external: [],
    tokenizer: [],
    startTimeoutMs: startTimeoutMs(sizesBytes.reduce((sum, size) => sum + size, 0)),
    restartDelayMs,
    ...options,
  };
}

function requireSoundOptions({ modelFd, external = [], tokenizer = [], threads, uid }: EngineOptions): void {
  const refused = (why: string): EngineError => new EngineError('ENGINE_OPTIONS', why);
  for (const fd of [modelFd, ...[...external, ...tokenizer].map((file) => file.fd)]) {
    if (!Number.isSafeInteger(fd) || fd < 0)
      throw refused('modelFd, external, tokenizer: expected descriptors');
  }
  if (!Number.isSafeInteger(threads) || threads < 1) throw refused('threads: expected at least 1');
  if (uid !== undefined && (!Number.isSafeInteger(uid) || uid < 1))
    throw refused('uid: expected a user id, not root');
  if (process.getuid?.() === 0 && uid === undefined) throw refused('uid: required when started as root');
}

export class Supervisor<Metadata> {
  readonly metadata: Metadata;
  readonly #options: CompleteOptions;
  readonly #kind: EngineKind<Metadata>;
  #listener: EngineListener | undefined;
  #process: EngineProcess<Metadata>;
  #closed = false;
  #restartsInARow = 0;
  #startedAtMs = performance.now();
  #cancelBackoff: (() => void) | undefined;
  #restarting: Promise<void> | undefined;

  private constructor(
    options: CompleteOptions,
    kind: EngineKind<Metadata>,
    process: EngineProcess<Metadata>,
  ) {
    this.#options = options;
    this.#kind = kind;
    this.metadata = process.metadata;
    this.#process = process;
  }

  /** Resolves once the model is loaded. Rejects with EngineError. */
  static async start<Metadata>(
    options: EngineOptions,
    entry: string,
    kind: EngineKind<Metadata>,
  ): Promise<Supervisor<Metadata>> {
    requireSoundOptions(options);
    const complete = withDefaults(options, entry);
    return new Supervisor(complete, kind, await spawnEngine(complete, kind));
  }

  /** Called once, by the engine that this process belongs to, and of every process that follows. */
  listen(listener: EngineListener): void {
    this.#listener = listener;
    this.#adopt(this.#process);
  }

  get ready(): boolean {
    return this.#process.alive && !this.#closed;
  }

  /** Throws EngineError ENGINE_UNAVAILABLE, or ENGINE_REJECTED for what is too large for a frame. */
  send(header: object, body?: readonly Uint8Array[]): void {
    if (!this.ready) throw unavailable();
    this.#process.send(header, body);
  }

  /** Ends the process that runs, for this reason; the next one follows. */
  end(reason: EngineError): void {
    this.#process.end(reason);
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#cancelBackoff?.();
    await this.#process.kill();
    // An engine that is starting is killed as soon as it has started.
    await this.#restarting;
  }

  #adopt(process: EngineProcess<Metadata>): void {
    this.#process = process;
    this.#startedAtMs = performance.now();
    this.#restarting = process.gone.then(() => this.#restart());
    if (this.#listener !== undefined) process.listen(this.#listener);
  }

  async #restart(): Promise<void> {
    if (performance.now() - this.#startedAtMs > STABLE_AFTER_MS) this.#restartsInARow = 0;
    while (!this.#closed) {
      this.#restartsInARow += 1;
      await this.#backOff(this.#options.restartDelayMs(this.#restartsInARow));
      if (this.#closed) return;
      const process = await spawnEngine(this.#options, this.#kind).catch(() => undefined);
      if (process === undefined) continue;
      // Closed meanwhile, or the same model describes itself differently: not to be trusted.
      if (this.#closed || JSON.stringify(process.metadata) !== JSON.stringify(this.metadata)) {
        await process.kill();
        continue;
      }
      this.#adopt(process);
      return;
    }
  }

  #backOff(delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, delayMs);
      this.#cancelBackoff = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}

export function unavailable(): EngineError {
  return new EngineError('ENGINE_UNAVAILABLE', 'the engine is not running: expected it to be ready');
}
