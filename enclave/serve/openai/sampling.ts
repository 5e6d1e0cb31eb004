/** What chat and completions have in common: how tokens are drawn, and where the text ends. */
import type { GenerateRequest } from '../../engine/text.ts';
import { invalid } from '../errors.ts';
import { Fields } from './fields.ts';

export type Sampling = Omit<GenerateRequest, 'prompt' | 'jsonSchema' | 'topLogprobs' | 'maxTokens'>;

const STOPS_MAX = 16;
const STOP_LENGTH_MAX = 256;
const SEED_MAX = 2 ** 32 - 1;
const TOP_K_MAX = 1_000;

/** The ranges are the API's own; `top_k` and `min_p` are what other servers of it have added. */
export function readSampling(fields: Fields): Sampling {
  fields.only('n', 1);
  fields.only('logit_bias', {});
  const seed = fields.integer('seed', -SEED_MAX, SEED_MAX);
  return withoutAbsent({
    temperature: fields.number('temperature', 0, 2),
    topP: fields.number('top_p', 0, 1),
    topK: fields.integer('top_k', 1, TOP_K_MAX),
    minP: fields.number('min_p', 0, 1),
    frequencyPenalty: fields.number('frequency_penalty', -2, 2),
    presencePenalty: fields.number('presence_penalty', -2, 2),
    seed: seed === undefined ? undefined : seed >>> 0,
    stop: readStop(fields),
  });
}

function readStop(fields: Fields): readonly string[] | undefined {
  const value = fields.take('stop');
  if (value === undefined) return undefined;
  const stops = Array.isArray(value) ? value : [value];
  const expected = `expected a string, or up to ${STOPS_MAX}, of 1 to ${STOP_LENGTH_MAX} characters`;
  if (stops.length > STOPS_MAX) throw invalid(fields.at('stop'), expected);
  return stops.map((stop) => {
    if (typeof stop !== 'string' || stop === '' || stop.length > STOP_LENGTH_MAX) {
      throw invalid(fields.at('stop'), expected);
    }
    return stop;
  });
}

/** At most what the deployment allows, and that if the caller says nothing. `names` are spellings of one number. */
export function readMaxTokens(fields: Fields, names: readonly string[], mostTokens: number): number {
  const given = names.flatMap((name) => fields.integer(name, 1, mostTokens) ?? []);
  const [first = mostTokens] = given;
  if (given.some((value) => value !== first)) {
    throw invalid(names[0] ?? '', `differs from ${names.slice(1).join(', ')}`);
  }
  return first;
}

export interface Streaming {
  readonly includeUsage: boolean;
  /** Whether events are filled up to sizes that tell nothing about the text (docs/serving.md section 4). */
  readonly obfuscate: boolean;
}

/** Undefined for an answer in one piece. */
export function readStreaming(fields: Fields): Streaming | undefined {
  const stream = fields.flag('stream');
  const options = fields.take('stream_options');
  if (options === undefined) return stream ? { includeUsage: false, obfuscate: true } : undefined;
  if (!stream) throw invalid(fields.at('stream_options'), 'given without stream');
  const given = Fields.of(options, fields.at('stream_options'));
  const includeUsage = given.flag('include_usage');
  const obfuscate = given.take('include_obfuscation') === undefined || given.flag('include_obfuscation');
  given.requireAllRead();
  return { includeUsage, obfuscate };
}

type Present<T> = { [K in keyof T]?: Exclude<T[K], undefined> };

/** Without the members that are undefined. */
export function withoutAbsent<T extends object>(values: T): Present<T> {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as Present<T>;
}
