/** One engine process: spawned, loaded, asked, gone. The supervisor decides about the next one. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Duplex } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { ENCLAVE_ENVIRONMENT, ENGINE_NODE_FLAGS } from '../start-guard.ts';
import { EngineError } from './errors.ts';
import { encodeFrame, FrameReader } from './frames.ts';
import { type EngineAnswer, packTensors, readAnswer } from './messages.ts';
import type { ModelMetadata, Tensor } from './tensor.ts';

/** The ONNX engine's first file. It is in the image because it is named here. */
export const ONNX_ENGINE = fileURLToPath(new URL('./main.ts', import.meta.url));

/** A file of the model beside its main one, read-only like it. */
export interface ExternalFile {
  /** As the main file names it. */
  readonly location: string;
  readonly fd: number;
}

export interface SpawnOptions {
  readonly modelFd: number;
  readonly external: readonly ExternalFile[];
  readonly threads: number;
  readonly entry: string;
  readonly uid?: number;
  readonly startTimeoutMs: number;
}

export type Answered = Extract<EngineAnswer, { kind: 'result' | 'rejected' }>;

export interface EngineProcess {
  readonly metadata: ModelMetadata;
  /** False from the moment that its end is known, before the process is gone. */
  readonly alive: boolean;
  /** One question at a time. Rejects with EngineError ENGINE_UNAVAILABLE or ENGINE_PROTOCOL. */
  ask(inputs: readonly Tensor[], outputs: readonly string[], timeoutMs: number): Promise<Answered>;
  /** SIGKILL; resolves once the process is gone. */
  kill(): Promise<void>;
  readonly gone: Promise<void>;
}

/** Resolves once the engine is confined and has loaded its model. Rejects with EngineError ENGINE_START_FAILED. */
export async function spawnEngine(options: SpawnOptions): Promise<EngineProcess> {
  const child = spawn(process.execPath, [...ENGINE_NODE_FLAGS, options.entry], {
    cwd: '/',
    env: ENCLAVE_ENVIRONMENT,
    // Its output goes nowhere: an engine that could log could log its inputs.
    stdio: ['ignore', 'ignore', 'ignore', 'pipe', options.modelFd, ...options.external.map(({ fd }) => fd)],
    ...(options.uid === undefined ? {} : { uid: options.uid, gid: options.uid }),
  });
  // Without a free descriptor Node makes no streams, and says why in an event that ends the process if unheard.
  if (child.stdio === undefined) throw notSpawned((await once(child, 'error'))[0]);
  const conversation = new Conversation(child);
  try {
    const start = {
      kind: 'start',
      threads: options.threads,
      external: options.external.map(({ location }) => location),
    };
    const answer = await conversation.exchange(start, [], options.startTimeoutMs);
    if (answer.kind === 'failed') throw new EngineError('ENGINE_START_FAILED', answer.message);
    if (answer.kind !== 'ready')
      throw new EngineError('ENGINE_PROTOCOL', `the engine began with ${answer.kind}`);
    return {
      metadata: answer.metadata,
      get alive() {
        return conversation.alive;
      },
      ask: (inputs, outputs, timeoutMs) => conversation.ask(inputs, outputs, timeoutMs),
      kill: () => conversation.kill(),
      gone: conversation.gone,
    };
  } catch (error) {
    await conversation.kill();
    if (error instanceof EngineError && error.code !== 'ENGINE_UNAVAILABLE') throw error;
    throw new EngineError(
      'ENGINE_START_FAILED',
      'the engine ended or stayed silent before it was ready',
      error,
    );
  }
}

class Conversation {
  readonly gone: Promise<void>;
  readonly #child: ChildProcess;
  readonly #channel: Duplex;
  #pending: { resolve(answer: EngineAnswer): void; reject(error: Error): void } | undefined;
  #end: EngineError | undefined;

  constructor(child: ChildProcess) {
    this.#child = child;
    this.#channel = child.stdio[3] as Duplex;
    const reader = new FrameReader((frame) => this.#hear(readAnswer(frame)));
    this.#channel.on('data', (chunk: Uint8Array) => {
      if (this.#end !== undefined) return;
      try {
        reader.push(chunk);
      } catch (error) {
        this.#finish(
          error instanceof EngineError ? error : new EngineError('ENGINE_PROTOCOL', 'unreadable', error),
        );
      }
    });
    this.#channel.on('error', () => this.#finish(ended('its channel broke')));
    this.#channel.on('end', () => this.#finish(ended('it closed its channel')));
    this.gone = new Promise((resolve) => {
      child.once('exit', (code, signal) => {
        this.#finish(ended(`it exited with ${signal ?? code}`));
        resolve();
      });
      child.once('error', (error) => {
        this.#finish(notSpawned(error));
        if (child.pid === undefined) resolve();
      });
    });
  }

  get alive(): boolean {
    return this.#end === undefined;
  }

  exchange(header: object, body: readonly Uint8Array[], timeoutMs: number): Promise<EngineAnswer> {
    return new Promise<EngineAnswer>((resolve, reject) => {
      if (this.#end !== undefined) throw this.#end;
      if (this.#pending !== undefined) throw new Error('one question at a time');
      const timer = setTimeout(() => this.#finish(ended(`no answer in ${timeoutMs} ms`)), timeoutMs);
      const settle = (): void => {
        clearTimeout(timer);
        this.#pending = undefined;
      };
      this.#pending = {
        resolve: (answer) => {
          settle();
          resolve(answer);
        },
        reject: (error) => {
          settle();
          reject(error);
        },
      };
      let parts: Uint8Array[];
      try {
        parts = encodeFrame(header, body);
      } catch (error) {
        this.#pending.reject(error as Error);
        return;
      }
      this.#channel.cork();
      for (const part of parts) this.#channel.write(part);
      this.#channel.uncork();
    });
  }

  async ask(inputs: readonly Tensor[], outputs: readonly string[], timeoutMs: number): Promise<Answered> {
    const { heads, body } = packTensors(inputs);
    const answer = await this.exchange({ kind: 'infer', inputs: heads, outputs }, body, timeoutMs);
    if (answer.kind === 'result' || answer.kind === 'rejected') return answer;
    throw new EngineError('ENGINE_PROTOCOL', `the engine answered a question with ${answer.kind}`);
  }

  async kill(): Promise<void> {
    this.#finish(ended('it was stopped'));
    await this.gone;
  }

  #hear(answer: EngineAnswer): void {
    if (this.#pending === undefined) throw new EngineError('ENGINE_PROTOCOL', 'the engine spoke unasked');
    this.#pending.resolve(answer);
  }

  /** Whatever ends the conversation ends the process: a hung or lying engine is not left running. */
  #finish(reason: EngineError): void {
    if (this.#end !== undefined) return;
    this.#end = reason;
    this.#pending?.reject(reason);
    this.#channel.destroy();
    this.#child.kill('SIGKILL');
  }
}

function notSpawned(cause: unknown): EngineError {
  return new EngineError('ENGINE_START_FAILED', 'the engine could not be spawned', cause);
}

function ended(why: string): EngineError {
  return new EngineError('ENGINE_UNAVAILABLE', `the engine is gone: ${why}`);
}
