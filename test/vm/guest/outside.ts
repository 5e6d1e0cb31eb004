/**
 * Everything outside an enclave that was booted from an image, in the same machine: the NSM behind /dev/nsm with
 * the measurements of that image, a simulated KMS, an owner who has sealed a model for it, and the parent.
 */
import { createPublicKey } from 'node:crypto';
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { generateOwnerKeyPair } from '../../../owner/keygen.ts';
import { PARENT_CONFIG_FORMAT } from '../../../parent/config/config.ts';
import { createKey, pinRelease, sealAsOwner, writeDeployment } from '../../../scripts/local/release.ts';
import { pcrOfText } from '../../../shared/pcr.ts';
import { REGION, ROLES, type RoleName } from '../../../simulator/account.ts';
import type { LocalStack } from '../../../simulator/local-stack.ts';
import { newInstanceId } from '../../../simulator/nsm/identity.ts';
import { Helper } from './helper.ts';
import { startKms } from './kms.ts';
import { deviceAppears } from './nsm.ts';
import type { DeviceReady } from './nsm-fault.ts';

const FOLDER = '/tmp/run';
export const MODEL = { name: 'iris', version: 7 } as const;

/** Registers that `image measure` computed from the file that was booted, hexadecimal. */
export interface MeasuredPcrs {
  readonly 0: string;
  readonly 1: string;
  readonly 2: string;
}

/** What an owner brings along, because it takes long in an emulated machine. */
export interface OwnersModel {
  /** An RSA key, PEM. */
  readonly recoveryKey: string;
  readonly onnx: string;
  /** One input, and the probabilities that the model gives for it. */
  readonly measurements: readonly number[];
  readonly probabilities: readonly number[];
}

export type Outside = Awaited<ReturnType<typeof startOutside>>;

/** Ends with this process. */
export async function startOutside(pcrs: MeasuredPcrs, model: OwnersModel) {
  mkdirSync(FOLDER, { mode: 0o711 });
  const instanceId = newInstanceId();
  const pcr3 = Buffer.from(pcrOfText(ROLES.host)).toString('hex');
  const device = await Helper.start('nsm-device.ts', {
    region: REGION,
    instanceId,
    pcrs: { ...pcrs, 3: pcr3 },
  });
  const { rootPem } = device.ready as DeviceReady;
  await deviceAppears();
  // As the kernel's driver makes it (drivers/misc/nsm.c).
  chmodSync('/dev/nsm', 0o666);

  const { endpoint, credentials } = await startKms(FOLDER, instanceId, rootPem);
  const stack = {
    folder: FOLDER,
    kms: endpoint,
    measurements: { pcr0: Buffer.from(pcrs[0], 'hex') },
    credentials: (role: RoleName) => credentials[role],
  } as unknown as LocalStack; // as much of one as a release needs
  const publicKey = createPublicKey(model.recoveryKey);
  // The recovery key's private half stays with the owner.
  const owner = {
    signing: await generateOwnerKeyPair('signing'),
    recovery: { publicKey } as Awaited<ReturnType<typeof generateOwnerKeyPair>>,
  };
  const keyArn = await createKey(stack);
  const written = writeDeployment({ keyArn, signer: owner.signing.publicKey, modelName: MODEL.name });
  const deployment = Buffer.from(JSON.stringify({ ...JSON.parse(written.toString()), telemetry: ['boot'] }));
  await pinRelease(stack, keyArn, deployment, MODEL.name);
  const modelsFolder = join(FOLDER, 'models');
  const onnx = Buffer.from(model.onnx, 'base64');
  const sealed = await sealAsOwner(stack, { owner, keyArn, modelsFolder, onnx, ...MODEL });

  writeFileSync(join(FOLDER, 'credentials.json'), JSON.stringify(credentials.host), { mode: 0o600 });
  writeFileSync(join(FOLDER, 'deployment.json'), deployment);
  const configPath = join(FOLDER, 'parent.json');
  const config = {
    format: PARENT_CONFIG_FORMAT,
    // On Nitro; this parent is given its own link, because 1 is refused for an enclave.
    link: { kind: 'vsock', enclaveCid: 4 },
    ingress: { host: '127.0.0.1', port: 0 },
    egress: [{ host: endpoint.host, port: 443, override: { address: '127.0.0.1', port: endpoint.port } }],
    deployment: 'deployment.json',
    models: { kind: 'folder', path: modelsFolder },
    credentials: { kind: 'file', path: 'credentials.json' },
  };
  writeFileSync(configPath, JSON.stringify(config));
  const kmsRoot = endpoint.caCertificatePem;
  const { helper: parent, ready } = await Helper.start('parent.ts', { configPath, kmsRoot });
  return {
    pcrs: { ...pcrs, 3: pcr3 },
    rootPem,
    model,
    deployment,
    contentId: sealed.manifest.contentId,
    kmsDestination: `${endpoint.host}:443`,
    parentPort: (ready as { port: number }).port,
    events: new ParentEvents(parent),
    /** `eventName` of what KMS has recorded since it started. */
    kmsRecords: (): string[] =>
      readFileSync(join(FOLDER, 'cloudtrail.jsonl'), 'utf8')
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => (JSON.parse(line) as { eventName: string }).eventName),
  };
}

export interface ParentEvent {
  readonly event: string;
  readonly [field: string]: string | number;
}

/** What the parent logs, as it comes. */
class ParentEvents {
  readonly seen: ParentEvent[] = [];
  #waiting: (() => void)[] = [];

  constructor(parent: Helper) {
    void this.#collect(parent);
  }

  /** Resolves with the first one that is `wanted`, also if it was there before. */
  async until(wanted: (event: ParentEvent) => boolean): Promise<ParentEvent> {
    for (;;) {
      const found = this.seen.find(wanted);
      if (found !== undefined) return found;
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
  }

  /** The steps of the boot that the enclave has reported. */
  steps(): string[] {
    return this.seen.filter(({ event }) => event === 'enclave-boot').map(({ step }) => String(step));
  }

  async #collect(parent: Helper): Promise<never> {
    for (;;) {
      this.seen.push((await parent.next()) as ParentEvent);
      for (const resolve of this.#waiting.splice(0)) resolve();
    }
  }
}
