/** One engine process: spawned, loaded, spoken with, gone. The supervisor decides about the next one. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Duplex } from 'node:stream';
import { ENCLAVE_ENVIRONMENT, ENGINE_NODE_FLAGS } from '../start-guard.ts';
import { EngineError, gone } from './errors.ts';
import { encodeFrame, type Frame, FrameReader } from './frames.ts';
import { readFailure, type StartMessage } from './messages.ts';

/** A file of the model beside its main one, read-only like it. */
export interface ExternalFile {
  /** As the main file names it. */
  readonly location: string;
  readonly fd: number;
}

export interface SpawnOptions {
  readonly modelFd: number;
  readonly external: readonly ExternalFile[];
  readonly tokenizer: readonly ExternalFile[];
  readonly threads: number;
  readonly entry: string;
  readonly uid?: number;
  readonly startTimeoutMs: number;
}

/** What one kind of engine says when it is ready, and what it is told besides threads and files. */
export interface EngineKind<Metadata> {
  readonly start: Pick<StartMessage, 'text'>;
  /** Throws EngineError ENGINE_PROTOCOL. */
  readReady(frame: Frame): Metadata;
}

/** Who listens to an engine once it is ready. */
export interface EngineListener {
  /** What it throws ends the engine: EngineError ENGINE_PROTOCOL for what no honest engine sends. */
  hear(frame: Frame): void;
  /** Once, as soon as the end is known and before the process is gone. */
  ended(reason: EngineError): void;
}

export interface EngineProcess<Metadata> {
  readonly metadata: Metadata;
  /** False from the moment that its end is known. */
  readonly alive: boolean;
  listen(listener: EngineListener): void;
  /** Throws EngineError ENGINE_UNAVAILABLE, or ENGINE_REJECTED for what is too large for a frame. */
  send(header: object, body?: readonly Uint8Array[]): void;
  /** Ends it for a reason, which whoever listens is told. */
  end(reason: EngineError): void;
  /** SIGKILL; resolves once the process is gone. */
  kill(): Promise<void>;
  readonly gone: Promise<void>;
}

/** Resolves once the engine is confined and has loaded its model. Rejects with EngineError ENGINE_START_FAILED. */
export async function spawnEngine<Metadata>(
  options: SpawnOptions,
  kind: EngineKind<Metadata>,
): Promise<EngineProcess<Metadata>> {
  const child = spawn(process.execPath, [...ENGINE_NODE_FLAGS, options.entry], {
    cwd: '/',
    env: ENCLAVE_ENVIRONMENT,
    // Its output goes nowhere: an engine that could log could log its inputs.
    stdio: [
      ...(['ignore', 'ignore', 'ignore', 'pipe'] as const),
      ...[options.modelFd, ...[...options.external, ...options.tokenizer].map(({ fd }) => fd)],
    ],
    ...(options.uid === undefined ? {} : { uid: options.uid, gid: options.uid }),
  });
  // Without a free descriptor Node makes no streams, and says why in an event that ends the process if unheard.
  if (child.stdio === undefined) throw notSpawned((await once(child, 'error'))[0]);
  const conversation = new Conversation(child);
  try {
    const metadata = await conversation.begin(options, kind);
    return Object.assign(conversation, { metadata });
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
  #listener: EngineListener | undefined;
  #end: EngineError | undefined;

  constructor(child: ChildProcess) {
    this.#child = child;
    this.#channel = child.stdio[3] as Duplex;
    const reader = new FrameReader((frame) => this.#hear(frame));
    this.#channel.on('data', (chunk: Uint8Array) => {
      if (this.#end !== undefined) return;
      try {
        reader.push(chunk);
      } catch (error) {
        this.end(
          error instanceof EngineError ? error : new EngineError('ENGINE_PROTOCOL', 'unreadable', error),
        );
      }
    });
    this.#channel.on('error', () => this.end(gone('its channel broke')));
    this.#channel.on('end', () => this.end(gone('it closed its channel')));
    this.gone = new Promise((resolve) => {
      child.once('exit', (code, signal) => {
        this.end(gone(`it exited with ${signal ?? code}`));
        resolve();
      });
      child.once('error', (error) => {
        this.end(notSpawned(error));
        if (child.pid === undefined) resolve();
      });
    });
  }

  get alive(): boolean {
    return this.#end === undefined;
  }

  /** Tells the engine to start, and waits for its first words. */
  begin<Metadata>(options: SpawnOptions, kind: EngineKind<Metadata>): Promise<Metadata> {
    return new Promise((resolve, reject) => {
      const silent = gone(`no answer in ${options.startTimeoutMs} ms`);
      const timer = setTimeout(() => this.end(silent), options.startTimeoutMs);
      this.listen({
        hear: (frame) => {
          const failure = readFailure(frame);
          if (failure !== undefined) throw new EngineError('ENGINE_START_FAILED', failure);
          const metadata = kind.readReady(frame);
          clearTimeout(timer);
          this.#listener = undefined;
          resolve(metadata);
        },
        ended: (reason) => {
          clearTimeout(timer);
          reject(reason);
        },
      });
      const [external, tokenizer] = [options.external, options.tokenizer].map((files) =>
        files.map(({ location }) => location),
      );
      this.send({ kind: 'start', threads: options.threads, external, tokenizer, ...kind.start });
    });
  }

  listen(listener: EngineListener): void {
    this.#listener = listener;
    if (this.#end !== undefined) listener.ended(this.#end);
  }

  send(header: object, body: readonly Uint8Array[] = []): void {
    if (this.#end !== undefined) throw this.#end;
    const parts = encodeFrame(header, body);
    if (parts.length > 1) this.#channel.cork();
    for (const part of parts) this.#channel.write(part);
    if (parts.length > 1) this.#channel.uncork();
  }

  async kill(): Promise<void> {
    this.end(gone('it was stopped'));
    await this.gone;
  }

  /** Whatever ends the conversation ends the process: a hung or lying engine is not left running. */
  end(reason: EngineError): void {
    if (this.#end !== undefined) return;
    this.#end = reason;
    this.#channel.destroy();
    this.#child.kill('SIGKILL');
    this.#listener?.ended(reason);
  }

  #hear(frame: Frame): void {
    // Frames after the one that ended it, of the same read.
    if (this.#end !== undefined) return;
    if (this.#listener === undefined) throw new EngineError('ENGINE_PROTOCOL', 'the engine spoke unasked');
    this.#listener.hear(frame);
  }
}

function notSpawned(cause: unknown): EngineError {
  return new EngineError('ENGINE_START_FAILED', 'the engine could not be spawned', cause);
}
