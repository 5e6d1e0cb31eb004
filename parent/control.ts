import { LinkError } from '../link/errors.ts';
import { HTTP_LIMITS, httpOverLink } from '../link/http-client.ts';
import type { Link } from '../link/link.ts';
import { CONTROL_PORT } from '../link/ports.ts';
import { parseStrictJson } from '../shared/json.ts';

/** `live` without being ready: it drains, or an engine is being started again. */
export type EnclaveHealth = 'ready' | 'live' | 'silent';

/** The enclave's control port (docs/link.md section 4): liveness and drain, and nothing else. */
export interface EnclaveControl {
  /** What `GET /live` answers in time. It proves nothing to a caller; only evidence does. */
  health(): Promise<EnclaveHealth>;
  /** Whether it answers at all. */
  live(): Promise<boolean>;
  /** `POST /drain`: the enclave takes no new work from now on, and says so with 202. Rejects with LinkError. */
  drain(): Promise<void>;
  /** Which models it has. Rejects with LinkError. */
  models(): Promise<readonly EnclaveModel[]>;
  /** Has what the host offers under the name loaded, or the model unloaded. Rejects with LinkError. */
  changeModel(name: string, change: 'load' | 'unload'): Promise<ModelChange>;
  close(): void;
}

/** As the enclave tells it; it proves nothing. */
export interface EnclaveModel {
  readonly name: string;
  readonly version: number | null;
  readonly contentId: string | null;
  readonly loading: boolean;
  /** The code of what the last loading failed with. */
  readonly failure: string | null;
  readonly inMemory: number;
}

export interface ModelChange {
  /** The code of what speaks against it; null if it was done, or has begun. */
  readonly refused: string | null;
  readonly models: readonly EnclaveModel[];
}

export function enclaveControl(link: Link): EnclaveControl {
  const http = httpOverLink(link, CONTROL_PORT, CONTROL_LIMITS);
  const health = (): Promise<EnclaveHealth> =>
    http
      .exchange({ method: 'GET', path: '/live', status: 200, receive: small })
      .then(readHealth, () => 'silent');
  return {
    health,
    live: async () => (await health()) !== 'silent',
    drain: async () => {
      await http.exchange({ method: 'POST', path: '/drain', status: 202, receive: small });
    },
    models: async () => {
      const body = await http.exchange({ method: 'GET', path: '/models', status: 200, receive: small });
      return readModels(answerOf(body).models);
    },
    changeModel: async (name, change) => {
      const path = `/models/${name}/${change}`;
      const answer = answerOf(await http.exchange({ method: 'POST', path, status: 200, receive: small }));
      return { refused: nullable(answer.refused, isText), models: readModels(answer.models) };
    },
    close: () => http.close(),
  };
}

function readHealth(body: Uint8Array): EnclaveHealth {
  try {
    const answer = parseStrictJson(body, { maxBytes: ANSWER_MAX_BYTES, maxDepth: 4 }).value;
    return (answer as { ready?: unknown } | null)?.ready === true ? 'ready' : 'live';
  } catch {
    return 'live';
  }
}

/** Whether somebody is there is asked often, and nobody should wait long for a no. */
const CONTROL_LIMITS = { ...HTTP_LIMITS, connectTimeoutMs: 2_000, headersTimeoutMs: 3_000 };
/** Of up to 16 models. */
const ANSWER_MAX_BYTES = 16 * 1024;

function small(sizeBytes: number): Uint8Array {
  if (sizeBytes > ANSWER_MAX_BYTES) throw new RangeError('the control port has short answers');
  return new Uint8Array(sizeBytes);
}

function answerOf(body: Uint8Array): Readonly<Record<string, unknown>> {
  const { value } = parseStrictJson(body, { maxBytes: ANSWER_MAX_BYTES, maxDepth: 4 });
  if (typeof value === 'object' && value !== null)
    return value as unknown as Readonly<Record<string, unknown>>;
  throw malformed();
}

function readModels(value: unknown): readonly EnclaveModel[] {
  if (!Array.isArray(value)) throw malformed();
  return value.map((entry: Readonly<Record<string, unknown>> | null) => {
    const { name, version, contentId, loading, failure, inMemory } = entry ?? {};
    if (!isText(name) || typeof loading !== 'boolean' || !isCount(inMemory)) throw malformed();
    return {
      name,
      version: nullable(version, isCount),
      contentId: nullable(contentId, isText),
      loading,
      failure: nullable(failure, isText),
      inMemory,
    };
  });
}

function nullable<T>(value: unknown, is: (value: unknown) => value is T): T | null {
  if (value === null || is(value)) return value;
  throw malformed();
}

/** Names, codes and digests: nothing that a terminal would act on. */
function isText(value: unknown): value is string {
  return typeof value === 'string' && /^[A-Za-z0-9._-]{1,64}$/.test(value);
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value);
}

function malformed(): LinkError {
  return new LinkError(
    'LINK_ANSWER_MALFORMED',
    'GET /models: expected the models as docs/link.md section 4.2 has them.',
  );
}
