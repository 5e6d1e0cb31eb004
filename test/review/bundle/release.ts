/** A whole release as a reviewer has it, with an attestation document of the software NSM under a CA of its own. */
import { createHash, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { nsmClient } from '../../../enclave/nsm/client.ts';
import type { BundleParts } from '../../../review/bundle/make.ts';
import { generateKeyPolicy } from '../../../review/policy/generate.ts';
import { formatRelease, releaseDeployment } from '../../../review/releases.ts';
import { simulationAnchor, type TrustAnchor } from '../../../shared/attestation/anchors.ts';
import { pcrOfMeasuredBytes, pcrOfText } from '../../../shared/pcr.ts';
import { signManifest } from '../../../shared/sealed-model/manifest-sign.ts';
import { createSimulatedCa } from '../../../simulator/nsm/ca.ts';
import { newInstanceId, newModuleId } from '../../../simulator/nsm/identity.ts';
import { SoftwareNsm } from '../../../simulator/nsm/software-nsm.ts';

export const HOST = 'arn:aws:iam::111122223333:role/EnclaveHost';
export const KEY_ARN = 'arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab';
/** When the enclave attested. */
export const ATTESTED = new Date('2026-01-03T20:40:28.841Z');

export interface Release extends BundleParts {
  readonly hostRoleArn: string;
  readonly release: Uint8Array;
  readonly anchor: TrustAnchor;
  readonly rootPem: string;
  readonly signer: { readonly privateKey: KeyObject; readonly publicKey: KeyObject };
}

const measured = (label: string) => createHash('sha384').update(label).digest();
const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
const json = (value: unknown) => Buffer.from(`${JSON.stringify(value, undefined, 2)}\n`);

export interface ReleaseChoices {
  /** What the registers are made of, unless they are given. */
  readonly image?: string;
  readonly pcrs?: { readonly 0: Uint8Array; readonly 1: Uint8Array; readonly 2: Uint8Array };
  readonly host?: string;
  readonly debug?: boolean;
  readonly modelVersion?: number;
}

/** Same choices, same registers; keys and documents are fresh. */
export async function newRelease(choices: ReleaseChoices = {}): Promise<Release> {
  const { image = 'image', host = HOST, debug = false, modelVersion = 3 } = choices;
  const signer = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const { pcrs = { 0: measured(image), 1: measured(`${image} boot`), 2: measured(`${image} application`) } } =
    choices;
  const deployment = json({
    format: 'strongroom-deployment/1',
    models: [
      { name: 'iris', minimumVersion: 3, signer: signer.publicKey.export({ type: 'spki', format: 'pem' }) },
    ],
    kmsKeys: [KEY_ARN],
    clients: 'anyone',
  });
  const ca = await createSimulatedCa({ region: 'eu-central-1', now: ATTESTED });
  const registers = { 0: hex(pcrs[0]), 1: hex(pcrs[1]), 2: hex(pcrs[2]) };
  return {
    image: json({
      Measurements: {
        HashAlgorithm: 'Sha384 { ... }',
        PCR0: registers[0],
        PCR1: registers[1],
        PCR2: registers[2],
      },
    }),
    deployment,
    policy: Buffer.from(
      generateKeyPolicy({
        accountId: '111122223333',
        hostRoleArn: host,
        administratorArns: ['arn:aws:iam::111122223333:role/KeyAdmin'],
        sealerArns: ['arn:aws:iam::111122223333:role/ModelOwner'],
        releases: [{ pcr0: registers[0], pcr16: hex(pcrOfMeasuredBytes(deployment)), modelName: 'iris' }],
      }),
    ),
    attestation: await attest(ca, { ...pcrs, 3: pcrOfText(host) }, deployment, debug),
    release: Buffer.from(
      formatRelease({
        name: 'strongroom',
        version: '1.4.0',
        pcrs: registers,
        deployments: [releaseDeployment(deployment)],
      }),
    ),
    modelManifests: [
      signManifest(
        {
          name: 'iris',
          version: modelVersion,
          format: 'onnx',
          contentId: 'ab'.repeat(32),
          files: [{ path: 'model.onnx', sizeBytes: 4, sha256: 'cd'.repeat(32) }],
        },
        signer.privateKey,
      ),
    ],
    hostRoleArn: host,
    keyArn: KEY_ARN,
    anchor: simulationAnchor(ca.rootPem),
    rootPem: ca.rootPem,
    signer,
  };
}

async function attest(
  ca: Awaited<ReturnType<typeof createSimulatedCa>>,
  pcrs: { 0: Uint8Array; 1: Uint8Array; 2: Uint8Array; 3: Uint8Array },
  deployment: Uint8Array,
  debug: boolean,
): Promise<Uint8Array> {
  const moduleId = newModuleId(newInstanceId(), ATTESTED);
  const nsm = await SoftwareNsm.create({ ca, moduleId, pcrs, debug, now: () => ATTESTED });
  const client = nsmClient((request) => nsm.handle(request));
  await client.extendPcr(16, createHash('sha384').update(deployment).digest());
  await client.lockPcrs(32);
  return client.attest({ userData: null, nonce: null, publicKey: null });
}
