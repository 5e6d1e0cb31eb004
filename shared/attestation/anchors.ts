/**
 * Whom a verifier trusts. An anchor is a self-signed root certificate and the word that every result carries on:
 * `aws-nitro` for the root that AWS publishes, `simulation` for any other. The word belongs to the certificate:
 * anchors can be made here only, and only the pinned AWS root gives `aws-nitro`.
 */
import { Buffer } from 'node:buffer';
import { createHash, createPublicKey, type KeyObject, verify } from 'node:crypto';
import { type Certificate, readCertificate } from './certificate.ts';
import { AttestationError } from './errors.ts';

export type Trust = 'aws-nitro' | 'simulation';

const madeHere = Symbol('made in this module');

export class TrustAnchor {
  readonly #made = true;
  readonly trust: Trust;
  /** The root certificate in DER. */
  readonly certificate: Uint8Array;
  readonly parsed: Certificate;
  readonly publicKey: KeyObject;

  constructor(
    token: typeof madeHere,
    trust: Trust,
    certificate: Uint8Array,
    parsed: Certificate,
    publicKey: KeyObject,
  ) {
    if (token !== madeHere) throw new TypeError('Use awsNitroAnchor or simulationAnchor.');
    this.trust = trust;
    this.certificate = certificate;
    this.parsed = parsed;
    this.publicKey = publicKey;
    Object.freeze(this);
  }

  static isGenuine(value: unknown): value is TrustAnchor {
    return typeof value === 'object' && value !== null && #made in value && value.#made;
  }
}

/**
 * AWS Nitro Enclaves Root-G1, for the commercial partitions. Source:
 * https://aws-nitro-enclaves.amazonaws.com/AWS_NitroEnclaves_Root-G1.zip, SHA-256 of the zip
 * 8cf60e2b2efca96c6a9e71e851d00c1b6991cc09eadbe64a6a1d1b1eb9faff7c (AWS attestation_process.md 2.1). The hash
 * below is another thing, the SHA-256 of the certificate in DER; AWS states it on the page "Verifying the root".
 */
const AWS_NITRO_ROOT_G1_PEM = `-----BEGIN CERTIFICATE-----
MIICETCCAZagAwIBAgIRAPkxdWgbkK/hHUbMtOTn+FYwCgYIKoZIzj0EAwMwSTEL
MAkGA1UEBhMCVVMxDzANBgNVBAoMBkFtYXpvbjEMMAoGA1UECwwDQVdTMRswGQYD
VQQDDBJhd3Mubml0cm8tZW5jbGF2ZXMwHhcNMTkxMDI4MTMyODA1WhcNNDkxMDI4
MTQyODA1WjBJMQswCQYDVQQGEwJVUzEPMA0GA1UECgwGQW1hem9uMQwwCgYDVQQL
DANBV1MxGzAZBgNVBAMMEmF3cy5uaXRyby1lbmNsYXZlczB2MBAGByqGSM49AgEG
BSuBBAAiA2IABPwCVOumCMHzaHDimtqQvkY4MpJzbolL//Zy2YlES1BR5TSksfbb
48C8WBoyt7F2Bw7eEtaaP+ohG2bnUs990d0JX28TcPQXCEPZ3BABIeTPYwEoCWZE
h8l5YoQwTcU/9KNCMEAwDwYDVR0TAQH/BAUwAwEB/zAdBgNVHQ4EFgQUkCW1DdkF
R+eWw5b6cp3PmanfS5YwDgYDVR0PAQH/BAQDAgGGMAoGCCqGSM49BAMDA2kAMGYC
MQCjfy+Rocm9Xue4YnwWmNJVA44fA0P5W2OpYow9OYCVRaEevL8uO1XYru5xtMPW
rfMCMQCi85sWBbJwKKXdS6BptQFuZbT73o/gBh1qUxl/nNr12UO8Yfwr6wPLb+6N
IwLz3/Y=
-----END CERTIFICATE-----`;

export const AWS_NITRO_ROOT_G1_SHA256 = '641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b';

let awsNitro: TrustAnchor | undefined;

/** The root that AWS publishes: the only anchor of production. */
export function awsNitroAnchor(): TrustAnchor {
  awsNitro ??= makeAnchor('aws-nitro', derOf(AWS_NITRO_ROOT_G1_PEM));
  return awsNitro;
}

/** A simulator's root, in PEM or DER: trusted where it is named explicitly, and nowhere else. */
export function simulationAnchor(certificate: string | Uint8Array): TrustAnchor {
  return makeAnchor('simulation', typeof certificate === 'string' ? derOf(certificate) : certificate.slice());
}

function makeAnchor(trust: Trust, der: Uint8Array): TrustAnchor {
  const isAwsRoot = createHash('sha256').update(der).digest('hex') === AWS_NITRO_ROOT_G1_SHA256;
  if (isAwsRoot !== (trust === 'aws-nitro')) {
    unusable(isAwsRoot ? 'the AWS root is not a simulation root' : 'the embedded AWS root was changed');
  }
  const parsed = readRoot(der);
  const publicKey = createPublicKey({ key: Buffer.from(parsed.spki), format: 'der', type: 'spki' });
  if (!verify('sha384', parsed.tbs, publicKey, parsed.signature)) unusable('its signature is not its own');
  return new TrustAnchor(madeHere, trust, der, parsed, publicKey);
}

function readRoot(der: Uint8Array): Certificate {
  let parsed: Certificate;
  try {
    parsed = readCertificate(der, 'trust anchor');
  } catch (cause) {
    unusable((cause as Error).message, cause);
  }
  const { basicConstraints, keyUsage } = parsed;
  if (!Buffer.from(parsed.issuer).equals(parsed.subject)) unusable('it is not its own issuer');
  if (basicConstraints?.critical !== true || !basicConstraints.ca) unusable('it is not an authority');
  if (keyUsage?.critical !== true || !keyUsage.keyCertSign) unusable('its key may not sign certificates');
  return parsed;
}

function derOf(pem: string): Uint8Array {
  const [, base64] =
    /^\s*-----BEGIN CERTIFICATE-----\s([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----\s*$/.exec(pem) ?? [];
  if (base64 === undefined) unusable('expected exactly one certificate in PEM');
  return new Uint8Array(Buffer.from(base64, 'base64'));
}

function unusable(why: string, cause?: unknown): never {
  throw new AttestationError(
    'ATTESTATION_ANCHOR_UNUSABLE',
    `The trust anchor cannot be used: ${why}.`,
    cause,
  );
}
