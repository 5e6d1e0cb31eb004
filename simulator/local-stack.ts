/**
 * Everything around an enclave on one machine (docs/simulation.md): a KMS process, a measured copy of the
 * image, and instances, each with its parent process and its enclave process. Enclave and parent are joined by
 * UNIX sockets alone; this process plays the hypervisor.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ImageMeasurements } from '../review/image/measure.ts';
import { kmsConfig, newCredentials, REGION, ROLES, type RoleCredentials, type RoleName } from './account.ts';
import { SimulatedInstance } from './hypervisor.ts';
import { layOutSimulatedImage, measureSimulatedImage } from './image.ts';
import type { SimulatedKmsConfig } from './kms/config.ts';
import { type KmsDenial, readDenials } from './kms/denials.ts';
import { LocalInstance, type OnLine } from './local-instance.ts';
import { createSimulatedCa, type SimulatedCa } from './nsm/ca.ts';
import { newInstanceId } from './nsm/identity.ts';
import { ended, firstLine, OUT_OF_REACH } from './processes.ts';
import { createRunFolder, type RunFolder, refuseClosedFolder } from './run-folder.ts';

/** Where the simulated KMS is and who signs its certificate. */
export interface KmsEndpoint {
  readonly host: string;
  readonly port: number;
  readonly caCertificatePem: string;
}

export interface StartInstanceOptions {
  /** The deployment document's exact bytes, as the parent will hand them over. */
  readonly deployment: Uint8Array;
  /** Holds one `NAME.sealed` folder for each model. */
  readonly modelsFolder: string;
  /** Where the parent takes models from in place of that folder, as its configuration spells it. */
  readonly modelsFrom?: object;
  /** The file that the parent hands on as deny list. */
  readonly denyList?: string;
  /** Another laid-out image than the stack's own. */
  readonly image?: string;
  /** Another role of the instance than the host's; it is measured, and changes no credentials. */
  readonly roleArn?: string;
  /** A debug-mode enclave attests to zero measurements. */
  readonly debug?: boolean;
  /** Told of each step of the enclave's boot, which goes on when the promise resolves. */
  readonly onStep?: (step: string) => Promise<void> | void;
  /** Told when the two processes run. */
  readonly onStarted?: (process: 'parent-started' | 'enclave-started') => void;
  readonly onLine?: OnLine;
  /** Where callers connect; any free port if absent. */
  readonly port?: number;
  /** Where the parent serves health and metrics (0: any free port); nowhere if absent. */
  readonly adminPort?: number;
}

const PARENT_COMMAND = ['scripts/strongroom.ts', 'run', '--config'] as const;
export class LocalStack implements AsyncDisposable {
  readonly folder: string;
  /** The laid-out copy that enclaves start from, and what it measures. */
  readonly image: string;
  readonly measurements: ImageMeasurements;
  /** The trust anchor of this simulation's attestation documents, PEM. */
  readonly attestationRoot: string;
  readonly kms: KmsEndpoint;
  readonly instanceId: string;
  readonly #projectFolder: string;
  readonly #runFolder: RunFolder;
  readonly #ca: SimulatedCa;
  readonly #credentials: Readonly<Record<RoleName, RoleCredentials>>;
  readonly #kmsProcess: ChildProcess;
  readonly #instances = new Set<LocalInstance>();
  #instanceCount = 0;
  #stopped: Promise<void> | undefined;

  private constructor(parts: StackParts) {
    this.folder = parts.runFolder.path;
    this.image = parts.image;
    this.measurements = parts.measurements;
    this.attestationRoot = parts.ca.rootPem;
    this.kms = parts.kms;
    this.instanceId = parts.instanceId;
    this.#projectFolder = parts.projectFolder;
    this.#runFolder = parts.runFolder;
    this.#ca = parts.ca;
    this.#credentials = parts.credentials;
    this.#kmsProcess = parts.kmsProcess;
  }

  /** Lays out and measures the image and starts the KMS. Nothing is left behind when a step fails. */
  static async start(options: {
    readonly projectFolder: string;
    readonly now: () => Date;
    /** Another stand-in for `enclave/main.ts` than the simulator's: another image. */
    readonly standIn?: string;
  }): Promise<LocalStack> {
    const { projectFolder, now } = options;
    refuseClosedFolder(tmpdir());
    const runFolder = createRunFolder({ now: now() });
    let kmsProcess: ChildProcess | undefined;
    try {
      const image = join(runFolder.path, 'image');
      await layOutSimulatedImage(projectFolder, image, options.standIn);
      const measurements = await measureSimulatedImage(image);
      const ca = await createSimulatedCa({ region: REGION, now: now() });
      const instanceId = newInstanceId();
      const credentials = newCredentials(now());
      const config = kmsConfig(credentials, instanceId, ca.rootPem, join(runFolder.path, 'cloudtrail.jsonl'));
      const started = await startKms(projectFolder, join(runFolder.path, 'kms.json'), config);
      kmsProcess = started.process;
      return new LocalStack({
        projectFolder,
        runFolder,
        image,
        measurements,
        ca,
        instanceId,
        credentials,
        kms: started.endpoint,
        kmsProcess,
      });
    } catch (error) {
      kmsProcess?.kill('SIGKILL');
      runFolder.remove();
      throw error;
    }
  }

  credentials(role: RoleName): RoleCredentials {
    return this.#credentials[role];
  }

  /** The KMS's records, one CloudTrail-shaped document a line. */
  get auditLog(): string {
    return join(this.folder, 'cloudtrail.jsonl');
  }

  /** What KMS refused so far, each with the reason that AWS would keep to itself. */
  denials(): readonly KmsDenial[] {
    return readDenials(this.auditLog);
  }

  get kmsPid(): number {
    return this.#kmsProcess.pid ?? 0;
  }

  /** A fresh simulated instance with all that its parent reads, but `parent.json`; nothing is started. */
  prepareInstance(options: StartInstanceOptions): {
    readonly instance: SimulatedInstance;
    readonly parentConfig: object;
  } {
    if (this.#stopped !== undefined) throw new Error('The local stack is closed.');
    const folder = join(this.folder, `instance-${++this.#instanceCount}`);
    const instance = new SimulatedInstance({
      folder,
      ca: this.#ca,
      roleArn: options.roleArn ?? ROLES.host,
      instanceId: this.instanceId,
      now: () => new Date(),
    });
    instance.provide('kms-root.pem', this.kms.caCertificatePem);
    instance.provide('credentials.json', JSON.stringify(this.#credentials.host));
    instance.provide('deployment.json', options.deployment);
    return { instance, parentConfig: this.#parentConfig(options) };
  }

  /** Starts a parent and an enclave on a fresh simulated instance. Resolves when both processes run. */
  async startInstance(options: StartInstanceOptions): Promise<LocalInstance> {
    const { instance, parentConfig } = this.prepareInstance(options);
    const local = new LocalInstance(instance, () => this.#instances.delete(local));
    this.#instances.add(local);
    const { onLine = () => {} } = options;
    try {
      const path = join(instance.folder, 'parent.json');
      instance.provide('parent.json', JSON.stringify(parentConfig));
      await local.startParent(this.#projectFolder, [...PARENT_COMMAND, path], onLine);
      options.onStarted?.('parent-started');
      await local.startEnclave({
        image: options.image ?? this.image,
        debug: options.debug ?? false,
        onStep: options.onStep ?? (() => {}),
        onLine,
      });
      options.onStarted?.('enclave-started');
      return local;
    } catch (error) {
      await local.close();
      throw error;
    }
  }

  #parentConfig({ modelsFolder, modelsFrom, denyList, port = 0, adminPort }: StartInstanceOptions): object {
    return {
      format: 'strongroom-parent/1',
      link: { kind: 'unix', dial: 'enclave', listen: 'parent' },
      ingress: { host: '127.0.0.1', port },
      egress: [{ host: this.kms.host, port: 443, override: { address: '127.0.0.1', port: this.kms.port } }],
      deployment: 'deployment.json',
      ...(denyList === undefined ? {} : { denyList }),
      ...(adminPort === undefined ? {} : { admin: { port: adminPort } }),
      models: modelsFrom ?? { kind: 'folder', path: modelsFolder },
      credentials: { kind: 'file', path: 'credentials.json' },
    };
  }

  /** Ends every process, also one that is just being started, and removes the folder. */
  async close(): Promise<void> {
    this.#stopped ??= this.#stop();
    await this.#stopped;
    this.#runFolder.remove();
  }

  async #stop(): Promise<void> {
    await Promise.all([...this.#instances].map((instance) => instance.close()));
    await ended(this.#kmsProcess, 'SIGTERM');
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

interface StackParts {
  readonly projectFolder: string;
  readonly runFolder: RunFolder;
  readonly image: string;
  readonly measurements: ImageMeasurements;
  readonly ca: SimulatedCa;
  readonly instanceId: string;
  readonly credentials: Readonly<Record<RoleName, RoleCredentials>>;
  readonly kms: KmsEndpoint;
  readonly kmsProcess: ChildProcess;
}

async function startKms(
  projectFolder: string,
  configPath: string,
  config: SimulatedKmsConfig,
): Promise<{ process: ChildProcess; endpoint: KmsEndpoint }> {
  writeFileSync(configPath, JSON.stringify(config), { mode: 0o600 });
  const child = spawn(process.execPath, [join(projectFolder, 'simulator/kms/main.ts'), configPath], {
    env: { PATH: '/nowhere' },
    stdio: ['pipe', 'pipe', 'inherit'],
    ...OUT_OF_REACH,
  });
  const { host, port, caCertificatePem } = await firstLine<KmsEndpoint>(child, (line) => line.ready === true);
  return { process: child, endpoint: { host, port, caCertificatePem } };
}
