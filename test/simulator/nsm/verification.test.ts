import { createHash } from 'node:crypto';
import { beforeAll, describe, expect, it } from 'vitest';
import { nsmClient } from '../../../enclave/nsm/client.ts';
import { awsNitroAnchor, simulationAnchor } from '../../../shared/attestation/anchors.ts';
import { expectAttestation } from '../../../shared/attestation/expect.ts';
import { parseAttestationDocument } from '../../../shared/attestation/parse.ts';
import { verifyAttestationDocument } from '../../../shared/attestation/verify.ts';
import { createSimulatedCa, type SimulatedCa } from '../../../simulator/nsm/ca.ts';
import { newInstanceId, newModuleId } from '../../../simulator/nsm/identity.ts';
import { SoftwareNsm, type SoftwareNsmOptions } from '../../../simulator/nsm/software-nsm.ts';

const START = new Date('2026-01-03T20:40:28.841Z');
const HOUR_MS = 3600_000;
const pcr = (byte: number) => new Uint8Array(48).fill(byte);
const hex = (bytes: Uint8Array | undefined) => Buffer.from(bytes ?? []).toString('hex');

const refusal = (code: string) => expect.objectContaining({ code });

let ca: SimulatedCa;
beforeAll(async () => {
  ca = await createSimulatedCa({ region: 'eu-central-1', now: START });
});

/** A document of a fresh enclave that measured a deployment, made at `at`. */
async function attest(at = START, options: Partial<SoftwareNsmOptions> = {}, fieldBytes = 512) {
  const nsm = await SoftwareNsm.create({
    ca,
    moduleId: newModuleId(newInstanceId(), at),
    pcrs: { 0: pcr(1), 1: pcr(2), 2: pcr(3), 3: pcr(4) },
    now: () => at,
    ...options,
  });
  const client = nsmClient((request) => nsm.handle(request));
  await client.extendPcr(16, createHash('sha384').update('a deployment').digest());
  await client.lockPcrs(32);
  const field = new Uint8Array(fieldBytes).fill(7);
  return client.attest({ userData: field, nonce: field, publicKey: null });
}

const verify = (document: Uint8Array, at = START, anchor = simulationAnchor(ca.rootPem)) =>
  verifyAttestationDocument(parseAttestationDocument(document), { anchors: [anchor], at });

describe('the production verifier, unmodified', () => {
  it.each(['definite', 'indefinite'] as const)(
    'accepts a document with a map of %s length',
    async (payloadMap) => {
      const verified = verify(await attest(START, { payloadMap }));
      expect(verified.trust).toBe('simulation');
      expect(verified.fields.timestampMs).toBe(START.getTime());
      expect(hex(verified.fields.pcrs.get(0))).toBe('01'.repeat(48));
      expect(verified.fields.pcrs.size).toBe(32);
      expect(hex(verified.fields.nonce ?? undefined)).toBe('07'.repeat(512));
    },
  );

  it('accepts it as what was wanted', async () => {
    const verified = verify(await attest());
    const pcr16 = hex(verified.fields.pcrs.get(16));
    const wanted = (pcr0: string) =>
      expectAttestation(verified, {
        pcrs: { 0: pcr0, 16: pcr16, 3: '04'.repeat(48) },
        nonce: new Uint8Array(512).fill(7),
        maxAgeMs: 1000,
        at: START,
      });
    expect(wanted('01'.repeat(48)).trust).toBe('simulation');
    expect(() => wanted('02'.repeat(48))).toThrow(refusal('ATTESTATION_PCR_MISMATCH'));
  });

  it('refuses it with the anchor of production', async () => {
    const document = await attest();
    expect(() => verify(document, START, awsNitroAnchor())).toThrow(refusal('ATTESTATION_UNTRUSTED_ROOT'));
  });

  it('refuses it with the anchor of another simulation', async () => {
    const other = await createSimulatedCa({ region: 'eu-central-1', now: START });
    const document = await attest();
    expect(() => verify(document, START, simulationAnchor(other.rootPem))).toThrow(
      refusal('ATTESTATION_UNTRUSTED_ROOT'),
    );
  });

  it('refuses it after its leaf has ended', async () => {
    const document = await attest();
    expect(() => verify(document, new Date(START.getTime() + 2.9 * HOUR_MS))).not.toThrow();
    expect(() => verify(document, new Date(START.getTime() + 3.1 * HOUR_MS))).toThrow(
      refusal('ATTESTATION_EXPIRED'),
    );
  });

  it('refuses the document of a debug-mode enclave, whatever measurements are allowed', async () => {
    const verified = verify(await attest(START, { debug: true }));
    expect(() =>
      expectAttestation(verified, {
        pcrs: { 0: 'any', 16: 'any' },
        nonce: 'any',
        maxAgeMs: 'any',
        at: START,
      }),
    ).toThrow(refusal('ATTESTATION_DEBUG_IMAGE'));
  });

  it.each([1, 25, 140, 475, 9000])(
    'accepts documents made %i hours later, under renewed CAs',
    async (hours) => {
      const at = new Date(START.getTime() + hours * HOUR_MS);
      expect(verify(await attest(at), at).fields.timestampMs).toBe(at.getTime());
    },
  );
});
