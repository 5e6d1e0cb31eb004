/** Which of our paths a request names. Exact: no trailing slashes, no dot segments, no query but the nonce. */
import { ApiError } from './errors.ts';

/** Of the Open Inference Protocol v2. */
export type TensorRoute =
  | { readonly kind: 'server' }
  | {
      readonly kind: 'model' | 'model-ready' | 'infer';
      readonly model: string;
      readonly version: string | undefined;
    };

/** Of the OpenAI API. */
export type TextRoute =
  | { readonly kind: 'chat' | 'completions' | 'embeddings' | 'text-models' }
  | { readonly kind: 'text-model'; readonly model: string };

export type Route =
  | { readonly kind: 'evidence'; readonly nonce: string | null }
  | { readonly kind: 'live' }
  | { readonly kind: 'ready' }
  | TensorRoute
  | TextRoute;

export type RouteKind = Route['kind'];

interface RouteRules {
  readonly method: 'GET' | 'POST';
  /** Whose protocol errors are written in. */
  readonly api: 'tensor' | 'text';
}

const tensor = (method: RouteRules['method']): RouteRules => ({ method, api: 'tensor' });
const text = (method: RouteRules['method']): RouteRules => ({ method, api: 'text' });

const RULES: Readonly<Record<RouteKind, RouteRules>> = {
  evidence: tensor('GET'),
  live: tensor('GET'),
  ready: tensor('GET'),
  server: tensor('GET'),
  model: tensor('GET'),
  'model-ready': tensor('GET'),
  infer: tensor('POST'),
  'text-models': text('GET'),
  'text-model': text('GET'),
  chat: text('POST'),
  completions: text('POST'),
  embeddings: text('POST'),
};

/** Throws ApiError API_NOT_FOUND, or API_INVALID for a query where none belongs. */
export function routeOf(url: string): Route {
  const mark = url.indexOf('?');
  const path = mark < 0 ? url : url.slice(0, mark);
  const query = mark < 0 ? undefined : url.slice(mark + 1);
  if (path === '/attestation') return { kind: 'evidence', nonce: onlyNonce(query) };
  const route = plainRoute(path);
  if (query !== undefined) throw new ApiError('API_INVALID', 'query: expected none');
  return route;
}

const PLAIN: ReadonlyMap<string, Route> = new Map<string, Route>([
  ['/v2', { kind: 'server' }],
  ['/v2/health/live', { kind: 'live' }],
  ['/v2/health/ready', { kind: 'ready' }],
  ['/v1/models', { kind: 'text-models' }],
  ['/v1/chat/completions', { kind: 'chat' }],
  ['/v1/completions', { kind: 'completions' }],
  ['/v1/embeddings', { kind: 'embeddings' }],
]);

function plainRoute(path: string): Route {
  const plain = PLAIN.get(path);
  if (plain !== undefined) return plain;
  const textModel = /^\/v1\/models\/([^/]+)$/.exec(path);
  if (textModel?.[1] !== undefined) return { kind: 'text-model', model: decoded(textModel[1]) };
  const match = /^\/v2\/models\/([^/]+)(?:\/versions\/([^/]+))?(\/ready|\/infer)?$/.exec(path);
  if (match === null) throw notFound();
  const [, model = '', version, last] = match;
  return {
    kind: last === '/ready' ? 'model-ready' : last === '/infer' ? 'infer' : 'model',
    model: decoded(model),
    version: version === undefined ? undefined : decoded(version),
  };
}

/** Throws ApiError API_METHOD; the method to use goes into Allow. */
export function requireMethod(route: Route, method: string | undefined): void {
  const expected = allowedMethod(route);
  if (method !== expected) throw new ApiError('API_METHOD', `method: expected ${expected}`);
}

export function allowedMethod({ kind }: Route): string {
  return RULES[kind].method;
}

export function takesBody({ kind }: Route): boolean {
  return RULES[kind].method === 'POST';
}

export function isTextRoute(route: Route): route is TextRoute {
  return RULES[route.kind].api === 'text';
}

/** Whose protocol a refusal is written in, also where the path is unknown. */
export function apiOf(url: string): 'tensor' | 'text' {
  return url === '/v1' || url.startsWith('/v1/') ? 'text' : 'tensor';
}

/** The value of `nonce` if it is the whole query, else null. The evidence issuer checks the value. */
function onlyNonce(query: string | undefined): string | null {
  const match = /^nonce=([A-Za-z0-9_-]*)$/.exec(query ?? '');
  return match?.[1] ?? null;
}

function decoded(segment: string): string {
  try {
    return decodeURIComponent(segment);
  } catch {
    throw notFound();
  }
}

function notFound(): ApiError {
  return new ApiError('API_NOT_FOUND', 'path: there is no such path');
}
