/**
 * The whole story with every process of it searched for every secret of it: at each step of the boot, which waits
 * meanwhile, in the middle of opening, while the engine computes an answer, and afterwards.
 */
import { createHmac, createPrivateKey, hkdfSync, type KeyObject } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect } from '../../../client/connect.ts';
import { openRecoveryWrap } from '../../../owner/recovery.ts';
import { pcrsOf, prepareRelease, type Release } from '../../../scripts/local/release.ts';
import { type Head, parseHead } from '../../../shared/sealed-model/head.ts';
import { keyInfo } from '../../../shared/sealed-model/keys.ts';
import { type LocalInstance, LocalStack } from '../../../simulator/local-stack.ts';
import { type Canary, CanarySearch, keyCanaries, textCanary } from '../../support/canaries.ts';
import { processTree, type Sighting, searchFolders, searchProcess } from '../../support/memory-scan.ts';
import { MASKED_KEYS_FILE, mask } from './masked-keys.ts';
import { answerCanaries, canaryModel, canaryQuestion } from './model.ts';
import { slowHost } from './slow-host.ts';

const PROJECT = join(import.meta.dirname, '..', '..', '..');
const MODEL = 'canary';
/** Chunks of 1 MiB: so many arrive, the others wait. */
const DELIVERED_BYTES = 4 << 20;
const PATIENCE_MS = 20_000;
/** The tmpfs of opened weights; what is nameless in it is found among the open files. */
const MEMORY_FOLDER = '/dev/shm';

export type Holder = 'enclave' | 'engine' | 'parent' | 'files' | 'consoles';

/** One secret, seen in one place at one moment. */
export interface Found extends Sighting {
  readonly moment: string;
  readonly holder: Holder;
}

export interface Searched {
  readonly found: readonly Found[];
  /** Every moment at which was searched, in order, with what was running. */
  readonly moments: ReadonlyMap<string, readonly Holder[]>;
  readonly answerStatus: number;
  /** Processes and folders that outlive the stack. */
  readonly leftBehind: readonly string[];
}

export async function searchTheStory(): Promise<Searched> {
  const model = canaryModel();
  const question = canaryQuestion();
  const stack = await LocalStack.start({
    projectFolder: PROJECT,
    now: () => new Date(),
    standIn: 'test/attacks/canary/enclave.ts',
  });
  try {
    const release = await prepareRelease(stack, { name: MODEL, version: 1, onnx: model.onnx });
    const watch = new Watch(stack, [
      ...model.canaries,
      ...question.canaries,
      ...dataKeyCanaries(release),
      ...publicCanaries(stack, release),
    ]);
    const instance = await startWatched(stack, release, watch);
    const answerStatus = await askWatched(stack, release, instance, question.body, watch);
    const pids = [...watch.processes().map(({ pid }) => pid), stack.kmsPid];
    await instance.close();
    watch.files('closed', []);
    await stack.close();
    await allEnded(pids);
    const leftBehind = [
      ...pids.filter(isRunning).map((pid) => `process ${pid}`),
      ...[stack.folder].filter(existsSync),
    ];
    return { found: watch.found, moments: watch.moments, answerStatus, leftBehind };
  } finally {
    await stack.close();
  }
}

/** Holds the boot at every step, and between two of them where secrets are at work, and searches. */
async function startWatched(stack: LocalStack, release: Release, watch: Watch): Promise<LocalInstance> {
  let host: { close(): void } | undefined;
  const opening = Promise.withResolvers<void>();
  const starting = stack.startInstance({
    deployment: release.deployment,
    modelsFolder: release.modelsFolder,
    onLine: (_from, line) => void watch.printed.push(line),
    onStarted: (started) => {
      if (started !== 'parent-started') return;
      host = slowHost(watch.instanceFolder, async (request) => {
        // The tunnel to KMS is asked for when the RSA key has been attested.
        if (request.startsWith('CONNECT ')) watch.everything('attesting');
        const [, start = '0'] = /^range: bytes=(\d+)-/im.exec(request) ?? [];
        if (Number(start) >= DELIVERED_BYTES) await opening.promise;
      });
    },
    onStep: async (step) => {
      watch.instance = await starting;
      watch.everything(step);
      if (step === 'data-key-released') void watchOpening(watch).then(opening.resolve, opening.reject);
    },
  });
  try {
    const instance = await starting;
    await Promise.all([instance.serving, opening.promise]);
    return instance;
  } finally {
    host?.close();
  }
}

/** Ends when the chunks that were delivered have been opened and searched for; the others wait meanwhile. */
async function watchOpening(watch: Watch): Promise<void> {
  const deadline = performance.now() + PATIENCE_MS;
  do await sleep(20);
  while (!watch.sees('enclave', 'weights') && performance.now() < deadline);
  watch.everything('opening');
}

async function askWatched(
  stack: LocalStack,
  { deployment }: Release,
  instance: LocalInstance,
  body: string,
  watch: Watch,
): Promise<number> {
  const enclave = await connect(instance.url, {
    pcrs: pcrsOf(stack, deployment),
    simulationRoot: stack.attestationRoot,
  });
  try {
    const answered = enclave.fetch(`/v2/models/${MODEL}/infer`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body,
    });
    await holdWhileComputing(watch);
    const response = await answered;
    const text = await response.text();
    watch.everything('answered');
    if (response.ok) {
      const { outputs } = JSON.parse(text) as { outputs: { name: string; data: number[] }[] };
      watch.add(answerCanaries(outputs));
      watch.everything('answer known');
    }
    return response.status;
  } finally {
    await enclave.close();
  }
}

/** Lets the engine run in short bursts until the question stands in its memory, and looks while it stands still. */
async function holdWhileComputing(watch: Watch): Promise<void> {
  const engine = watch.processes().find(({ holder }) => holder === 'engine')?.pid as number;
  const deadline = performance.now() + PATIENCE_MS;
  try {
    do {
      process.kill(engine, 'SIGCONT');
      await sleep(5);
      process.kill(engine, 'SIGSTOP');
    } while (!watch.sees('engine', 'prompt') && performance.now() < deadline);
    watch.everything('computing');
  } finally {
    process.kill(engine, 'SIGCONT');
  }
}

/** An engine is killed with its enclave, which no longer waits for it: the system may take a moment. */
async function allEnded(pids: readonly number[]): Promise<void> {
  const deadline = performance.now() + PATIENCE_MS;
  while (pids.some(isRunning) && performance.now() < deadline) await sleep(20);
}

/** A zombie has no memory any more. */
function isRunning(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'latin1'));
  } catch {
    return false;
  }
}

class Watch {
  readonly found: Found[] = [];
  readonly moments = new Map<string, readonly Holder[]>();
  readonly printed: string[] = [];
  instance: LocalInstance | undefined;
  /** Of the stack's first instance; nothing tells its name before the enclave starts. */
  readonly instanceFolder: string;
  readonly #stack: LocalStack;
  #canaries: readonly Canary[];
  #search: CanarySearch;
  #keysSeen = 0;

  constructor(stack: LocalStack, canaries: readonly Canary[]) {
    this.#stack = stack;
    this.instanceFolder = join(stack.folder, 'instance-1');
    this.#canaries = canaries;
    this.#search = new CanarySearch(canaries);
  }

  add(canaries: readonly Canary[]): void {
    this.#canaries = [...this.#canaries, ...canaries];
    this.#search = new CanarySearch(this.#canaries);
  }

  /** The processes of the instance. KMS is not among them: it is AWS, and holds what AWS holds. */
  processes(): { readonly holder: Holder; readonly pid: number }[] {
    if (this.instance === undefined) throw new Error('nothing runs yet');
    const enclave = this.instance.enclave.process.pid;
    return [
      ...processTree(this.instance.parentPid).map((pid) => ({ holder: 'parent' as const, pid })),
      ...processTree(enclave).map((pid) => ({
        holder: pid === enclave ? ('enclave' as const) : ('engine' as const),
        pid,
      })),
    ];
  }

  everything(moment: string): void {
    this.#learnKeys();
    const processes = this.processes();
    for (const { holder, pid } of processes) {
      this.#record(moment, holder, searchProcess(pid, this.#search));
    }
    this.files(
      moment,
      processes.map(({ holder }) => holder),
    );
  }

  /** Every file of the run and every printed line; in the end the measured copy and the tmpfs too. */
  files(moment: string, running: readonly Holder[]): void {
    const { folder, image } = this.#stack;
    const sightings =
      moment === 'closed'
        ? searchFolders([folder, MEMORY_FOLDER], this.#search)
        : searchFolders([folder], this.#search, [image]);
    this.#record(moment, 'files', sightings);
    const printed = this.#search.in(Buffer.from(this.printed.join('\n')));
    this.#record(
      moment,
      'consoles',
      printed.map((hit) => ({ ...hit, place: 'what the processes printed' })),
    );
    this.moments.set(moment, [...new Set(running)]);
  }

  sees(holder: Holder, canary: string): boolean {
    return this.processes()
      .filter((one) => one.holder === holder)
      .flatMap(({ pid }) => searchProcess(pid, this.#search))
      .some((sighting) => sighting.canary === canary);
  }

  #record(moment: string, holder: Holder, sightings: readonly Sighting[]): void {
    for (const sighting of sightings) this.found.push({ ...sighting, moment, holder });
  }

  /** The keys that the enclave has made so far. */
  #learnKeys(): void {
    const path = join(this.instanceFolder, MASKED_KEYS_FILE);
    let lines: string[] = [];
    try {
      lines = readFileSync(path, 'latin1').trim().split('\n');
    } catch {
      // None yet.
    }
    for (const line of lines.slice(this.#keysSeen)) this.add(privateKeyCanaries(line));
    this.#keysSeen = lines.length;
  }
}

function privateKeyCanaries(line: string): Canary[] {
  const [type, masked = ''] = line.split(' ');
  const der = Buffer.from(mask(Buffer.from(masked, 'hex')));
  const parts = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' }).export({ format: 'jwk' });
  const numbers = type === 'rsa' ? [parts.d, parts.p, parts.q] : [parts.d];
  const name = type === 'rsa' ? 'RSA key for KMS' : 'TLS key';
  return numbers.flatMap((number) =>
    keyCanaries(name, Buffer.from(number ?? '', 'base64url').subarray(0, 32)),
  );
}

/** The data key, which the owner has in the recovery wrap, and everything secret that is derived from it. */
function dataKeyCanaries({ owner, sealed }: Release): Canary[] {
  const head = parseHead(readFileSync(join(sealed.folder, 'head')));
  const wrap = readFileSync(sealed.recoveryFile as string);
  const dataKey = openRecoveryWrap(wrap, head, owner.recovery.privateKey as KeyObject);
  const extracted = createHmac('sha512', head.parts.salt).update(dataKey).digest();
  return [
    ...keyCanaries('data key', dataKey),
    ...keyCanaries('extracted key', extracted),
    ...keyCanaries('payload key', derived(dataKey, head, keyInfo('payload', head.context, 0))),
    ...keyCanaries('header key', derived(dataKey, head, keyInfo('header', head.context))),
  ];
}

/** What anybody may know, and what shows that the search sees the parent, the files and the printed lines too. */
function publicCanaries(stack: LocalStack, { keyArn }: Release): Canary[] {
  return [stack.folder, keyArn, stack.kms.host].map((text) => textCanary('no secret', text));
}

function derived(dataKey: Uint8Array, head: Head, info: Uint8Array): Uint8Array {
  return new Uint8Array(hkdfSync('sha512', dataKey, head.parts.salt, info, 32));
}
