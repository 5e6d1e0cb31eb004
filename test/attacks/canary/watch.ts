/** Searches the processes of one instance, the files of its stack and what was printed, and keeps what was found. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { LocalInstance } from '../../../simulator/local-instance.ts';
import type { LocalStack } from '../../../simulator/local-stack.ts';
import { type Canary, CanarySearch } from '../../support/canaries.ts';
import { processTree, type Sighting, searchFolders, searchProcess } from '../../support/memory-scan.ts';
import { MASKED_KEYS_FILE } from './masked-keys.ts';
import { privateKeyCanaries } from './secrets.ts';

/** The tmpfs of opened weights; what is nameless in it is found among the open files. */
const MEMORY_FOLDER = '/dev/shm';

export type Holder = 'enclave' | 'engine' | 'parent' | 'files' | 'consoles';

/** One secret, seen in one place at one moment. */
export interface Found extends Sighting {
  readonly moment: string;
  readonly holder: Holder;
}

export class Watch {
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
