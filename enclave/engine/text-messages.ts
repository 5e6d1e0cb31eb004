/**
 * What supervisor and text engine say to each other: several requests at once, told apart by an id.
 *
 *     supervisor: generate (request) | embed (texts) | credit (count) | cancel
 *     engine:     working | text | end | vectors | rejected | cancelled
 *
 * Every request ends with exactly one of the last four. A `text` takes one of the request's credits, of which it has
 * INITIAL_CREDIT at first; without any, its generation waits. `cancelled` answers `cancel` and nothing else.
 */
import { gone } from './errors.ts';
import type { Frame } from './frames.ts';
import { broken, isCount, printable, readHeader, readJson, record } from './messages.ts';
import type { GeneratedToken, GenerateRequest, TextMetadata, TokenLogprob } from './text.ts';

export const INITIAL_CREDIT = 32;
/** Of one `text`: what is held back for a stop string comes at once. */
const MAX_TEXT_LENGTH = 64 * 1024;
const MAX_TOKENS_PER_TEXT = 4096;
/** A token has at most some hundred bytes. */
const BASE64 = /^[A-Za-z0-9+/]{0,22000}={0,2}$/;
const MAX_VECTOR_SIZE = 2 ** 18;

export type TextQuestion =
  | { readonly kind: 'generate'; readonly id: number; readonly request: GenerateRequest }
  | { readonly kind: 'embed'; readonly id: number; readonly texts: readonly string[] }
  | { readonly kind: 'credit'; readonly id: number; readonly count: number }
  | { readonly kind: 'cancel'; readonly id: number };

export type TextAnswer = { readonly id: number } & (
  | { readonly kind: 'working' }
  | { readonly kind: 'text'; readonly text: string; readonly tokens?: readonly GeneratedToken[] }
  | {
      readonly kind: 'end';
      readonly reason: 'stop' | 'length';
      readonly promptTokens: number;
      readonly completionTokens: number;
    }
  | { readonly kind: 'vectors'; readonly vectors: readonly Float32Array[]; readonly promptTokens: number }
  | { readonly kind: 'rejected'; readonly message: string }
  | { readonly kind: 'cancelled' }
);

/** Header and body of a frame for the engine; what callers wrote is in the body. */
export function packQuestion(question: TextQuestion): { header: object; body: Uint8Array[] } {
  const json = (value: unknown): Uint8Array[] => [new TextEncoder().encode(JSON.stringify(value))];
  const { kind, id } = question;
  if (kind === 'generate') return { header: { kind, id }, body: json(question.request) };
  if (kind === 'embed') return { header: { kind, id }, body: json(question.texts) };
  return { header: question, body: [] };
}

/** The engine's side: reads what the supervisor sends, which has checked it. */
export function readQuestion(frame: Frame): TextQuestion {
  const { kind, id, count } = readHeader(frame);
  if (!isCount(id)) throw broken('a question without an id');
  if (kind === 'generate') return { kind, id, request: readJson(frame.body) as GenerateRequest };
  if (kind === 'embed') return { kind, id, texts: readJson(frame.body) as string[] };
  if (kind === 'credit' && isCount(count)) return { kind, id, count };
  if (kind === 'cancel') return { kind, id };
  throw broken('a question of unknown kind');
}

/** Header and body of a frame from the engine. */
export function packAnswer(answer: TextAnswer): { header: object; body: Uint8Array[] } {
  if (answer.kind === 'text' && answer.tokens !== undefined) {
    const pack = ({ bytes, logprob }: TokenLogprob): object => ({
      bytes: Buffer.from(bytes).toString('base64'),
      logprob,
    });
    const tokens = answer.tokens.map((token) => ({ ...pack(token), top: token.top.map(pack) }));
    return { header: { ...answer, tokens }, body: [] };
  }
  if (answer.kind === 'vectors') {
    const { kind, id, vectors, promptTokens } = answer;
    const body = vectors.map(
      ({ buffer, byteOffset, byteLength }) => new Uint8Array(buffer, byteOffset, byteLength),
    );
    return { header: { kind, id, promptTokens, count: vectors.length }, body };
  }
  return { header: answer, body: [] };
}

/** Reads how a text engine describes its model. Throws EngineError ENGINE_PROTOCOL for anything out of order. */
export function readTextReady(frame: Frame): TextMetadata {
  const { kind, architecture, contextTokens, sequences, chat, vectorSize } = readHeader(frame);
  if (kind !== 'ready' || frame.body.length > 0) throw broken('an answer before it was ready');
  if (typeof architecture !== 'string' || !/^[\w.-]{1,64}$/.test(architecture))
    throw broken('an architecture');
  if (!isCount(contextTokens) || contextTokens < 1 || !isCount(sequences) || sequences < 1) {
    throw broken('a model that takes nothing');
  }
  if (typeof chat !== 'boolean' || !isCount(vectorSize) || vectorSize < 1 || vectorSize > MAX_VECTOR_SIZE) {
    throw broken('a model of no known kind');
  }
  return { architecture, contextTokens, sequences, chat, vectorSize };
}

/**
 * Reads an answer of the engine. Throws EngineError ENGINE_PROTOCOL for anything out of order, and ENGINE_UNAVAILABLE
 * when it says that it failed.
 */
export function readTextAnswer(frame: Frame, { contextTokens, vectorSize }: TextMetadata): TextAnswer {
  const header = readHeader(frame);
  const { kind, id } = header;
  if (kind === 'failed') throw gone('it failed');
  if (!isCount(id)) throw broken('an answer without an id');
  const tokens = (value: unknown): number => {
    if (!isCount(value) || value > contextTokens) throw broken('a number of tokens beyond its context');
    return value;
  };
  if (kind === 'vectors') {
    const { count, promptTokens } = header;
    if (!isCount(count) || !isCount(promptTokens) || frame.body.length !== count * vectorSize * 4) {
      throw broken('vectors of another size than declared');
    }
    return { kind, id, vectors: readVectors(frame.body, count, vectorSize), promptTokens };
  }
  if (frame.body.length > 0) throw broken('a body where none belongs');
  switch (kind) {
    case 'working':
    case 'cancelled':
      return { kind, id };
    case 'text': {
      const { text } = header;
      if (typeof text !== 'string' || text.length > MAX_TEXT_LENGTH || !text.isWellFormed()) {
        throw broken('text that is none');
      }
      return {
        kind,
        id,
        text,
        ...(header.tokens === undefined ? {} : { tokens: readTokens(header.tokens) }),
      };
    }
    case 'end': {
      const { reason } = header;
      if (reason !== 'stop' && reason !== 'length') throw broken('an end for no reason');
      const [promptTokens, completionTokens] = [tokens(header.promptTokens), tokens(header.completionTokens)];
      return { kind, id, reason, promptTokens, completionTokens };
    }
    case 'rejected':
      return { kind, id, message: printable(header.message) };
    default:
      throw broken('an answer of unknown kind');
  }
}

function readVectors(body: Uint8Array, count: number, size: number): Float32Array[] {
  // A copy of its own: typed arrays need aligned buffers.
  const all = new Float32Array(new Uint8Array(body).buffer);
  if (!all.every(Number.isFinite)) throw broken('a vector that is no vector');
  return Array.from({ length: count }, (_, index) => all.slice(index * size, (index + 1) * size));
}

function readTokens(value: unknown): GeneratedToken[] {
  if (!Array.isArray(value) || value.length > MAX_TOKENS_PER_TEXT) throw broken('tokens that are no list');
  return value.map((token) => {
    const { top } = record(token);
    if (!Array.isArray(top) || top.length > MAX_TOP_LOGPROBS) throw broken('alternatives that are no list');
    return { ...readLogprob(token), top: top.map(readLogprob) };
  });
}

/** As many alternatives as the OpenAI API names at most. */
export const MAX_TOP_LOGPROBS = 20;

function readLogprob(value: unknown): TokenLogprob {
  const { bytes, logprob } = record(value);
  if (typeof bytes !== 'string' || !BASE64.test(bytes)) throw broken('a token without bytes');
  if (typeof logprob !== 'number' || !(logprob <= 0)) throw broken('a logarithm of no probability');
  return { bytes: new Uint8Array(Buffer.from(bytes, 'base64')), logprob };
}
