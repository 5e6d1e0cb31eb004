/**
 * Plays the Nitro hypervisor for one simulated EC2 instance (docs/simulation.md section 4). For each enclave
 * it measures the copy of the root file system that the enclave is about to start from, makes an NSM with
 * those measurements, and starts the command of that copy, with the Node of that copy, in the copy's own
 * environment. The NSM belongs to the enclave: a process that is started again meets locked registers.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Writable } from 'node:stream';
import type { ImageMeasurements } from '../review/image/measure.ts';
import { pcrOfText } from '../shared/pcr.ts';
import { measureSimulatedImage } from './image.ts';
import type { SimulatedCa } from './nsm/ca.ts';
import { newInstanceId, newModuleId } from './nsm/identity.ts';
import { serveHypervisorSocket } from './nsm/socket-server.ts';
import { SoftwareNsm } from './nsm/software-nsm.ts';
import { groupGone } from './processes.ts';

export interface SimulatedInstanceOptions {
  /** A folder of this instance alone; it is made. Enclaves run in it and name their sockets relative to it. */
  readonly folder: string;
  readonly ca: SimulatedCa;
  /** The instance's role, measured into PCR3. Without one PCR3 is zero. */
  readonly roleArn?: string;
  readonly instanceId?: string;
  readonly now: () => Date;
}

export interface RunEnclaveOptions {
  /** The laid-out copy of a root file system (layOutSimulatedImage). */
  readonly image: string;
  readonly stdout: Writable;
  readonly stderr: Writable;
  /** Told of each step of the boot, which goes on when the promise resolves. */
  readonly onStep?: (step: string) => Promise<void>;
  /** A debug-mode enclave attests to zero measurements. */
  readonly debug?: boolean;
}

export interface EnclaveExit {
  /** Null when a signal ended the process. */
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface EnclaveProcess {
  readonly pid: number;
  /** Resolves once the process and all that it started are gone. Never rejects. */
  readonly exited: Promise<EnclaveExit>;
  /** Ends the process and all that it started, at once. */
  kill(): void;
}

export interface SimulatedEnclave {
  readonly moduleId: string;
  readonly measurements: ImageMeasurements;
  /** The process that was started last. */
  readonly process: EnclaveProcess;
  /** Starts the command once more in this same enclave, after its process has ended. */
  startAgain(): EnclaveProcess;
  /** Terminates the enclave and its NSM. */
  close(): Promise<void>;
}

const NSM_SOCKET = 'nsm.sock';

export class SimulatedInstance {
  readonly instanceId: string;
  /** Holds `nsm.sock` and the link's folders: `parent/`, where the parent listens, and `enclave/`. */
  readonly folder: string;
  readonly #options: SimulatedInstanceOptions;
  #enclave: SimulatedEnclave | undefined;
  #occupied = false;

  constructor(options: SimulatedInstanceOptions) {
    this.#options = options;
    this.instanceId = options.instanceId ?? newInstanceId();
    this.folder = options.folder;
    mkdirSync(this.folder, { mode: 0o700 });
    for (const side of ['parent', 'enclave']) mkdirSync(join(this.folder, side), { mode: 0o700 });
  }

  /** Puts a file where the enclave's process finds it by name: what a simulation hands its stand-in. */
  provide(name: string, content: string | Uint8Array): void {
    writeFileSync(join(this.folder, name), content, { mode: 0o600 });
  }

  /** Measures the image and starts an enclave of it; one at a time. */
  async runEnclave(options: RunEnclaveOptions): Promise<SimulatedEnclave> {
    if (this.#occupied) throw new Error('This instance runs an enclave already: close it first.');
    this.#occupied = true;
    try {
      this.#enclave = await this.#launch(options);
      return this.#enclave;
    } catch (error) {
      this.#occupied = false;
      throw error;
    }
  }

  /** Closes the enclave, if there is one, and removes the folder. */
  async close(): Promise<void> {
    await this.#enclave?.close();
    rmSync(this.folder, { recursive: true, force: true });
  }

  async #launch(options: RunEnclaveOptions): Promise<SimulatedEnclave> {
    const { ca, roleArn, now } = this.#options;
    const measurements = await measureSimulatedImage(options.image);
    const moduleId = newModuleId(this.instanceId, now());
    const nsm = await SoftwareNsm.create({
      ca,
      moduleId,
      now,
      debug: options.debug ?? false,
      pcrs: {
        0: measurements.pcr0,
        1: measurements.pcr1,
        2: measurements.pcr2,
        ...(roleArn === undefined ? {} : { 3: pcrOfText(roleArn) }),
      },
    });
    const server = await serveHypervisorSocket(join(this.folder, NSM_SOCKET), {
      nsm: (request) => nsm.handle(request),
      reached: options.onStep ?? (async () => {}),
    });
    let current = this.#startProcess(options);
    return {
      moduleId,
      measurements,
      get process() {
        return current;
      },
      startAgain: () => {
        current = this.#startProcess(options);
        return current;
      },
      close: async () => {
        current.kill();
        await current.exited;
        await server.close();
        rmSync(join(this.folder, NSM_SOCKET), { force: true });
        this.#enclave = undefined;
        this.#occupied = false;
      },
    };
  }

  #startProcess({ image, stdout, stderr }: RunEnclaveOptions): EnclaveProcess {
    const { command, args, environment } = commandOf(image);
    const child = spawn(command, args, {
      cwd: this.folder,
      env: environment,
      stdio: ['ignore', 'pipe', 'pipe'],
      // A process group of its own, so that the engine goes when the enclave goes.
      detached: true,
    });
    child.stdout?.pipe(stdout, { end: false });
    child.stderr?.pipe(stderr, { end: false });
    return processOf(child);
  }
}

function processOf(child: ChildProcess): EnclaveProcess {
  const exited = new Promise<EnclaveExit>((resolve) => {
    child.once('error', () => resolve({ code: null, signal: null }));
    // The enclave ends with its command, as it does when init's child ends; then the output is complete.
    child.once('exit', () => killGroup(child));
    child.once('close', (code, signal) => {
      groupGone(child.pid).then(() => resolve({ code, signal }));
    });
  });
  return { pid: child.pid ?? 0, exited, kill: () => killGroup(child) };
}

function killGroup({ pid }: ChildProcess): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // The whole group has ended.
  }
}

/** What init would start: the copy's `cmd` in the copy's `env`, as if the copy's root were the root. */
function commandOf(image: string): {
  command: string;
  args: readonly string[];
  environment: Record<string, string>;
} {
  const lines = (name: string) => readFileSync(join(image, name), 'utf8').split('\n').slice(0, -1);
  const inRoot = (argument: string) =>
    argument.startsWith('/') ? join(image, 'rootfs', argument) : argument;
  const [command = '', ...args] = lines('cmd').map(inRoot);
  const environment = Object.fromEntries(
    lines('env').map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
  );
  return { command, args, environment };
}
