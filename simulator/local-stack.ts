/**
 * Everything around an enclave on one machine (docs/simulation.md): a KMS process, a measured copy of the
 * image, and instances, each with its parent process and its enclave process. Enclave and parent are joined by
 * UNIX sockets alone; this process plays the hypervisor.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { type Readable, Transform } from 'node:stream';
import { fileURLToPath } from 'node:url';
import type { ImageMeasurements } from '../review/image/measure.ts';
import { LocalStackError } from './errors.ts';
import { type EnclaveExit, type SimulatedEnclave, SimulatedInstance } from './hypervisor.ts';
import { layOutSimulatedImage, measureSimulatedImage } from './image.ts';
import type { SimulatedKmsConfig } from './kms/config.ts';
import { type KmsDenial, readDenials } from './kms/denials.ts';
import { createSimulatedCa, type SimulatedCa } from './nsm/ca.ts';
import { newInstanceId } from './nsm/identity.ts';
import { createRunFolder, type RunFolder } from './run-folder.ts';

export const REGION = 'eu-central-1';
export const ACCOUNT_ID = '111122223333';

/** The principals of the simulated account, and what each is for. */
export const ROLES = {
  administrator: `arn:aws:iam::${ACCOUNT_ID}:role/KeyAdministrator`,
  owner: `arn:aws:iam::${ACCOUNT_ID}:role/ModelOwner`,
  host: `arn:aws:iam::${ACCOUNT_ID}:role/EnclaveHost`,
} as const;
export type RoleName = keyof typeof ROLES;

export interface RoleCredentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken: string;
  readonly expiration: Date;
}

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
  /** Told of each line that the parent logs and that the enclave writes to its console. */
  readonly onLine?: (from: 'parent' | 'enclave', line: string) => void;
  /** Where callers connect; any free port if absent. */
  readonly port?: number;
}

const CREDENTIALS_LIFE_MS = 6 * 60 * 60 * 1000;
const PARENT_COMMAND = ['scripts/strongroom.ts', 'run', '--config'] as const;
/** Ctrl-C in a terminal goes to its whole process group; our processes are ended in order by this one. */
const OUT_OF_REACH = { detached: true } as const;
const LIFELINE = fileURLToPath(new URL('./lifeline.ts', import.meta.url));

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

  /** Starts a parent and an enclave on a fresh simulated instance. Resolves when both processes run. */
  async startInstance(options: StartInstanceOptions): Promise<LocalInstance> {
    if (this.#stopped !== undefined) throw new Error('The local stack is closed.');
    const folder = join(this.folder, `instance-${++this.#instanceCount}`);
    const instance = new SimulatedInstance({
      folder,
      ca: this.#ca,
      roleArn: options.roleArn ?? ROLES.host,
      instanceId: this.instanceId,
      now: () => new Date(),
    });
    const local = new LocalInstance(instance, () => this.#instances.delete(local));
    this.#instances.add(local);
    const { onLine = () => {} } = options;
    try {
      instance.provide('kms-root.pem', this.kms.caCertificatePem);
      const parentConfig = join(folder, 'parent.json');
      writeFileSync(join(folder, 'credentials.json'), JSON.stringify(this.#credentials.host), {
        mode: 0o600,
      });
      writeFileSync(join(folder, 'deployment.json'), options.deployment);
      writeFileSync(parentConfig, JSON.stringify(this.#parentConfig(options)));
      await local.startParent(this.#projectFolder, [...PARENT_COMMAND, parentConfig], onLine);
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

  #parentConfig({ modelsFolder, port = 0 }: StartInstanceOptions): object {
    return {
      format: 'strongroom-parent/1',
      link: { kind: 'unix', dial: 'enclave', listen: 'parent' },
      ingress: { host: '127.0.0.1', port },
      egress: [{ host: this.kms.host, port: 443, override: { address: '127.0.0.1', port: this.kms.port } }],
      deployment: 'deployment.json',
      models: modelsFolder,
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

interface StartEnclaveOptions {
  readonly image: string;
  readonly debug: boolean;
  readonly onStep: (step: string) => Promise<void> | void;
  readonly onLine: OnLine;
}

type OnLine = NonNullable<StartInstanceOptions['onLine']>;

/** One simulated EC2 instance: its parent process and its enclave process. */
export class LocalInstance implements AsyncDisposable {
  readonly folder: string;
  readonly #instance: SimulatedInstance;
  readonly #onClosed: () => void;
  readonly #serving = Promise.withResolvers<void>();
  readonly #ended = Promise.withResolvers<'parent' | 'enclave'>();
  readonly #errors: string[] = [];
  #parent: ChildProcess | undefined;
  #starting: Promise<SimulatedEnclave> | undefined;
  #enclave: SimulatedEnclave | undefined;
  #port = 0;
  #closed: Promise<void> | undefined;

  constructor(instance: SimulatedInstance, onClosed: () => void) {
    this.#instance = instance;
    this.#onClosed = onClosed;
    this.folder = instance.folder;
    this.#serving.promise.catch(() => {});
  }

  /** Where callers connect: the parent's relay. */
  get url(): string {
    return `https://127.0.0.1:${this.#port}`;
  }

  get enclave(): SimulatedEnclave {
    if (this.#enclave === undefined) throw new Error('the enclave has not been started');
    return this.#enclave;
  }

  get parentPid(): number {
    return this.#parent?.pid ?? 0;
  }

  /** What the enclave wrote to its console, and the parent to its standard error. */
  get console(): string {
    return this.#errors.join('');
  }

  /** Resolves to the first of the two processes that ends. */
  get ended(): Promise<'parent' | 'enclave'> {
    return this.#ended.promise;
  }

  /** Resolves once the enclave serves. Rejects with LocalStackError `SIMULATED_ENCLAVE_STOPPED` when it stops. */
  get serving(): Promise<void> {
    return this.#serving.promise;
  }

  async startParent(projectFolder: string, command: readonly string[], onLine: OnLine): Promise<void> {
    const [entry = '', ...rest] = command;
    const child = spawn(process.execPath, ['--import', LIFELINE, join(projectFolder, entry), ...rest], {
      cwd: this.folder,
      env: { PATH: '/nowhere' },
      stdio: ['pipe', 'pipe', 'pipe'],
      ...OUT_OF_REACH,
    });
    this.#parent = child;
    child.once('exit', () => this.#ended.resolve('parent'));
    child.stderr?.on('data', (text: Buffer) => this.#errors.push(text.toString()));
    for (const stream of [child.stdout, child.stderr]) {
      createInterface({ input: stream as Readable }).on('line', (line) => onLine('parent', line));
    }
    const ready = await firstLine<{ port: number }>(child, (line) => line.event === 'ready');
    this.#port = ready.port;
  }

  async startEnclave({ image, debug, onStep, onLine }: StartEnclaveOptions): Promise<void> {
    if (this.#closed !== undefined) throw new Error('The instance is closed.');
    const stderr = collector(this.#errors);
    createInterface({ input: stderr }).on('line', (line) => onLine('enclave', line));
    this.#starting = this.#instance.runEnclave({
      image,
      debug,
      stdout: stderr,
      stderr,
      onStep: async (step) => {
        await onStep(step);
        if (step === 'serving') this.#serving.resolve();
      },
    });
    this.#enclave = await this.#starting;
    this.#enclave.process.exited.then((exit) => {
      this.#serving.reject(stopped(exit, this.#errors));
      this.#ended.resolve('enclave');
    });
  }

  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    const enclave = await this.#starting?.catch(() => undefined);
    await enclave?.close();
    if (this.#parent !== undefined) await ended(this.#parent, 'SIGTERM');
    await this.#instance.close();
    this.#onClosed();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** The stand-in writes the error that ended its boot as one line of JSON; it is the reason to tell. */
function stopped({ code, signal }: EnclaveExit, errors: readonly string[]): LocalStackError {
  for (const line of errors.join('').split('\n').toReversed()) {
    try {
      const found = JSON.parse(line) as { code?: unknown; message?: unknown };
      if (typeof found.code === 'string') {
        return new LocalStackError('SIMULATED_ENCLAVE_STOPPED', String(found.message), found.code);
      }
    } catch {
      // Not the line that we look for.
    }
  }
  const how = signal === null ? `exit code ${code}` : `signal ${signal}`;
  return new LocalStackError('SIMULATED_ENCLAVE_STOPPED', `${how}: ${errors.join('').trim()}`, undefined);
}

function newCredentials(now: Date): Record<RoleName, RoleCredentials> {
  const fresh = (): RoleCredentials => ({
    accessKeyId: `ASIA${randomBytes(8).toString('hex').toUpperCase()}`,
    secretAccessKey: randomBytes(30).toString('base64'),
    sessionToken: randomBytes(64).toString('base64'),
    expiration: new Date(now.getTime() + CREDENTIALS_LIFE_MS),
  });
  return { administrator: fresh(), owner: fresh(), host: fresh() };
}

function kmsConfig(
  credentials: Readonly<Record<RoleName, RoleCredentials>>,
  instanceId: string,
  attestationRoot: string,
  auditLog: string,
): SimulatedKmsConfig {
  const createKey = {
    Version: '2012-10-17',
    Statement: [{ Effect: 'Allow', Action: 'kms:CreateKey', Resource: '*' }],
  };
  return {
    region: REGION,
    accountId: ACCOUNT_ID,
    principals: (Object.keys(ROLES) as RoleName[]).map((role) => ({
      arn: ROLES[role],
      ...credentials[role],
      expiration: credentials[role].expiration.toISOString(),
      ...(role === 'host' ? { sessionName: instanceId } : {}),
      ...(role === 'administrator' ? { iamPolicies: [JSON.stringify(createKey)] } : {}),
    })),
    attestationAnchors: [attestationRoot],
    auditLog,
  };
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

/** The first line of JSON on standard output that `wanted` accepts; rejects when the process ends before. */
function firstLine<T>(child: ChildProcess, wanted: (line: Record<string, unknown>) => boolean): Promise<T> {
  return new Promise((resolve, reject) => {
    const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream });
    lines.on('line', (text) => {
      const line = JSON.parse(text) as Record<string, unknown>;
      if (wanted(line)) resolve(line as T);
    });
    child.once('error', reject);
    child.once('exit', (code) =>
      reject(
        new LocalStackError(
          'SIMULATION_PROCESS_ENDED',
          `${child.spawnargs.join(' ')} ended with code ${code}.`,
        ),
      ),
    );
  });
}

async function ended(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  child.kill(signal);
  const impatience = setTimeout(() => child.kill('SIGKILL'), 3_000);
  await exited;
  clearTimeout(impatience);
}

/** Keeps what is written, and passes it on. */
function collector(texts: string[]): Transform {
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      texts.push(chunk.toString());
      done(null, chunk);
    },
  });
}
