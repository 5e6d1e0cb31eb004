import { describe, expect, it } from 'vitest';
import { requireMethod, routeOf } from '../../../enclave/serve/routes.ts';

describe('paths', () => {
  it.each([
    ['/v2', { kind: 'server' }],
    ['/v2/health/live', { kind: 'live' }],
    ['/v2/health/ready', { kind: 'ready' }],
    ['/v2/models/iris', { kind: 'model', model: 'iris', version: undefined }],
    ['/v2/models/iris/versions/3', { kind: 'model', model: 'iris', version: '3' }],
    ['/v2/models/iris/ready', { kind: 'model-ready', model: 'iris', version: undefined }],
    ['/v2/models/iris/versions/3/ready', { kind: 'model-ready', model: 'iris', version: '3' }],
    ['/v2/models/iris/infer', { kind: 'infer', model: 'iris', version: undefined }],
    ['/v2/models/iris/versions/3/infer', { kind: 'infer', model: 'iris', version: '3' }],
    ['/v2/models/a%2Fb%20c', { kind: 'model', model: 'a/b c', version: undefined }],
    ['/attestation?nonce=ab-_', { kind: 'evidence', nonce: 'ab-_' }],
    ['/attestation', { kind: 'evidence', nonce: null }],
    ['/attestation?nonce=a&nonce=b', { kind: 'evidence', nonce: null }],
    ['/attestation?other=1', { kind: 'evidence', nonce: null }],
    ['/attestation?nonce=a%62', { kind: 'evidence', nonce: null }],
  ])('%s', (url, route) => expect(routeOf(url)).toEqual(route));

  it.each([
    '',
    '/',
    '*',
    '/v2/',
    '/V2',
    '//v2',
    '/v2/models',
    '/v2/models/',
    '/v2/models/iris/',
    '/v2/models/iris/versions',
    '/v2/models/iris/versions/3/infer/',
    '/v2/models/iris/generate',
    '/v2/./health/live',
    '/v2/models/../health/live',
    '/v2/models/%',
    '/v2/models/%ff',
    '/attestation/',
    'http://enclave/v2',
    'http://enclave/attestation?nonce=a',
  ])('%j is none', (url) => {
    expect(() => routeOf(url)).toThrow(expect.objectContaining({ code: 'API_NOT_FOUND' }));
  });

  it('takes no query beside the nonce', () => {
    expect(() => routeOf('/v2?x')).toThrow(expect.objectContaining({ code: 'API_INVALID' }));
  });

  it('takes one method each', () => {
    expect(() => requireMethod(routeOf('/v2'), 'GET')).not.toThrow();
    expect(() => requireMethod(routeOf('/v2/models/m/infer'), 'POST')).not.toThrow();
    for (const method of ['POST', 'HEAD', 'OPTIONS', 'get', undefined]) {
      expect(() => requireMethod(routeOf('/v2'), method)).toThrow(
        expect.objectContaining({ code: 'API_METHOD' }),
      );
    }
  });
});
