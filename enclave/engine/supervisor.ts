/**
 * Starts an engine in a process of its own, asks it one question at a time, and starts it again when it dies.
 *
 * States: starting -> ready <-> busy; any of them -> (process gone) restarting -> ready, without
 * end and after ever longer waits; close() ends it from anywhere. A number of restarts that ended it would let a
 * caller whose inputs crash the model end the service. Only an engine that does not start at first is fatal.
 */

import { fstatSync } from 'node:fs';
import type { InferRequest, InferResponse, TensorEngine } from './engine.ts';
import { type EngineProcess, type ExternalFile, ONNX_ENGINE, spawnEngine } from './engine-process.ts';
import { EngineError } from './errors.ts';
import { fits, requireWantedOutputs } from './messages.ts';
import { type ModelMetadata, type Tensor, tensorDataFault } from './tensor.ts';

export interface EngineOptions {
  /**
   * Read-only descriptor of the model, an unlinked file with mode 0444 on tmpfs. The caller keeps it open
   * until close(): a restarted engine is handed the same one.
   */
  readonly modelFd: number;
  /** The model's other files, each as `modelFd`. None if absent. */
  readonly external?: readonly ExternalFile[];
  /** Threads for computing: virtual CPUs less one, and at least one. */
  readonly threads: number;
  /** First file of the engine's process; the ONNX engine's if absent. It calls runConfined (engine/launch.ts). */
  readonly entry?: string;
  /** User and group id of the engine's process. Required as root, and only root can give one. */
  readonly uid?: number;
  /** From spawn to loaded. Default: a minute, and one more for each GiB of the model. */
  readonly startTimeoutMs?: number;
  /** For one answer. Default 30 s; then the engine is killed and started again. */
  readonly inferTimeoutMs?: number;
  /** The wait before the given restart in a row, from 1. For tests. */
  readonly restartDelayMs?: (restartsInARow: number) => number;
}

const START_TIMEOUT_MS = 60_000;
const START_TIMEOUT_PER_GIB_MS = 60_000;
const INFER_TIMEOUT_MS = 30_000;
const FIRST_RESTART_DELAY_MS = 100;
const LAST_RESTART_DELAY_MS = 30_000;
/** After an engine that stayed up this long the waits are short again. */
const STABLE_AFTER_MS = 60_000;

/** Starts the engine and resolves once its model is loaded. Rejects with EngineError. */
export async function startEngine(options: EngineOptions): Promise<TensorEngine> {
  requireSoundOptions(options);
  const engine = new SupervisedEngine(options, await spawnEngine(withDefaults(options)));
  return engine;
}

/** From spawn to loaded: the runtime copies what it loads, at the pace of a machine that may be busy. */
export function startTimeoutMs(modelSizeBytes: number): number {
  return START_TIMEOUT_MS + Math.ceil(modelSizeBytes / 2 ** 30) * START_TIMEOUT_PER_GIB_MS;
}

/** `restartsInARow` counts from 1. */
export function restartDelayMs(restartsInARow: number): number {
  return Math.min(FIRST_RESTART_DELAY_MS * 2 ** (restartsInARow - 1), LAST_RESTART_DELAY_MS);
}

function withDefaults(
  options: EngineOptions,
): Required<Omit<EngineOptions, 'uid'>> & { readonly uid?: number } {
  const { modelFd, external = [] } = options;
  const sizesBytes = [modelFd, ...external.map(({ fd }) => fd)].map((fd) => fstatSync(fd).size);
  return {
    entry: ONNX_ENGINE,
    external: [],
    startTimeoutMs: startTimeoutMs(sizesBytes.reduce((sum, size) => sum + size, 0)),
    inferTimeoutMs: INFER_TIMEOUT_MS,
    restartDelayMs,
    ...options,
  };
}

function requireSoundOptions({ modelFd, external = [], threads, uid }: EngineOptions): void {
  const refused = (why: string): EngineError => new EngineError('ENGINE_OPTIONS', why);
  for (const fd of [modelFd, ...external.map((file) => file.fd)]) {
    if (!Number.isSafeInteger(fd) || fd < 0) throw refused('modelFd, external: expected descriptors');
  }
  if (!Number.isSafeInteger(threads) || threads < 1) throw refused('threads: expected at least 1');
  if (uid !== undefined && (!Number.isSafeInteger(uid) || uid < 1))
    throw refused('uid: expected a user id, not root');
  if (process.getuid?.() === 0 && uid === undefined) throw refused('uid: required when started as root');
}

interface Waiting {
  readonly request: InferRequest;
  readonly outputs: readonly string[];
  readonly signal: AbortSignal | undefined;
  readonly resolve: (response: InferResponse) => void;
  readonly reject: (error: unknown) => void;
}

class SupervisedEngine implements TensorEngine {
  readonly kind = 'tensor';
  readonly metadata: ModelMetadata;
  readonly #options: ReturnType<typeof withDefaults>;
  readonly #queue: Waiting[] = [];
  #process: EngineProcess | undefined;
  #busy = false;
  #closed = false;
  #restartsInARow = 0;
  #startedAtMs = performance.now();
  #cancelBackoff: (() => void) | undefined;
  #restarting: Promise<void> | undefined;

  constructor(options: EngineOptions, process: EngineProcess) {
    this.#options = withDefaults(options);
    this.metadata = process.metadata;
    this.#adopt(process);
  }

  get ready(): boolean {
    return this.#process?.alive === true && !this.#closed;
  }

  infer(request: InferRequest, signal?: AbortSignal): Promise<InferResponse> {
    return new Promise((resolve, reject) => {
      signal?.throwIfAborted();
      if (!this.ready) throw unavailable();
      const outputs = request.outputs ?? this.metadata.outputs.map(({ name }) => name);
      requireKnownTensors(request.inputs, outputs, this.metadata);
      const waiting: Waiting = { request, outputs, signal, resolve, reject };
      signal?.addEventListener('abort', () => this.#cancel(waiting), { once: true });
      this.#queue.push(waiting);
      void this.#work();
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#cancelBackoff?.();
    this.#rejectAll();
    await this.#process?.kill();
    this.#process = undefined;
    // An engine that is starting is killed as soon as it has started.
    await this.#restarting;
  }

  /** Answers the caller at once. An engine that is computing already goes on; its answer is dropped. */
  #cancel(waiting: Waiting): void {
    const index = this.#queue.indexOf(waiting);
    if (index >= 0) this.#queue.splice(index, 1);
    waiting.reject(waiting.signal?.reason);
  }

  async #work(): Promise<void> {
    if (this.#busy) return;
    this.#busy = true;
    for (let next = this.#queue.shift(); next !== undefined; next = this.#queue.shift()) {
      const process = this.#process;
      if (process === undefined) {
        next.reject(unavailable());
        continue;
      }
      try {
        const answer = await process.ask(next.request.inputs, next.outputs, this.#options.inferTimeoutMs);
        if (answer.kind === 'rejected') throw new EngineError('ENGINE_REJECTED', answer.message);
        requireWantedOutputs(answer.outputs, next.outputs, this.metadata);
        next.resolve({ outputs: answer.outputs });
      } catch (error) {
        // An engine that breaks the protocol is not asked again.
        if (error instanceof EngineError && error.code === 'ENGINE_PROTOCOL') void process.kill();
        next.reject(error);
      }
    }
    this.#busy = false;
  }

  #adopt(process: EngineProcess): void {
    this.#process = process;
    this.#startedAtMs = performance.now();
    this.#restarting = process.gone.then(() => this.#restart(process));
  }

  async #restart(dead: EngineProcess): Promise<void> {
    if (this.#process !== dead || this.#closed) return;
    this.#process = undefined;
    this.#rejectAll();
    if (performance.now() - this.#startedAtMs > STABLE_AFTER_MS) this.#restartsInARow = 0;
    while (!this.#closed) {
      this.#restartsInARow += 1;
      await this.#backOff(this.#options.restartDelayMs(this.#restartsInARow));
      if (this.#closed) return;
      const process = await spawnEngine(this.#options).catch(() => undefined);
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

  #rejectAll(): void {
    for (const waiting of this.#queue.splice(0)) waiting.reject(unavailable());
  }
}

function unavailable(): EngineError {
  return new EngineError('ENGINE_UNAVAILABLE', 'the engine is not running: expected it to be ready');
}

/** Throws EngineError ENGINE_REJECTED unless every input of the model is given once and fits its metadata. */
function requireKnownTensors(
  inputs: readonly Tensor[],
  outputs: readonly string[],
  metadata: ModelMetadata,
): void {
  const rejected = (why: string): EngineError => new EngineError('ENGINE_REJECTED', why);
  if (inputs.length !== metadata.inputs.length) {
    throw rejected(`expected ${metadata.inputs.length} inputs, found ${inputs.length}`);
  }
  for (const declared of metadata.inputs) {
    const input = inputs.find(({ name }) => name === declared.name);
    if (input === undefined) throw rejected(`input ${declared.name} is missing`);
    if (input.datatype !== declared.datatype) {
      throw rejected(`input ${declared.name}: expected ${declared.datatype}, found ${input.datatype}`);
    }
    if (!fits(input.shape, declared.shape)) {
      throw rejected(`input ${declared.name}: expected shape [${declared.shape}], found [${input.shape}]`);
    }
    const fault = tensorDataFault(input);
    if (fault !== undefined) throw rejected(`input ${declared.name}: ${fault}`);
  }
  for (const output of outputs) {
    if (!metadata.outputs.some(({ name }) => name === output)) throw rejected(`there is no output ${output}`);
  }
}
