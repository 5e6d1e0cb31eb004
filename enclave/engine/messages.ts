/**
 * What every engine and its supervisor say to each other, whatever the engine computes (docs/engine.md section 3):
 * `start`, then `ready` or `failed`. What follows is in tensor-messages.ts and text-messages.ts.
 *
 * The engine may have been taken over by its model, so everything it says is checked there, against bounds and
 * against what was asked.
 */
import { EngineError } from './errors.ts';
import type { Frame } from './frames.ts';

export interface StartMessage {
  readonly kind: 'start';
  readonly threads: number;
  /** The model's other files, in the order of their descriptors. */
  readonly external: readonly string[];
  /** The tokenizer's files, whose descriptors follow those. */
  readonly tokenizer: readonly string[];
  /** For an engine of text. */
  readonly text?: TextStart;
}

export interface TextStart {
  /** Requests at once. */
  readonly sequences: number;
  /** Of one sequence, at most; less if the model was trained for less. */
  readonly contextTokens: number;
  /** For the keys and values of all sequences. */
  readonly contextBytes: number;
}

const MAX_MESSAGE_LENGTH = 1000;

/** The engine's side: reads how the supervisor begins. */
export function readStart(frame: Frame): StartMessage {
  const { kind, threads, external, tokenizer, text } = readHeader(frame);
  if (kind !== 'start' || !isCount(threads) || !Array.isArray(external) || !Array.isArray(tokenizer)) {
    throw broken('expected a start message');
  }
  const start = { kind, threads, external: external.map(String), tokenizer: tokenizer.map(String) } as const;
  if (text === undefined) return start;
  const { sequences, contextTokens, contextBytes } = record(text);
  if (!isCount(sequences) || !isCount(contextTokens) || !isCount(contextBytes)) {
    throw broken('expected a start message');
  }
  return { ...start, text: { sequences, contextTokens, contextBytes } };
}

/** Why the engine did not start, if that is what it says. Throws EngineError ENGINE_PROTOCOL. */
export function readFailure(frame: Frame): string | undefined {
  const { kind, message } = readHeader(frame);
  return kind === 'failed' ? printable(message) : undefined;
}

export function readHeader(frame: Frame): Record<string, unknown> {
  return record(readJson(frame.header));
}

const UTF8 = new TextDecoder('utf-8', { fatal: true });

export function readJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(UTF8.decode(bytes));
  } catch {
    throw broken('what is not JSON');
  }
}

export function record(value: unknown): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw broken('expected an object');
  return value as Record<string, unknown>;
}

export function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

export function printable(value: unknown): string {
  if (typeof value !== 'string') throw broken('a message that is no text');
  return value.slice(0, MAX_MESSAGE_LENGTH).replaceAll(/[^\x20-\x7e]/g, '?');
}

export function broken(what: string): EngineError {
  return new EngineError('ENGINE_PROTOCOL', `the engine sent ${what}`);
}
