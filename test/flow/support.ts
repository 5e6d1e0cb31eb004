/** Whole stories on the local stack: real processes, real SDK, real TLS. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { readFlowers, splitFlowers, trainIris } from '../../scripts/model/iris.ts';
import { encodeIrisModel } from '../../scripts/model/iris-onnx.ts';
import { LocalStackError } from '../../simulator/errors.ts';
import { LocalStack, type StartInstanceOptions } from '../../simulator/local-stack.ts';

export const PROJECT = join(import.meta.dirname, '..', '..');
export const MODEL = 'iris';

export const flowers = readFlowers();
export const network = trainIris(splitFlowers(flowers).training);
export const onnx = encodeIrisModel(network);

export function startStack(): Promise<LocalStack> {
  return LocalStack.start({ projectFolder: PROJECT, now: () => new Date() });
}

// biome-ignore lint/suspicious/noExplicitAny: records are inspected member by member
export type AuditRecord = any;

/** What KMS recorded of one operation so far, oldest first. */
export function recordsOf(stack: LocalStack, operation: string): readonly AuditRecord[] {
  return readFileSync(stack.auditLog, 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as AuditRecord)
    .filter(({ eventName }) => eventName === operation);
}

export function decryptCount(stack: LocalStack): number {
  return recordsOf(stack, 'Decrypt').length;
}

/** The code of what stopped an enclave that must not get to serve; `served` if nothing did. */
export async function outcomeOf(stack: LocalStack, options: StartInstanceOptions): Promise<string> {
  await using instance = await stack.startInstance(options);
  try {
    await instance.serving;
    return 'served';
  } catch (error) {
    if (error instanceof LocalStackError && error.reason !== undefined) return error.reason;
    throw error;
  }
}

/** Processes that name this folder in their command line or run in it; zombies are none. */
export function processesOf(folder: string): readonly number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => pid !== process.pid && isAlive(pid) && commandLineOf(pid).includes(folder));
}

/** A zombie is not, unless threads of it still run: they hold its descriptors and its memory. */
export function isAlive(pid: number): boolean {
  const state = statOf(pid)?.[0];
  if (state !== 'Z') return state !== undefined;
  try {
    return readdirSync(`/proc/${pid}/task`).length > 1;
  } catch {
    return false;
  }
}

export function childrenOf(pid: number): readonly number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((child) => statOf(child)?.[1] === String(pid) && isAlive(child));
}

/** proc_pid_stat(5) from field 3 on: state, parent, ... */
function statOf(pid: number): readonly string[] | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  } catch {
    return undefined;
  }
}

function commandLineOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1');
  } catch {
    return '';
  }
}

/** UNIX sockets that are bound below this folder. */
export function socketsBelow(folder: string): readonly string[] {
  return readFileSync('/proc/net/unix', 'latin1')
    .split('\n')
    .map((line) => line.split(' ').at(-1) ?? '')
    .filter((path) => path.startsWith(folder));
}

export const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
