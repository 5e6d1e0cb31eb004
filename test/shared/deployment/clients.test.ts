import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { ClientRules } from '../../../shared/deployment/clients.ts';
import { parseDeployment } from '../../../shared/deployment/deployment.ts';
import { DeploymentError } from '../../../shared/deployment/errors.ts';
import { testCa, testClient } from '../../support/client-certificates.ts';

const ca = testCa();
const client = testClient(ca, { uris: ['spiffe://models.example.org/app-1'] });

const valid = () => ({
  ca: ca.pem,
  allowed: [
    { spiffe: 'spiffe://models.example.org/app-1', limits: { requestsPerMinute: 600 } },
    { trustDomain: 'batch.example.org' },
    { subject: 'O=Example, CN=legacy-1', limits: { connections: 2, concurrentRequests: 1 } },
  ] as object[],
  denyList: 'none' as unknown,
});

const parse = (clients: unknown, limits: object = {}) =>
  parseDeployment(
    Buffer.from(
      JSON.stringify({
        format: 'strongroom-deployment/1',
        models: [{ name: 'iris', contentId: 'ab'.repeat(32) }],
        kmsKeys: ['arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab'],
        clients,
        limits,
      }),
    ),
  );

function refusal(clients: unknown, limits: object = {}): string {
  try {
    parse(clients, limits);
  } catch (error) {
    if (error instanceof DeploymentError && error.code === 'DEPLOYMENT_MALFORMED') return error.message;
    throw error;
  }
  throw new Error('the document was accepted');
}

describe('clients of a deployment', () => {
  it('are read with their limits, and with those of every client where they have none', () => {
    const { clients, perClient } = parse(valid(), { perClient: { concurrentRequests: 4 } });
    expect(perClient).toEqual({ concurrentRequests: 4 });
    expect(clients).toMatchObject({
      ca: [ca.pem],
      maxCertificateHours: 48,
      allowed: [
        {
          kind: 'spiffe',
          name: 'spiffe://models.example.org/app-1',
          limits: { requestsPerMinute: 600, concurrentRequests: 4 },
        },
        { kind: 'trustDomain', name: 'batch.example.org', limits: { concurrentRequests: 4 } },
        {
          kind: 'subject',
          name: 'O=Example, CN=legacy-1',
          limits: { connections: 2, concurrentRequests: 1 },
        },
      ],
    });
  });

  it('may have several CAs, for the time in which one follows another', () => {
    const { clients } = parse({ ...valid(), ca: `${ca.pem}${testCa().pem}` });
    expect((clients as ClientRules).ca).toHaveLength(2);
  });

  it.each<[string, (clients: ReturnType<typeof valid>) => unknown, string]>([
    ['an unknown member', (c) => ({ ...c, allow: [] }), 'unknown member "allow"'],
    ['no CA', ({ ca: _, ...c }) => c, 'lacks the member "ca"'],
    ['no word about a deny list', ({ denyList: _, ...c }) => c, 'lacks the member "denyList"'],
    ['a deny list of an unknown word', (c) => ({ ...c, denyList: 'any' }), '"none" or an object'],
    ['a deny list without a signer', (c) => ({ ...c, denyList: {} }), 'lacks the member "signer"'],
    [
      'a signer of deny lists that is no key',
      (c) => ({ ...c, denyList: { signer: 'x' } }),
      'denyList.signer',
    ],
    ['an empty list of clients', (c) => ({ ...c, allowed: [] }), 'clients.allowed'],
    [
      'too many clients',
      (c) => ({ ...c, allowed: Array.from({ length: 513 }, () => c.allowed[0]) }),
      '1 to 512',
    ],
    ['one client twice', (c) => ({ ...c, allowed: [c.allowed[0], c.allowed[0]] }), 'twice'],
    ['a client without a name', (c) => ({ ...c, allowed: [{}] }), 'exactly one of'],
    [
      'a client with two names',
      (c) => ({ ...c, allowed: [{ spiffe: 'spiffe://a/b', subject: 'CN=a' }] }),
      'exactly one of',
    ],
    [
      'a client with an unknown member',
      (c) => ({ ...c, allowed: [{ spiffe: 'spiffe://a/b', role: 'x' }] }),
      'unknown member "role"',
    ],
    [
      'an unknown limit',
      (c) => ({ ...c, allowed: [{ spiffe: 'spiffe://a/b', limits: { tokens: 1 } }] }),
      'unknown member "tokens"',
    ],
    [
      'a limit of zero',
      (c) => ({ ...c, allowed: [{ spiffe: 'spiffe://a/b', limits: { connections: 0 } }] }),
      'limits.connections',
    ],
    [
      'a limit beyond its bound',
      (c) => ({ ...c, allowed: [{ spiffe: 'spiffe://a/b', limits: { requestsPerMinute: 1_000_001 } }] }),
      'requestsPerMinute',
    ],
    ['a certificate for no time', (c) => ({ ...c, maxCertificateHours: 0 }), 'maxCertificateHours'],
    ['a certificate for years', (c) => ({ ...c, maxCertificateHours: 9529 }), 'maxCertificateHours'],
    ['a CA that is no certificate', (c) => ({ ...c, ca: 'x' }), 'clients.ca'],
    ['a CA with something beside it', (c) => ({ ...c, ca: `${c.ca}# a note\n` }), 'nothing else'],
    ['a CA that is a client', (c) => ({ ...c, ca: client.cert }), 'signed by themselves'],
    ['a CA in between', (c) => ({ ...c, ca: testCa({}, ca).pem }), 'signed by themselves'],
    ['nine CAs', (c) => ({ ...c, ca: c.ca.repeat(9) }), '1 to 8'],
    ['a private key among the CAs', (c) => ({ ...c, ca: c.ca + client.key }), 'nothing else'],
  ])('are refused with %s', (_, change, named) => {
    expect(refusal(change(valid()))).toContain(named);
  });

  it.each([
    'spiffe://models.example.org',
    'spiffe://models.example.org/',
    'spiffe://models.example.org/*',
    'spiffe://*.example.org/a',
    'spiffe://Models.example.org/a',
    'SPIFFE://models.example.org/a',
    'spiffe://models.example.org/a/../b',
    'spiffe://models.example.org/a//b',
    'spiffe://models.example.org/a?b',
    'spiffe://models.example.org:443/a',
    'spiffe://user@models.example.org/a',
    'spiffe://models.example.org/%61',
    'spiffe://models.example.org/a\0',
    ' spiffe://models.example.org/a',
    'https://models.example.org/a',
    '',
  ])('are refused with the SPIFFE id %j', (spiffe) => {
    expect(refusal({ ...valid(), allowed: [{ spiffe }] })).toContain('spiffe://TRUST-DOMAIN/PATH');
  });

  it.each(['', '*', '*.example.org', 'Example.org', 'spiffe://example.org', 'example.org/a', 'example.org.'])(
    'are refused with the trust domain %j',
    (trustDomain) => {
      expect(refusal({ ...valid(), allowed: [{ trustDomain }] })).toContain('a trust domain');
    },
  );

  it.each([
    '',
    'legacy-1',
    'CN=',
    'CN=a,O=b',
    'CN=a,  O=b',
    'CN=a\nO=b',
    'CN= a',
    'CN=a+O=b',
    'cn=a',
    'CN=a*',
    'CN=é',
  ])('are refused with the subject %j', (subject) => {
    expect(refusal({ ...valid(), allowed: [{ subject }] })).toContain('a subject such as');
  });

  it('have no count of connections where each connection is a client', () => {
    expect(parse('anyone', { perClient: { requestsPerMinute: 60 } }).perClient).toEqual({
      requestsPerMinute: 60,
    });
    expect(refusal('anyone', { perClient: { connections: 2 } })).toContain('a client of its own');
  });

  it('stand in docs/deployment.md as an example that parses', () => {
    const page = readFileSync(join(import.meta.dirname, '../../../docs/deployment.md'), 'utf8');
    const [, example = ''] = page.split('```json\n').map((part) => part.split('```')[0] ?? '');
    const clients = JSON.parse(example.replace('"-----BEGIN CERTIFICATE-----\\n…"', JSON.stringify(ca.pem)));
    expect((parse(clients).clients as ClientRules).allowed).toHaveLength(3);
  });
});
