/** What may be asked of a text engine at all, whatever its model: bounds of every member of a request. */
import { EngineError } from './errors.ts';
import type { GenerateRequest, Prompt } from './text.ts';
import { MAX_TOP_LOGPROBS } from './text-messages.ts';

/** Of all text of one request together, in characters; what fits a model's context is for the engine to say. */
const MAX_TEXT_LENGTH = 16 * 1024 * 1024;
const MAX_MESSAGES = 4096;
const MAX_TEXTS = 2048;
const MAX_STOPS = 16;
const MAX_STOP_LENGTH = 1024;
const MAX_SCHEMA_LENGTH = 64 * 1024;
const ROLES: ReadonlySet<string> = new Set(['system', 'user', 'assistant']);

/** Throws EngineError ENGINE_REJECTED. */
export function requireSoundRequest(request: GenerateRequest): void {
  requireSoundPrompt(request.prompt);
  inRange('maxTokens', request.maxTokens, 1, Number.MAX_SAFE_INTEGER, true);
  inRange('temperature', request.temperature, 0, 2);
  inRange('topP', request.topP, 0, 1);
  inRange('topK', request.topK, 0, 2 ** 20, true);
  inRange('minP', request.minP, 0, 1);
  inRange('frequencyPenalty', request.frequencyPenalty, -2, 2);
  inRange('presencePenalty', request.presencePenalty, -2, 2);
  inRange('seed', request.seed, Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER, true);
  inRange('topLogprobs', request.topLogprobs, 0, MAX_TOP_LOGPROBS, true);
  const { stop = [], jsonSchema } = request;
  if (stop.length > MAX_STOPS || stop.some((text) => text === '' || text.length > MAX_STOP_LENGTH)) {
    throw rejected(`stop: expected at most ${MAX_STOPS} texts of 1 to ${MAX_STOP_LENGTH} characters`);
  }
  if (jsonSchema !== undefined && JSON.stringify(jsonSchema).length > MAX_SCHEMA_LENGTH) {
    throw rejected(`jsonSchema: expected at most ${MAX_SCHEMA_LENGTH} characters of JSON`);
  }
}

/** Throws EngineError ENGINE_REJECTED. */
export function requireSoundTexts(texts: readonly string[]): void {
  if (texts.length < 1 || texts.length > MAX_TEXTS) throw rejected(`texts: expected 1 to ${MAX_TEXTS}`);
  requireSoundLength(texts);
}

function requireSoundPrompt(prompt: Prompt): void {
  if (prompt.kind === 'text') {
    requireSoundLength([prompt.text]);
    return;
  }
  const { messages } = prompt;
  if (messages.length < 1 || messages.length > MAX_MESSAGES) {
    throw rejected(`messages: expected 1 to ${MAX_MESSAGES}`);
  }
  // A role is part of what the model's template writes, so it is none that a caller could make up.
  if (!messages.every(({ role }) => ROLES.has(role))) throw rejected('messages: a role that there is not');
  requireSoundLength(messages.map(({ content }) => content));
}

function requireSoundLength(texts: readonly string[]): void {
  const length = texts.reduce((sum, text) => sum + text.length, 0);
  if (length > MAX_TEXT_LENGTH) throw rejected(`more than ${MAX_TEXT_LENGTH} characters of text`);
}

function inRange(name: string, value: number | undefined, least: number, most: number, whole = false): void {
  if (value === undefined) return;
  if (!(value >= least && value <= most) || (whole && !Number.isSafeInteger(value))) {
    throw rejected(`${name}: expected ${whole ? 'a whole number from ' : ''}${least} to ${most}`);
  }
}

function rejected(why: string): EngineError {
  return new EngineError('ENGINE_REJECTED', why);
}
