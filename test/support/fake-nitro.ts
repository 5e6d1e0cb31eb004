/**
 * A program that answers as nitro-cli is documented to: arguments, JSON on standard output, messages on standard
 * error, exit status by error code. What an enclave is, the test says. It is a real program, so that the process
 * boundary is tried as well; its mind is in the test, so that it outlives a parent that is killed.
 */
import { chmodSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

export interface FakeAnswer {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface FakeEnclave {
  readonly ended: Promise<unknown>;
  end(): unknown;
}

export interface FakeRunOptions {
  readonly name: string;
  readonly image: string;
  readonly cpuCount: number;
  readonly memoryMib: number;
  readonly cid: number;
}

interface Running extends FakeRunOptions {
  readonly id: string;
  readonly enclave: FakeEnclave;
}

type Behaviour = FakeAnswer | 'hang';

export class FakeNitro implements AsyncDisposable {
  readonly folder = mkdtempSync(join(tmpdir(), 'sr-nitro-'));
  readonly program = join(this.folder, 'nitro-cli');
  /** Every call so far. */
  readonly calls: (readonly string[])[] = [];
  readonly running = new Map<string, Running>();
  /** What describe-enclaves says of measurements and flags. */
  pcr0 = 'ab'.repeat(48);
  flags = 'NONE';
  readonly #launch: (options: FakeRunOptions) => Promise<FakeEnclave>;
  readonly #next = new Map<string, Behaviour[]>();
  readonly #sockets = new Set<Socket>();
  readonly #server: Server;
  #count = 0;

  private constructor(launch: (options: FakeRunOptions) => Promise<FakeEnclave>) {
    this.#launch = launch;
    this.#server = createServer({ allowHalfOpen: true }, (socket) => void this.#serve(socket));
  }

  static async start(
    launch: (options: FakeRunOptions) => Promise<FakeEnclave> = async () => standInEnclave(),
  ): Promise<FakeNitro> {
    const fake = new FakeNitro(launch);
    const socket = join(fake.folder, 's');
    await new Promise<void>((resolve) => fake.#server.listen(socket, resolve));
    const client = join(import.meta.dirname, 'fake-nitro-client.mjs');
    writeFileSync(fake.program, `#!/bin/sh\nexec '${process.execPath}' '${client}' '${socket}' "$@"\n`);
    chmodSync(fake.program, 0o755);
    return fake;
  }

  /** What the next calls of this command do, one after the other, in place of the usual. */
  next(command: string, ...behaviours: readonly Behaviour[]): void {
    this.#next.set(command, [...(this.#next.get(command) ?? []), ...behaviours]);
  }

  count(command: string): number {
    return this.calls.filter(([first]) => first === command).length;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
    for (const { enclave } of this.running.values()) await enclave.end();
    rmSync(this.folder, { recursive: true, force: true });
  }

  async #serve(socket: Socket): Promise<void> {
    this.#sockets.add(socket);
    socket.on('error', () => {});
    socket.once('close', () => this.#sockets.delete(socket));
    let text = '';
    for await (const chunk of socket) text += chunk;
    const args = JSON.parse(text) as string[];
    this.calls.push(args);
    const command = args[0] ?? '';
    const planned = this.#next.get(command)?.shift();
    if (planned === 'hang') return;
    socket.end(JSON.stringify(planned ?? (await this.#answer(command, args.slice(1)))));
  }

  async #answer(command: string, rest: readonly string[]): Promise<FakeAnswer> {
    switch (command) {
      case 'run-enclave':
        return this.#run(rest);
      case 'describe-enclaves':
        return said([...this.running.values()].map((running) => this.#described(running)));
      case 'terminate-enclave':
        return this.#terminate(rest);
      default:
        return failure('E14', 'Invalid command.');
    }
  }

  async #run(rest: readonly string[]): Promise<FakeAnswer> {
    const option = { type: 'string' } as const;
    const { values } = parseArgs({
      args: [...rest],
      options: {
        'enclave-name': option,
        'cpu-count': option,
        memory: option,
        'eif-path': option,
        'enclave-cid': option,
      },
    });
    if (values.memory === undefined) return failure('E01', 'Missing mandatory argument.');
    const image = String(values['eif-path']);
    const memoryMib = Number(values.memory);
    const size = statSync(image, { throwIfNoEntry: false })?.size;
    if (size === undefined)
      return failure('E19', `File operation failure.\nFile: '${image}', failing operation: 'Open'.`);
    if (size * 4 > memoryMib * 1024 * 1024) return failure('E26', 'Insufficient memory requested.');
    const wanted = values['enclave-name'] ?? 'unnamed';
    const names = [...this.running.values()].map(({ name }) => name);
    const name = names.includes(wanted) ? `${wanted}_1` : wanted;
    const options = {
      name,
      image,
      cpuCount: Number(values['cpu-count']),
      memoryMib,
      cid: Number(values['enclave-cid'] ?? 16 + this.#count),
    };
    const enclave = await this.#launch(options).catch(() => undefined);
    if (enclave === undefined) return failure('E36', 'Enclave boot failure.');
    this.#count += 1;
    const id = `i-0123456789abcdef0-enc${String(this.#count).padStart(16, '0')}`;
    const running = { ...options, id, enclave };
    this.running.set(id, running);
    void enclave.ended.then(() => this.running.delete(id));
    const started = `Start allocating memory...\nStarted enclave with enclave-cid: ${options.cid}, memory: ${memoryMib} MiB, cpu-ids: [1, 3]\n`;
    return { ...said(this.#information(running)), stderr: started };
  }

  #information({ name, id, cid, cpuCount, memoryMib }: Running): object {
    return {
      EnclaveName: name,
      EnclaveID: id,
      ProcessID: 12_345,
      EnclaveCID: cid,
      NumberOfCPUs: cpuCount,
      CPUIDs: [1, 3],
      MemoryMiB: memoryMib,
    };
  }

  #described(running: Running): object {
    return {
      ...this.#information(running),
      State: 'RUNNING',
      Flags: this.flags,
      Measurements: { HashAlgorithm: 'Sha384 { ... }', PCR0: this.pcr0, PCR1: this.pcr0, PCR2: this.pcr0 },
    };
  }

  async #terminate(rest: readonly string[]): Promise<FakeAnswer> {
    const { values } = parseArgs({ args: [...rest], options: { 'enclave-id': { type: 'string' } } });
    const id = values['enclave-id'] ?? '';
    const found = this.running.get(id);
    if (found === undefined) return failure('E11', 'Socket error.');
    await found.enclave.end();
    this.running.delete(id);
    return {
      ...said({ EnclaveID: id, Terminated: true }),
      stderr: `Successfully terminated enclave ${id}.\n`,
    };
  }
}

export function said(value: unknown): FakeAnswer {
  return { status: 0, stdout: `${JSON.stringify(value, undefined, 2)}\n`, stderr: '' };
}

/** As nitro-cli fails (src/common/mod.rs, construct_error_message). */
export function failure(code: string, words: string): FakeAnswer {
  const link = `https://docs.aws.amazon.com/enclaves/latest/user/cli-errors.html#${code}`;
  return {
    status: Number(code.slice(1)),
    stdout: '',
    stderr: `[ ${code} ] ${words}\n\nFor more details, please visit ${link}\n`,
  };
}

/** An enclave that does nothing until it is ended. */
function standInEnclave(): FakeEnclave {
  const { promise: ended, resolve } = Promise.withResolvers<void>();
  return { ended, end: () => resolve() };
}
