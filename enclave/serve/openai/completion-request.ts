/** `POST /v1/completions` (docs/serving.md section 4.3). */
import { invalid } from '../errors.ts';
import { requireModel, type TextRequest } from './chat-request.ts';
import { Fields } from './fields.ts';
import { readMaxTokens, readSampling, readStreaming, withoutAbsent } from './sampling.ts';

const PROMPTS_MAX = 16;
const TOP_LOGPROBS_MAX = 5;
/** The API's own, unlike that of chat. */
const DEFAULT_MAX_TOKENS = 16;

/** Throws ApiError API_INVALID that names the member. */
export function parseCompletionRequest(body: Uint8Array, mostTokens: number): TextRequest {
  const fields = Fields.ofBody(body);
  const model = requireModel(fields);
  const prompts = readPrompts(fields);
  const topLogprobs = fields.integer('logprobs', 0, TOP_LOGPROBS_MAX);
  const defaultTokens = Math.min(DEFAULT_MAX_TOKENS, mostTokens);
  const given = fields.take('max_tokens') !== undefined;
  const maxTokens = given ? readMaxTokens(fields, ['max_tokens'], mostTokens) : defaultTokens;
  const sampling = readSampling(fields);
  const streaming = readStreaming(fields);
  fields.only('best_of', 1);
  fields.only('echo', false);
  fields.only('suffix', '');
  fields.requireAllRead();
  return {
    model,
    generate: prompts.map((text) => ({
      prompt: { kind: 'text', text },
      maxTokens,
      ...sampling,
      ...withoutAbsent({ topLogprobs }),
    })),
    streaming,
  };
}

function readPrompts(fields: Fields): readonly string[] {
  const value = fields.take('prompt');
  const prompts = Array.isArray(value) ? value : [value];
  if (prompts.length === 0 || prompts.length > PROMPTS_MAX || !prompts.every(isText)) {
    throw invalid('prompt', `expected a string, or a list of 1 to ${PROMPTS_MAX}`);
  }
  return prompts;
}

function isText(value: unknown): value is string {
  return typeof value === 'string';
}
