/** Which of our paths a request names. Exact: no trailing slashes, no dot segments, no query but the nonce. */
import { ApiError } from './errors.ts';

export type Route =
  | { readonly kind: 'evidence'; readonly nonce: string | null }
  | { readonly kind: 'live' }
  | { readonly kind: 'ready' }
  | { readonly kind: 'server' }
  | {
      readonly kind: 'model' | 'model-ready' | 'infer';
      readonly model: string;
      readonly version: string | undefined;
    };

export type RouteKind = Route['kind'];

const METHODS: Readonly<Record<RouteKind, 'GET' | 'POST'>> = {
  evidence: 'GET',
  live: 'GET',
  ready: 'GET',
  server: 'GET',
  model: 'GET',
  'model-ready': 'GET',
  infer: 'POST',
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

function plainRoute(path: string): Route {
  switch (path) {
    case '/v2':
      return { kind: 'server' };
    case '/v2/health/live':
      return { kind: 'live' };
    case '/v2/health/ready':
      return { kind: 'ready' };
  }
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
  if (method !== METHODS[route.kind])
    throw new ApiError('API_METHOD', `method: expected ${METHODS[route.kind]}`);
}

export function allowedMethod(route: Route): string {
  return METHODS[route.kind];
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
