import 'reflect-metadata';
import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as x509 from '@peculiar/x509';
import { beforeAll, describe, expect, it } from 'vitest';
import { decodeCbor } from '../../../shared/cbor.ts';
import { createSimulatedCa, type IssuedLeaf, type SimulatedCa } from '../../../simulator/nsm/ca.ts';
import { describeWithVectors } from '../../vectors.ts';

const AT = new Date('2026-01-03T20:40:28.841Z');
const IDENTITY = { instanceId: 'i-0368fa67e156d6d23', moduleId: 'i-0368fa67e156d6d23-enc019b8596b1a9dad6' };
const HOUR_MS = 3600_000;

let ca: SimulatedCa;
let leaf: IssuedLeaf;
beforeAll(async () => {
  ca = await createSimulatedCa({ region: 'us-east-1', now: AT });
  leaf = await ca.issueLeaf(IDENTITY, AT);
});

const chainOf = ({ cabundle, certificate }: { cabundle: readonly Uint8Array[]; certificate: Uint8Array }) =>
  [...cabundle, certificate].map((der) => new X509Certificate(Buffer.from(der)));

/** What a person would compare, with the parts that name somebody or some moment left out. */
function shapeOf(der: Uint8Array) {
  const certificate = new x509.X509Certificate(Buffer.from(der));
  return {
    subject: certificate.subjectName.toJSON().map((attribute) => Object.keys(attribute)[0]),
    algorithm: certificate.signatureAlgorithm,
    key: certificate.publicKey.algorithm,
    serialBytes: certificate.serialNumber.length / 2,
    extensions: certificate.extensions.map((extension) => ({
      type: extension.type,
      critical: extension.critical,
      value: ['2.5.29.15', '2.5.29.19'].includes(extension.type)
        ? Buffer.from(extension.value).toString('hex')
        : 'of this certificate',
    })),
  };
}

describe('the simulated chain', () => {
  it('leads from the leaf to the root, root first in the bundle', () => {
    const chain = chainOf(leaf);
    expect(chain).toHaveLength(5);
    expect(chain[0]?.raw.equals(new X509Certificate(ca.rootPem).raw)).toBe(true);
    for (const [index, certificate] of chain.entries()) {
      const issuer = chain[Math.max(index - 1, 0)] as X509Certificate;
      expect(certificate.checkIssued(issuer)).toBe(true);
      expect(certificate.verify(issuer.publicKey)).toBe(true);
      expect(certificate.ca).toBe(index < 4);
    }
  });

  it('cannot be mistaken for the real one: every name says what it is', () => {
    for (const certificate of chainOf(leaf)) {
      expect(certificate.subject).toContain('O=Strongroom simulation');
      expect(certificate.subject).toContain('OU=Not AWS');
      expect(certificate.subject).toMatch(/CN=([\w.-]+\.)?simulation(\.nitro-enclaves)?(\n|$)/);
      expect(certificate.subject).not.toMatch(/Amazon|\.aws/);
    }
  });

  it('has the life times of AWS chains and is valid at the moment of issue', () => {
    const hours = chainOf(leaf).map((certificate) => {
      expect(certificate.validFromDate <= AT && AT < certificate.validToDate).toBe(true);
      return (certificate.validToDate.getTime() - certificate.validFromDate.getTime()) / HOUR_MS;
    });
    expect(hours[0]).toBeCloseTo(30 * 365.25 * 24);
    expect(hours.slice(1)).toEqual([481 - 1 / 3600, 138, 24, 3 + 3 / 3600]);
  });

  it('puts enclave id and time of issue into the serial number of the leaf', () => {
    expect(chainOf(leaf)[4]?.serialNumber).toBe('019B8596B1A9DAD60000000069597EBC');
  });

  it('keeps its CAs from leaf to leaf', async () => {
    const next = await ca.issueLeaf(IDENTITY, new Date(AT.getTime() + HOUR_MS));
    expect(next.cabundle).toEqual(leaf.cabundle);
    expect(next.certificate).not.toEqual(leaf.certificate);
  });

  it.each([
    ['a day', 24],
    ['six days', 144],
    ['480 hours', 480],
    ['just before the region ends', 476.9],
    ['years', 24 * 365 * 3],
  ])('renews what would end before the leaf, after %s, and stays a chain', async (_, hours) => {
    const later = new Date(AT.getTime() + hours * HOUR_MS);
    const issued = await ca.issueLeaf(IDENTITY, later);
    const chain = chainOf(issued);
    for (const [index, certificate] of chain.entries()) {
      const issuer = chain[Math.max(index - 1, 0)] as X509Certificate;
      expect(certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey)).toBe(true);
      expect(certificate.validFromDate <= later).toBe(true);
      expect(certificate.validToDate >= issued.notAfter).toBe(true);
    }
  });

  it('is another one for every simulation', async () => {
    const other = await createSimulatedCa({ region: 'us-east-1', now: AT });
    expect(other.rootPem).not.toBe(ca.rootPem);
  });
});

describeWithVectors('next to a real chain', (folder) => {
  const document = readFileSync(join(folder, 'attestation', 'base-2026-01-03-indefinite-repaired.cbor'));
  const [, , payload] = decodeCbor(document) as [unknown, unknown, Uint8Array];
  const content = decodeCbor(payload) as Map<string, unknown>;
  const real = [...(content.get('cabundle') as Uint8Array[]), content.get('certificate') as Uint8Array];

  it.each(['root', 'region', 'zone', 'instance', 'leaf'].map((name, index) => [name, index] as const))(
    'the %s has the same shape: attribute order, extensions, their order, criticality and values',
    (_, index) => {
      const ours = [...leaf.cabundle, leaf.certificate][index] as Uint8Array;
      expect(shapeOf(ours)).toEqual(shapeOf(real[index] as Uint8Array));
    },
  );
});
