/**
 * What the allocator sets aside for enclaves: /etc/nitro_enclaves/allocator.yaml, and what came of it
 * (AWS Nitro Enclaves User Guide, "nitro-enclaves-allocator service"; aws-nitro-enclaves-cli
 * bootstrap/nitro-enclaves-allocator, which reads a flat list of members after a line "---").
 */
import { join } from 'node:path';
import { readHostFacts } from '../../parent/nitro/host-facts.ts';
import { runProgram } from '../../parent/nitro/program.ts';
import {
  type Check,
  type CheckGroup,
  type Known,
  ok,
  problem,
  type Result,
  undecided,
  warning,
} from './check.ts';
import { readText, type World } from './world.ts';

const FILE = '/etc/nitro_enclaves/allocator.yaml';
const UNIT = 'nitro-enclaves-allocator.service';
const RESTART = `sudo systemctl restart ${UNIT}`;
const PROGRAM_TIMEOUT_MS = 10_000;

export const allocatorGroup: CheckGroup = {
  title: 'Allocator',
  checks: (world, known): readonly Check[] => [
    {
      id: 'allocator.file',
      why: 'It says how much memory and how many CPUs are set aside for enclaves when the instance starts.',
      needs: ['host.ec2'],
      run: () => checkFile(world, known),
    },
    {
      id: 'allocator.service',
      why: 'It sets memory and CPUs aside, and again after every restart of the instance if it is enabled.',
      needs: ['host.ec2'],
      run: () => checkService(world),
    },
    {
      id: 'allocator.cpus',
      why: 'An enclave gets its CPUs from this pool, as whole cores.',
      needs: ['host.ec2', 'nitro.module'],
      run: () => checkCpus(world, known),
    },
    {
      id: 'allocator.hugepages',
      why: 'All of an enclave’s memory is made of free huge pages.',
      needs: ['host.ec2'],
      run: () => checkHugePages(world, known),
    },
  ],
};

export interface AllocatorFile {
  readonly memoryMib: number;
  /** A number of CPUs, or which. */
  readonly cpus: { readonly count: number } | { readonly pool: string };
}

/** Throws Error with what was expected and found. */
export function parseAllocatorFile(text: string): AllocatorFile {
  const members = new Map<string, string>();
  let begun = false;
  for (const [index, raw] of text.split('\n').entries()) {
    const line = raw.trim();
    if (line.startsWith('#')) continue;
    if (line === '---') {
      begun = true;
      continue;
    }
    if (!begun || line === '') continue;
    const [, key, value] = /^([a-z_]+):\s*"?([^"#]*?)"?\s*(?:#.*)?$/.exec(line) ?? [];
    if (key === undefined || value === undefined || !['memory_mib', 'cpu_count', 'cpu_pool'].includes(key)) {
      throw new Error(
        `line ${index + 1}: expected memory_mib, cpu_count or cpu_pool, found ${JSON.stringify(line.slice(0, 80))}`,
      );
    }
    members.set(key, value);
  }
  if (!begun) throw new Error('expected a line "---", because everything before it is ignored; found none');
  const memoryMib = numberOf(members, 'memory_mib');
  const pool = members.get('cpu_pool');
  if ((pool === undefined) === !members.has('cpu_count')) {
    throw new Error('expected either cpu_count or cpu_pool');
  }
  return { memoryMib, cpus: pool === undefined ? { count: numberOf(members, 'cpu_count') } : { pool } };
}

function numberOf(members: ReadonlyMap<string, string>, key: string): number {
  const value = members.get(key);
  if (value === undefined || !/^\d{1,9}$/.test(value)) {
    throw new Error(
      `${key}: expected a number, found ${value === undefined ? 'nothing' : JSON.stringify(value)}`,
    );
  }
  return Number(value);
}

async function checkFile(world: World, { config }: Known): Promise<Result> {
  const text = await readText(world, FILE);
  if (text === undefined) {
    return problem(
      `There is no ${FILE}.`,
      'Install aws-nitro-enclaves-cli, which brings it, and set memory_mib and cpu_count.',
    );
  }
  let file: AllocatorFile;
  try {
    file = parseAllocatorFile(text);
  } catch (error) {
    const found = error instanceof Error ? error.message : String(error);
    return problem(`${FILE}: ${found}.`, `Correct it, then ${RESTART}`);
  }
  const cpus = 'count' in file.cpus ? `${file.cpus.count} CPUs` : `CPUs ${file.cpus.pool}`;
  const found = `memory_mib ${file.memoryMib}, ${cpus}`;
  const enclave = config?.enclave?.kind === 'nitro-cli' ? config.enclave : undefined;
  if (enclave === undefined) return ok(found);
  if (file.memoryMib < enclave.memoryMib) {
    return problem(
      `${found}; enclave.memoryMib is ${enclave.memoryMib}.`,
      `Set memory_mib: ${enclave.memoryMib} in ${FILE}, then ${RESTART}`,
    );
  }
  if ('count' in file.cpus && file.cpus.count < enclave.cpuCount) {
    return problem(
      `${found}; enclave.cpuCount is ${enclave.cpuCount}.`,
      `Set cpu_count: ${enclave.cpuCount} in ${FILE}, then ${RESTART}`,
    );
  }
  return ok(`${found}; the enclave takes ${enclave.memoryMib} MiB and ${enclave.cpuCount} CPUs`);
}

/** systemctl(1): is-active and is-enabled print one word; their exit status is 0 for "active" and "enabled". */
async function checkService(world: World): Promise<Result> {
  const active = await ask(world, 'is-active');
  const enabled = await ask(world, 'is-enabled');
  if (active === undefined || enabled === undefined)
    return undecided(`${world.systemctl} does not answer here.`);
  if (active !== 'active') {
    const log = `journalctl -u ${UNIT} says why it fails`;
    return problem(`${UNIT} is ${active}.`, `sudo systemctl enable --now ${UNIT}; ${log}`);
  }
  if (!enabled.startsWith('enabled')) {
    return warning(
      `${UNIT} is active and ${enabled}.`,
      `sudo systemctl enable ${UNIT}, for the next restart.`,
    );
  }
  return ok('active and enabled');
}

const WORDS =
  /^(active|inactive|failed|activating|deactivating|reloading|unknown|enabled|enabled-runtime|disabled|static|masked|not-found)$/;

async function ask(world: World, question: string): Promise<string | undefined> {
  try {
    const { stdout } = await runProgram(world.systemctl, [question, UNIT], { timeoutMs: PROGRAM_TIMEOUT_MS });
    const word = Buffer.from(stdout).toString('utf8').trim();
    // Nothing on standard output: the unit is not known. Other words: systemd does not run this machine.
    if (word === '') return 'not-found';
    return WORDS.test(word) ? word : undefined;
  } catch {
    return undefined;
  }
}

async function checkCpus(world: World, { config }: Known): Promise<Result> {
  const { cpuPool, threadsPerCore } = await readHostFacts(join(world.root, 'sys'));
  if (cpuPool === undefined) return undecided('The driver does not say which CPUs enclaves may have.');
  const wanted = config?.enclave?.kind === 'nitro-cli' ? config.enclave.cpuCount : undefined;
  if (cpuPool.length === 0) {
    return problem('No CPU is set aside for enclaves.', `Set cpu_count in ${FILE}, then ${RESTART}`);
  }
  const found = `${cpuPool.length} CPUs in the pool (${cpuPool.join(', ')})`;
  if (wanted === undefined) return ok(found);
  if (cpuPool.length < wanted) {
    return problem(
      `${found}; enclave.cpuCount is ${wanted}.`,
      `Set cpu_count: ${wanted} in ${FILE}, then ${RESTART}`,
    );
  }
  if (threadsPerCore !== undefined && threadsPerCore > 0 && wanted % threadsPerCore !== 0) {
    return problem(
      `A core has ${threadsPerCore} threads; enclave.cpuCount is ${wanted}.`,
      `Make enclave.cpuCount a multiple of ${threadsPerCore}.`,
    );
  }
  return ok(found);
}

async function checkHugePages(world: World, { config }: Known): Promise<Result> {
  const { hugePages } = await readHostFacts(join(world.root, 'sys'));
  if (hugePages === undefined) return undecided('The kernel does not say how many huge pages there are.');
  const { totalMib, freeMib } = hugePages;
  const found = `${totalMib} MiB of huge pages, ${freeMib} MiB free`;
  if (totalMib === 0) return problem(`${found}.`, `Set memory_mib in ${FILE}, then ${RESTART}`);
  const wanted = config?.enclave?.kind === 'nitro-cli' ? config.enclave.memoryMib : undefined;
  if (wanted === undefined) return ok(found);
  if (totalMib < wanted) {
    return problem(
      `${found}; enclave.memoryMib is ${wanted}.`,
      `Set memory_mib: ${wanted} in ${FILE}, then ${RESTART}; where that fails, restart the instance, because memory fragments.`,
    );
  }
  if (freeMib < wanted) {
    return warning(
      `${found}; enclave.memoryMib is ${wanted}.`,
      'An enclave holds the rest. If it is not this deployment’s own, end it or raise memory_mib.',
    );
  }
  return ok(found);
}
