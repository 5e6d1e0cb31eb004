import 'reflect-metadata';
import { createPrivateKey, generateKeyPairSync } from 'node:crypto';
import { X509Certificate as Peculiar, SubjectAlternativeNameExtension } from '@peculiar/x509';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  expectPermitted,
  nameConstraints,
  permittedName,
  readPermitted,
} from '../../../owner/certificates/constraints.ts';
import { readFolder } from '../../../owner/certificates/folder.ts';
import {
  createCa,
  issueCertificate,
  permittedBy,
  renewCertificate,
} from '../../../owner/certificates/issue.ts';
import { addressBytes, generalName, serverName, spiffeId } from '../../../owner/certificates/names.ts';
import { readDer, writeDer } from '../../../shared/asn1.ts';
import {
  certificatePem,
  commonName,
  endEntityExtensions,
  extension,
  ID,
  sequence,
  signCertificate,
} from '../../../shared/x509/write.ts';
import { DAY_MS, opensslIsAbsent, opensslRefusal, opensslText, workshop } from './support.ts';

const DOMAIN = 'models.example.org';
const PERMITTED = [DOMAIN, '10.0.0.0/8', 'fd00::/8', `spiffe://${DOMAIN}`];

describe('a CA', () => {
  it('signs end entities alone, for the permitted names alone, and says so critically', async () => {
    await using at = await workshop();
    const { certificate } = await at.ca('ca', PERMITTED);
    expect(certificate.ca).toBe(true);
    expect(certificate.verify(certificate.publicKey)).toBe(true);
    expect(certificate.publicKey.asymmetricKeyDetails?.namedCurve).toBe('secp384r1');
    expect(permittedBy(certificate).map(({ text }) => text)).toEqual(PERMITTED);
    const peculiar = new Peculiar(certificate.raw);
    expect(peculiar.getExtension(ID.nameConstraints)?.critical).toBe(true);
    if (opensslIsAbsent) return;
    const text = opensslText(certificate.toString());
    expect(text).toMatch(/Basic Constraints: critical\s+CA:TRUE, pathlen:0/);
    expect(text).toMatch(/Key Usage: critical\s+Certificate Sign, CRL Sign\n/);
    expect(text).toMatch(
      /Name Constraints: critical\s+Permitted:\s+DNS:models.example.org\s+IP:10.0.0.0\/255.0.0.0/,
    );
    expect(text).toMatch(/Signature Algorithm: ecdsa-with-SHA384/);
  });

  it('is made for no fewer than one name', () => {
    const options = { at: new Date(), days: 1, curve: 'P-256', permitted: [] } as const;
    expect(() => createCa(options)).toThrow('at least one permitted name');
  });

  it('has a name of its own, unless told', async () => {
    await using at = await workshop();
    const [a, b] = [await at.ca('a', [DOMAIN]), await at.ca('b', [DOMAIN])];
    expect(a.certificate.subject).not.toBe(b.certificate.subject);
    const named = createCa({
      at: new Date(),
      days: 1,
      curve: 'P-256',
      name: 'Ours',
      permitted: [permittedName(DOMAIN)],
    });
    expect(named.certificate.subject).toBe('CN=Ours');
  });
});

describe('an issued certificate', () => {
  for (const curve of ['P-256', 'P-384'] as const) {
    for (const caCurve of ['P-256', 'P-384'] as const) {
      it(`with ${curve} under a CA with ${caCurve} is what OpenSSL and @peculiar/x509 read`, async () => {
        await using at = await workshop();
        const ca = await at.ca('ca', PERMITTED, { curve: caCurve });
        const names = [`registry.${DOMAIN}`, '10.1.2.3', 'fd00::7'] as const;
        const server = (await at.server(ca, 'server', names, { curve })).pair.certificate;
        const id = `spiffe://${DOMAIN}/c/1f`;
        const client = (await at.client(ca, 'client', id, { curve })).pair.certificate;
        for (const each of [server, client]) {
          expect(each.checkIssued(ca.certificate)).toBe(true);
          expect(each.verify(ca.certificate.publicKey)).toBe(true);
          expect(each.ca).toBe(false);
          expect(await new Peculiar(each.raw).verify({ publicKey: new Peculiar(ca.certificate.raw) })).toBe(
            true,
          );
        }
        expect(server.subjectAltName).toBe(
          `DNS:registry.${DOMAIN}, IP Address:10.1.2.3, IP Address:FD00:0:0:0:0:0:0:7`,
        );
        expect(server.checkHost(`registry.${DOMAIN}`)).toBe(`registry.${DOMAIN}`);
        expect(server.checkIP('fd00::7')).toBe('fd00::7');
        expect(server.checkHost(`other.${DOMAIN}`)).toBeUndefined();
        expect(client.subjectAltName).toBe(`URI:${id}`);
        const alternatives = new Peculiar(server.raw).getExtension(SubjectAlternativeNameExtension);
        expect(alternatives?.names.items.map(({ value }) => value)).toEqual([...names]);
        if (opensslIsAbsent) return;
        const pem = ca.certificate.toString();
        expect(await opensslRefusal(pem, server.toString(), 'sslserver')).toBeUndefined();
        expect(await opensslRefusal(pem, client.toString(), 'sslclient')).toBeUndefined();
        expect(await opensslRefusal(pem, server.toString(), 'sslclient')).toContain(
          'unsuitable certificate purpose',
        );
        expect(await opensslRefusal(pem, client.toString(), 'sslserver')).toContain(
          'unsuitable certificate purpose',
        );
      });
    }
  }

  it('lives as long as asked, from ten minutes ago', async () => {
    await using at = await workshop();
    const start = new Date('2026-05-06T07:08:09.000Z');
    const ca = await at.ca('ca', PERMITTED, { at: start });
    const { certificate } = (await at.server(ca, 's', [DOMAIN], { at: start, days: 7 })).pair;
    expect(certificate.validFromDate.toISOString()).toBe('2026-05-06T06:58:09.000Z');
    expect(certificate.validToDate.toISOString()).toBe('2026-05-13T07:08:09.000Z');
  });

  it('is refused when it would outlive its CA', async () => {
    await using at = await workshop();
    const ca = await at.ca('ca', PERMITTED, { days: 30 });
    await expect(at.server(ca, 's', [DOMAIN], { days: 31 })).rejects.toMatchObject({
      code: 'CERT_OUTLIVES_CA',
    });
  });

  it('is refused from what is no CA', async () => {
    await using at = await workshop();
    const ca = await at.ca('ca', PERMITTED);
    const leaf = await at.server(ca, 's', [DOMAIN]);
    const holder = await readFolder(leaf.folder);
    await expect(at.server(holder, 't', [DOMAIN])).rejects.toMatchObject({ code: 'CERT_UNUSABLE' });
  });

  it('tells a client again by a digest, and says nothing else', async () => {
    await using at = await workshop();
    const ca = await at.ca('ca', PERMITTED);
    const subjects = [];
    for (const [name, id] of [
      ['a', 'x'],
      ['b', 'x'],
      ['c', 'y'],
    ] as const) {
      const { certificate } = (await at.client(ca, name, `spiffe://${DOMAIN}/${id}`)).pair;
      subjects.push(certificate.subject);
      expect(certificate.subject).toMatch(/^CN=[0-9a-f]{32}$/);
    }
    expect(subjects[0]).toBe(subjects[1]);
    expect(subjects[0]).not.toBe(subjects[2]);
  });
});

describe('name constraints', () => {
  /** CA's permitted names, asked-for name, and whether it may have it. */
  const cases: readonly (readonly [readonly string[], string, boolean])[] = [
    [[DOMAIN], DOMAIN, true],
    [[DOMAIN], `a.b.${DOMAIN}`, true],
    [[DOMAIN], `not${DOMAIN}`, false],
    [[DOMAIN], 'example.org', false],
    [[DOMAIN], '10.0.0.1', false],
    [[DOMAIN], '::1', false],
    [[DOMAIN], `spiffe://${DOMAIN}/x`, false],
    [['10.0.0.0/8'], '10.255.0.1', true],
    [['10.0.0.0/8'], '11.0.0.1', false],
    [['10.0.0.0/8'], 'fd00::1', false],
    [['10.0.0.0/8'], DOMAIN, false],
    [['192.0.2.128/25'], '192.0.2.200', true],
    [['192.0.2.128/25'], '192.0.2.127', false],
    [['192.0.2.7'], '192.0.2.7', true],
    [['192.0.2.7'], '192.0.2.6', false],
    [['fd00::/9'], 'fd7f::1', true],
    [['fd00::/9'], 'fd80::1', false],
    [['fd00::/9'], '10.0.0.1', false],
    [['0.0.0.0/0'], '203.0.113.9', true],
    [[`spiffe://${DOMAIN}`], `spiffe://${DOMAIN}/x`, true],
    [[`spiffe://${DOMAIN}`], `spiffe://a.${DOMAIN}/x`, false],
    [[`spiffe://${DOMAIN}`], 'spiffe://example.org/x', false],
    [[`spiffe://${DOMAIN}`], DOMAIN, false],
    [['10.0.0.0/8', `spiffe://${DOMAIN}`, 'localhost'], 'localhost', true],
    [['10.0.0.0/8', `spiffe://${DOMAIN}`, 'localhost'], DOMAIN, false],
  ];

  it.each(cases)(
    'of a CA for %j: %s is permitted: %s, for us and for OpenSSL',
    async (permitted, text, allowed) => {
      await using at = await workshop();
      const ca = await at.ca('ca', permitted, { curve: 'P-256' });
      const name = text.startsWith('spiffe:') ? spiffeId(text) : serverName(text);
      const use = name.kind === 'spiffe' ? 'client' : 'server';
      const ask = () =>
        issueCertificate(ca, { at: new Date(), days: 1, curve: 'P-256', use, names: [name] }).certificate;
      if (allowed) expect(ask().subjectAltName).toBeDefined();
      else expect(ask).toThrow(expect.objectContaining({ code: 'CERT_NOT_PERMITTED' }));
      if (opensslIsAbsent) return;
      // As a thief of the CA's key would: signed without asking.
      const { publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
      const stolen = signCertificate(
        {
          serial: new Uint8Array(16),
          issuer: { der: readDer(ca.certificate.raw).children[0]?.children[5]?.raw as Uint8Array },
          subject: commonName('Strongroom server'),
          notBefore: new Date(Date.now() - DAY_MS),
          notAfter: new Date(Date.now() + DAY_MS),
          spki: publicKey.export({ type: 'spki', format: 'der' }),
          extensions: [
            ...endEntityExtensions(use),
            extension(ID.subjectAltName, false, sequence(generalName(name))),
          ],
        },
        ca.key,
      );
      const refusal = await opensslRefusal(
        ca.certificate.toString(),
        certificatePem(stolen),
        use === 'server' ? 'sslserver' : 'sslclient',
        [],
      );
      if (allowed) expect(refusal).toBeUndefined();
      else expect(refusal).toMatch(/(permitted|excluded) subtree violation/);
    },
  );

  it('are read back as they were written, and bind exactly their names', () => {
    const octet = fc.integer({ min: 0, max: 255 });
    const prefixed = fc.tuple(
      fc.array(octet, { minLength: 16, maxLength: 16 }),
      fc.integer({ min: 0, max: 128 }),
    );
    fc.assert(
      fc.property(prefixed, fc.array(octet, { minLength: 16, maxLength: 16 }), ([bytes, bits], other) => {
        const masked = bytes.map(
          (value, i) => value & (0xff00 >> Math.max(0, Math.min(8, bits - i * 8))) & 0xff,
        );
        const text = (from: readonly number[]) =>
          Array.from({ length: 8 }, (_, i) =>
            ((from[i * 2] as number) * 256 + (from[i * 2 + 1] as number)).toString(16),
          ).join(':');
        const permitted = permittedName(`${text(masked)}/${bits}`);
        const value = readDer(
          readDer(writeDer(nameConstraints([permitted]))).children.at(-1)?.content as Uint8Array,
        );
        const [again] = readPermitted(value);
        expect(again).toMatchObject({ kind: 'address', bytes: (permitted as { bytes: Uint8Array }).bytes });
        const inside = other.every((byte, i) => bitsOf(byte, masked[i] as number, bits - i * 8));
        const ask = () => expectPermitted([permitted], serverName(text(other)));
        if (inside) ask();
        else expect(ask).toThrow();
      }),
      { numRuns: 200 },
    );
  });

  function bitsOf(a: number, b: number, bits: number): boolean {
    const mask = 0xff & (0xff00 >> Math.max(0, Math.min(8, bits)));
    return (a & mask) === (b & mask);
  }
});

describe('names', () => {
  it.each([
    'Registry.example.org',
    '*.example.org',
    'example.org.',
    '-a.org',
    'a..b',
    '',
    'a b',
    '1.2.3',
    '1.2.3.256',
    'fe80::1%eth0',
    'ä.org',
    `${'a'.repeat(64)}.org`,
    'spiffe://a/b',
    'http://a',
    `${'a.'.repeat(127)}aa`,
  ])('%j is none of a server', (text) => {
    expect(() => serverName(text)).toThrow(expect.objectContaining({ code: 'CERT_NAME_UNUSABLE' }));
  });

  it.each([
    'spiffe://a',
    'spiffe://a/',
    'spiffe:///x',
    'spiffe://a/x/',
    'spiffe://a//x',
    'spiffe://a/../x',
    'spiffe://a/.',
    'spiffe://A/x',
    'spiffe://a:1/x',
    'spiffe://u@a/x',
    'spiffe://a/x?y',
    'spiffe://a/x#y',
    'spiffe://a/%41',
    'spiffe://a/x y',
    'SPIFFE://a/x',
    'https://a/x',
    `spiffe://a/${'x'.repeat(2048)}`,
    'spiffe://a/me@example.org',
  ])('%j is no SPIFFE id', (text) => {
    expect(() => spiffeId(text)).toThrow(expect.objectContaining({ code: 'CERT_NAME_UNUSABLE' }));
  });

  it.each([
    '10.0.0.1/8',
    '10.0.0.0/33',
    '10.0.0.0/-1',
    '10.0.0.0/08',
    'fd00::/129',
    '10.0.0.0/',
    '.example.org',
    '',
    'spiffe://a/x',
  ])('%j is nothing to permit', (text) => {
    expect(() => permittedName(text)).toThrow(expect.objectContaining({ code: 'CERT_NAME_UNUSABLE' }));
  });

  it.each([
    ['::', '00000000000000000000000000000000'],
    ['::1', '00000000000000000000000000000001'],
    ['1::', '00010000000000000000000000000000'],
    ['1:2:3:4:5:6:7:8', '00010002000300040005000600070008'],
    ['2001:DB8::a:0:0', '20010db8000000000000000a00000000'],
    ['::ffff:192.0.2.1', '00000000000000000000ffffc0000201'],
    ['192.0.2.1', 'c0000201'],
  ])('%s has the bytes %s', (text, hex) => {
    expect(Buffer.from(addressBytes(text) as Uint8Array).toString('hex')).toBe(hex);
  });
});

describe('renewing', () => {
  const life = { at: new Date(), days: 90, keepKey: false };

  it('keeps names and use, and makes a new key and serial', async () => {
    await using at = await workshop();
    const ca = await at.ca('ca', PERMITTED);
    const old = await readFolder(
      (await at.server(ca, 's', [`a.${DOMAIN}`, '10.0.0.1'], { curve: 'P-384' })).folder,
    );
    const fresh = renewCertificate(ca, old, life).certificate;
    expect(fresh.subjectAltName).toBe(old.certificate.subjectAltName);
    expect(fresh.keyUsage).toEqual(old.certificate.keyUsage);
    expect(fresh.subject).toBe(old.certificate.subject);
    expect(fresh.serialNumber).not.toBe(old.certificate.serialNumber);
    expect(fresh.publicKey.equals(old.certificate.publicKey)).toBe(false);
    expect(fresh.publicKey.asymmetricKeyDetails?.namedCurve).toBe('secp384r1');
    const kept = renewCertificate(ca, old, { ...life, keepKey: true }).certificate;
    expect(kept.publicKey.equals(old.certificate.publicKey)).toBe(true);
    if (opensslIsAbsent) return;
    for (const each of [fresh, kept]) {
      expect(await opensslRefusal(ca.certificate.toString(), each.toString(), 'sslserver')).toBeUndefined();
    }
  });

  it('of a CA keeps its key, its names, and what it has signed', async () => {
    await using at = await workshop();
    const ca = await at.ca('ca', PERMITTED, { days: 100 });
    const leaf = (await at.server(ca, 's', [DOMAIN])).pair.certificate;
    const fresh = renewCertificate(ca, ca, { ...life, days: 200 }).certificate;
    expect(fresh.ca).toBe(true);
    expect(permittedBy(fresh)).toEqual(permittedBy(ca.certificate));
    expect(leaf.checkIssued(fresh) && leaf.verify(fresh.publicKey)).toBe(true);
    expect(fresh.validToDate > ca.certificate.validToDate).toBe(true);
    if (opensslIsAbsent) return;
    expect(await opensslRefusal(fresh.toString(), leaf.toString(), 'sslserver')).toBeUndefined();
  });

  it('is refused for what another CA signed, also one of the same name', async () => {
    await using at = await workshop();
    const make = () =>
      createCa({
        at: new Date(),
        days: 100,
        name: 'Same',
        curve: 'P-256',
        permitted: [permittedName(DOMAIN)],
      });
    const [a, b] = [make(), make()].map(({ certificate, keyPem }) => ({
      certificate,
      key: createPrivateKey(Buffer.from(keyPem)),
    })) as [Awaited<ReturnType<typeof at.ca>>, Awaited<ReturnType<typeof at.ca>>];
    const old = await readFolder((await at.server(a, 's', [DOMAIN], { days: 9 })).folder);
    expect(() => renewCertificate(b, old, { ...life, days: 9 })).toThrow(
      expect.objectContaining({ code: 'CERT_FOREIGN' }),
    );
  });
});
