/** `POST /v1/chat/completions` (docs/serving.md section 4.2). */
import type { ChatMessage, GenerateRequest } from '../../engine/text.ts';
import { invalid } from '../errors.ts';
import type { RequestJson } from '../request-json.ts';
import { Fields } from './fields.ts';
import { readResponseFormat } from './response-format.ts';
import { readMaxTokens, readSampling, readStreaming, type Streaming, withoutAbsent } from './sampling.ts';

export interface TextRequest {
  readonly model: string;
  /** What the engine is asked, once for each choice of the answer. */
  readonly generate: readonly GenerateRequest[];
  /** Undefined for an answer in one piece. */
  readonly streaming: Streaming | undefined;
}

const MESSAGES_MAX = 4_096;
const TOP_LOGPROBS_MAX = 20;
const ROLES: Readonly<Record<string, ChatMessage['role']>> = {
  system: 'system',
  developer: 'system',
  user: 'user',
  assistant: 'assistant',
};

/** Throws ApiError API_INVALID that names the member. */
export function parseChatRequest(body: Uint8Array, mostTokens: number): TextRequest {
  const fields = Fields.ofBody(body);
  const model = requireModel(fields);
  const messages = readMessages(fields);
  const jsonSchema = readResponseFormat(fields);
  const topLogprobs = readLogprobs(fields);
  const maxTokens = readMaxTokens(fields, ['max_completion_tokens', 'max_tokens'], mostTokens);
  const sampling = readSampling(fields);
  const streaming = readStreaming(fields);
  fields.only('audio', null);
  fields.only('function_call', 'none');
  fields.only('functions', []);
  fields.only('parallel_tool_calls', true);
  fields.only('tool_choice', 'none');
  fields.only('tools', []);
  readModalities(fields);
  fields.requireAllRead();
  return {
    model,
    generate: [
      {
        prompt: { kind: 'chat', messages },
        maxTokens,
        ...sampling,
        ...withoutAbsent({ jsonSchema, topLogprobs }),
      },
    ],
    streaming,
  };
}

export function requireModel(fields: Fields): string {
  const model = fields.text('model');
  if (model === undefined) throw invalid('model', 'expected a name');
  return model;
}

function readMessages(fields: Fields): readonly ChatMessage[] {
  const value = fields.take('messages');
  if (!Array.isArray(value) || value.length === 0 || value.length > MESSAGES_MAX) {
    throw invalid('messages', `expected a list of 1 to ${MESSAGES_MAX}`);
  }
  return value.map((entry, index) => readMessage(entry, `messages[${index}]`));
}

function readMessage(value: RequestJson, at: string): ChatMessage {
  const fields = Fields.of(value, at);
  const given = fields.text('role') ?? '';
  const role = Object.hasOwn(ROLES, given) ? ROLES[given] : undefined;
  if (role === undefined) throw invalid(`${at}.role`, `expected one of ${Object.keys(ROLES).join(', ')}`);
  const content = readContent(fields.take('content'), `${at}.content`);
  fields.only('refusal', null);
  fields.only('tool_calls', []);
  fields.requireAllRead();
  return { role, content };
}

/** A string, or parts that are all text. */
function readContent(value: RequestJson | undefined, at: string): string {
  if (typeof value === 'string') return value;
  if (!Array.isArray(value) || value.length === 0) throw invalid(at, 'expected a string, or parts of text');
  const texts = value.map((part, index) => {
    const fields = Fields.of(part, `${at}[${index}]`);
    if (fields.text('type') !== 'text') throw invalid(`${at}[${index}].type`, 'expected "text"');
    const text = fields.text('text');
    if (text === undefined) throw invalid(`${at}[${index}].text`, 'expected a string');
    fields.requireAllRead();
    return text;
  });
  return texts.join('\n');
}

/** The number of alternatives beside each token; undefined for no probabilities at all. */
function readLogprobs(fields: Fields): number | undefined {
  const wanted = fields.flag('logprobs');
  const top = fields.integer('top_logprobs', 0, TOP_LOGPROBS_MAX);
  if (top !== undefined && !wanted) throw invalid('top_logprobs', 'given without logprobs');
  return wanted ? (top ?? 0) : undefined;
}

function readModalities(fields: Fields): void {
  const value = fields.take('modalities');
  if (value === undefined || (Array.isArray(value) && value.length === 1 && value[0] === 'text')) return;
  throw invalid('modalities', 'not supported; expected ["text"] or nothing');
}
