/**
 * Somebody gets the deployment's own CA to sign a certificate for a name that looks like that of an allowed client: to a
 * careless parser, to a person, or printed. Each is refused, over real TLS, as a client of no name or of another one.
 */
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Asn1Input } from '../../shared/asn1.ts';
import { readClientCertificate } from '../../shared/x509/client-certificate.ts';
import { X509Error } from '../../shared/x509/errors.ts';
import { type ClientOptions, testCa, testClient } from '../support/client-certificates.ts';
import { APP, doorOf, rulesOf } from '../support/door.ts';
import { NONCE, serveForTest, type TestServer } from '../support/serving.ts';

const ca = testCa();
let server: TestServer;
beforeAll(async () => {
  server = await serveForTest({ models: [], door: doorOf(rulesOf(ca)) });
});
afterAll(() => server[Symbol.asyncDispose]());

async function codeFor(options: ClientOptions): Promise<string | undefined> {
  const connection = await server.connect({ evidence: false, ...testClient(ca, options) });
  const { json } = await connection.ask('GET', `/attestation?nonce=${NONCE}`);
  connection.close();
  return json.code;
}

const dns = (text: string): Asn1Input => ({ tagClass: 'context', tag: 2, content: Buffer.from(text) });

describe('a certificate of the CA that names', () => {
  it('the allowed client is let in', async () => {
    expect(await codeFor({ uris: [APP] })).toBeUndefined();
  });

  it.each<[string, ClientOptions]>([
    ['the allowed client and another', { uris: [APP, 'spiffe://models.example.org/x'] }],
    ['another and the allowed client', { uris: ['spiffe://models.example.org/x', APP] }],
    ['a pattern', { uris: ['spiffe://models.example.org/*'] }],
    ['a pattern in the trust domain', { uris: ['spiffe://*/app-1'] }],
    ['the scheme in upper case', { uris: [APP.replace('spiffe', 'SPIFFE')] }],
    ['the trust domain in upper case', { uris: [APP.replace('models', 'Models')] }],
    ['the path in upper case', { uris: [APP.replace('app', 'APP')] }],
    ['a longer name', { uris: [`${APP}0`] }],
    ['a shorter name', { uris: [APP.slice(0, -1)] }],
    ['a NUL at the end', { uris: [`${APP}\0`] }],
    ['a NUL and more', { uris: [`${APP}\0.evil.example`] }],
    ['a slash at the end', { uris: [`${APP}/`] }],
    ['a way around', { uris: [APP.replace('/app', '/x/../app')] }],
    ['a detour of nothing', { uris: [APP.replace('/app', '/./app')] }],
    ['an empty part', { uris: [APP.replace('/app', '//app')] }],
    ['an escape', { uris: [APP.replace('app', '%61pp')] }],
    ['a query', { uris: [`${APP}?x`] }],
    ['a fragment', { uris: [`${APP}#x`] }],
    ['a port', { uris: [APP.replace('.org', '.org:443')] }],
    ['a user', { uris: [APP.replace('models', 'evil.example@models')] }],
    ['a closing dot', { uris: [APP.replace('.org', '.org.')] }],
    ['a space in front', { uris: [` ${APP}`] }],
    ['a line break', { uris: [`${APP}\n`] }],
    ['a letter of another alphabet', { uris: [APP.replace('app', '\u0430pp')] }],
    ['the letters in two bytes each', { uris: [Buffer.from(APP, 'utf16le')] }],
    ['nothing', { uris: [''] }],
    ['the allowed client as a DNS name', { otherNames: [dns(APP)] }],
    ['what prints like it beside a DNS name', { otherNames: [dns(`a, URI:${APP}`)] }],
    [
      'another, and prints like the allowed one beside it',
      { uris: ['spiffe://models.example.org/x'], otherNames: [dns(`a, URI:${APP}`)] },
    ],
  ])('%s is not', async (_, options) => {
    expect(await codeFor(options)).toMatch(/^CALLER_(CERTIFICATE_UNUSABLE|NOT_ALLOWED)$/);
  });
});

describe('the reader of certificates', () => {
  it('reads no other name as the allowed one', () => {
    const anything = fc.oneof(
      fc.uint8Array({ maxLength: 60 }),
      fc.tuple(fc.nat(APP.length - 1), fc.nat(255)).map(([offset, byte]) => {
        const changed = Buffer.from(APP);
        changed[offset] = byte;
        return changed;
      }),
    );
    fc.assert(
      fc.property(anything, (uri) => {
        try {
          const { spiffe } = readClientCertificate(testClient(ca, { uris: [uri] }).certificate.raw);
          expect(spiffe === APP).toBe(Buffer.from(uri).equals(Buffer.from(APP)));
        } catch (error) {
          if (!(error instanceof X509Error)) throw error;
        }
      }),
      { numRuns: 200 },
    );
  });

  it('answers whatever a peer could send with a name or an X509Error', () => {
    const real = testClient(ca, { uris: [APP] }).certificate.raw;
    const broken = fc
      .tuple(fc.nat(real.length - 1), fc.integer({ min: 1, max: 255 }))
      .map(([offset, mask]) => {
        const copy = Buffer.from(real);
        copy[offset] = (copy[offset] as number) ^ mask;
        return copy;
      });
    fc.assert(
      fc.property(fc.oneof(broken, fc.uint8Array({ maxLength: 200 })), (der) => {
        try {
          readClientCertificate(der);
        } catch (error) {
          if (!(error instanceof X509Error)) throw error;
        }
      }),
      { numRuns: 1000 },
    );
  });
});
