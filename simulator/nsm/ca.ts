/**
 * A certificate authority shaped like the one behind AWS's NSMs: root, region, zone, instance, leaf. It lives
 * for one simulation; its root is that simulation's trust anchor and no other verifier accepts it.
 */
import { KeyObject, randomBytes, type webcrypto } from 'node:crypto';
import {
  type IssuedCertificate,
  instanceExtensions,
  instanceName,
  intermediateExtensions,
  issueCertificate,
  leafExtensions,
  PARTITION,
  rootExtensions,
  rootName,
  zoneName,
} from './certificates.ts';

const SECOND_MS = 1000;
const HOUR_MS = 3600 * SECOND_MS;

/** Life times as seen in AWS's chains. The CAs start an hour early, as if they had been in use. */
const ROOT_LIFE_MS = 30 * 365.25 * 24 * HOUR_MS;
const REGION_LIFE_MS = 481 * HOUR_MS - SECOND_MS;
const ZONE_LIFE_MS = 138 * HOUR_MS;
const INSTANCE_LIFE_MS = 24 * HOUR_MS;
const LEAF_LIFE_MS = 3 * HOUR_MS;
const CA_BACKDATING_MS = HOUR_MS;
const LEAF_BACKDATING_MS = 3 * SECOND_MS;

export interface LeafIdentity {
  /** `i-` and 17 hex digits. */
  readonly instanceId: string;
  /** The instance id, `-enc` and 16 hex digits. */
  readonly moduleId: string;
}

export interface IssuedLeaf {
  readonly certificate: Uint8Array;
  /** DER, root first; the last one issued the leaf. */
  readonly cabundle: readonly Uint8Array[];
  readonly privateKey: KeyObject;
  readonly notBefore: Date;
  readonly notAfter: Date;
}

export interface SimulatedCa {
  readonly region: string;
  /** The trust anchor of this simulation, for `simulationAnchor()`. */
  readonly rootPem: string;
  /** A fresh leaf for three hours from `at`; CAs that would end before it are renewed first. */
  issueLeaf(identity: LeafIdentity, at: Date): Promise<IssuedLeaf>;
}

/** `now` is when the root begins to be valid, to within a day. */
export async function createSimulatedCa(options: {
  readonly region: string;
  readonly now: Date;
}): Promise<SimulatedCa> {
  const { region } = options;
  const suffix = `${PARTITION}.nitro-enclaves`;
  const crlUrl = (kind: string) => `http://${kind}.crl.invalid/${randomHex(16)}.crl`;

  const root = await issueCertificate({
    ...window(options.now, 24 * HOUR_MS, ROOT_LIFE_MS),
    subject: rootName(suffix),
    serialNumber: positiveSerial(),
    issuer: undefined,
    extensions: rootExtensions,
  });
  const regionCa = renewed((at) =>
    issueCertificate({
      ...window(at, CA_BACKDATING_MS, REGION_LIFE_MS),
      subject: rootName(`${randomHex(8)}.${region}.${suffix}`),
      serialNumber: positiveSerial(),
      issuer: root,
      extensions: intermediateExtensions(root, 2, crlUrl('region')),
    }),
  );
  const zoneCa = renewed(async (at) => {
    const issuer = await regionCa(at);
    return issueCertificate({
      ...window(at, CA_BACKDATING_MS, ZONE_LIFE_MS),
      subject: zoneName(`${randomHex(8)}.zonal.${region}.${suffix}`),
      serialNumber: positiveSerial(),
      issuer,
      extensions: intermediateExtensions(issuer, 1, crlUrl('zone')),
    });
  });
  const instanceCas = new Map<string, (at: Date) => Promise<IssuedCertificate>>();
  const instanceCa = (instanceId: string) => {
    let ca = instanceCas.get(instanceId);
    ca ??= renewed(async (at) => {
      const issuer = await zoneCa(at);
      return issueCertificate({
        ...window(at, CA_BACKDATING_MS, INSTANCE_LIFE_MS),
        subject: instanceName(`${instanceId}.${region}.${suffix}`),
        serialNumber: positiveSerial(20),
        issuer,
        extensions: instanceExtensions(issuer),
      });
    });
    instanceCas.set(instanceId, ca);
    return ca;
  };

  return {
    region,
    rootPem: pem(root.der),
    async issueLeaf({ instanceId, moduleId }, at) {
      const instance = await instanceCa(instanceId)(at);
      const leaf = await issueCertificate({
        ...window(at, LEAF_BACKDATING_MS, LEAF_BACKDATING_MS + LEAF_LIFE_MS),
        subject: instanceName(`${moduleId}.${region}.${PARTITION}`),
        serialNumber: leafSerial(moduleId, at),
        issuer: instance,
        extensions: leafExtensions,
      });
      return {
        certificate: leaf.der,
        cabundle: bundle(instance),
        privateKey: KeyObject.from(leaf.keys.privateKey as webcrypto.CryptoKey),
        notBefore: leaf.notBefore,
        notAfter: leaf.notAfter,
      };
    },
  };
}

/** Keeps one certificate and issues another when the kept one does not cover a leaf issued at `at`. */
function renewed(issue: (at: Date) => Promise<IssuedCertificate>): (at: Date) => Promise<IssuedCertificate> {
  let kept: IssuedCertificate | undefined;
  return async (at) => {
    if (kept === undefined || !chainCovers(kept, at, new Date(at.getTime() + LEAF_LIFE_MS))) {
      kept = await issue(at);
    }
    return kept;
  };
}

/** The whole chain is looked at: a zone may outlive the region that issued it. */
function chainCovers(certificate: IssuedCertificate, from: Date, until: Date): boolean {
  if (certificate.notBefore > from || certificate.notAfter < until) return false;
  return certificate.issuer === undefined || chainCovers(certificate.issuer, from, until);
}

/** Root first. */
function bundle(certificate: IssuedCertificate): readonly Uint8Array[] {
  const above = certificate.issuer === undefined ? [] : bundle(certificate.issuer);
  return [...above, certificate.der];
}

/** Certificates count whole seconds. */
function window(at: Date, backdatingMs: number, lifeMs: number): { notBefore: Date; notAfter: Date } {
  const startMs = Math.floor((at.getTime() - backdatingMs) / SECOND_MS) * SECOND_MS;
  return { notBefore: new Date(startMs), notAfter: new Date(startMs + lifeMs) };
}

function randomHex(bytes: number): string {
  return randomBytes(bytes).toString('hex');
}

/** AWS's CA serials have 16 bytes, the instances' 20. The first bit is clear: DER integers are signed. */
function positiveSerial(bytes = 16): string {
  const serial = randomBytes(bytes);
  serial[0] = ((serial[0] as number) & 0x7f) | 0x01;
  return serial.toString('hex');
}

/** AWS's leaf serial is the enclave id and the time of issue in seconds, 8 bytes each. */
function leafSerial(moduleId: string, at: Date): string {
  const enclaveId = moduleId.slice(-16);
  return (
    enclaveId +
    Math.floor(at.getTime() / SECOND_MS)
      .toString(16)
      .padStart(16, '0')
  );
}

function pem(der: Uint8Array): string {
  const lines =
    Buffer.from(der)
      .toString('base64')
      .match(/.{1,64}/g) ?? [];
  return `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`;
}
