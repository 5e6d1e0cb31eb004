/**
 * Whether an enclave of this size can hold its image and models, and whether this host can give it so much. All
 * of an enclave is memory: its root file system, the weights in a memory file, and the engine's own copy of them.
 * An enclave that is too small starts, fetches everything, and is ended by its kernel without a word; so the sum
 * is made before.
 */
import type { HostFacts } from './host-facts.ts';

const MIB = 1024 * 1024;
/** nitro-cli's rule (src/enclave_proc/resource_manager.rs, ENCLAVE_MEMORY_EIF_SIZE_RATIO): to unpack the image. */
const IMAGE_RATIO = 4;
const KERNEL_MIB = 64;
/** The kernel's table of pages takes 64 bytes for each 4 KiB. */
const PAGE_TABLE_SHARE = 1 / 64;
/** Resident with a small model: 180 MiB and 115 MiB. */
const ENCLAVE_PROCESS_MIB = 256;
const ENGINE_PROCESS_MIB = 192;
/** What an engine computes with, beside its weights. */
const WORKING_SHARE = 1 / 4;
const WORKING_LEAST_MIB = 64;
const RESERVE_SHARE = 1 / 10;

export interface SizingInput {
  readonly memoryMib: number;
  readonly cpuCount: number;
  readonly imageSizeBytes: number;
  readonly models: readonly { readonly name: string; readonly payloadSizeBytes: number }[];
  /** Of the deployment. */
  readonly limits: { readonly requestBytes: number; readonly queueLength: number };
  /** Undefined for an enclave that takes nothing from a host's pools. */
  readonly host: HostFacts | undefined;
}

export interface Sizing {
  /** What the enclave's memory is for, in MiB, rounded up. */
  readonly uses: readonly { readonly what: string; readonly mib: number }[];
  readonly neededMib: number;
  readonly memoryMib: number;
  readonly cpuCount: number;
  readonly findings: readonly SizingFinding[];
  /** No finding is an error. */
  readonly fits: boolean;
}

export interface SizingFinding {
  readonly severity: 'error' | 'warning';
  /** What was expected and found, and what to do. */
  readonly text: string;
}

export function sizeEnclave(input: SizingInput): Sizing {
  const uses = usesOf(input);
  const neededMib = uses.reduce((sum, { mib }) => sum + mib, 0);
  const findings = [
    ...checkMemory(input, neededMib),
    ...(input.host === undefined ? [] : checkHugePages(input.memoryMib, input.host)),
    ...(input.host === undefined ? [] : checkCpus(input.cpuCount, input.host)),
  ];
  return {
    uses,
    neededMib,
    memoryMib: input.memoryMib,
    cpuCount: input.cpuCount,
    findings,
    fits: findings.every(({ severity }) => severity !== 'error'),
  };
}

function usesOf({ memoryMib, imageSizeBytes, models, limits }: SizingInput): Sizing['uses'] {
  const uses = [
    { what: 'kernel, and its table of pages', mib: KERNEL_MIB + Math.ceil(memoryMib * PAGE_TABLE_SHARE) },
    { what: 'root file system, as large as the image', mib: mibOf(imageSizeBytes) },
    { what: 'enclave process', mib: ENCLAVE_PROCESS_MIB },
  ];
  for (const { name, payloadSizeBytes } of models) {
    const weightsMib = mibOf(payloadSizeBytes);
    const workingMib = Math.max(WORKING_LEAST_MIB, Math.ceil(weightsMib * WORKING_SHARE));
    const waitingMib = mibOf((limits.queueLength + 1) * limits.requestBytes);
    uses.push(
      { what: `${name}: weights in a memory file`, mib: weightsMib },
      {
        what: `${name}: engine, its copy of the weights, working memory`,
        mib: ENGINE_PROCESS_MIB + weightsMib + workingMib,
      },
      { what: `${name}: ${limits.queueLength + 1} requests of the largest size`, mib: waitingMib },
    );
  }
  const sum = uses.reduce((total, { mib }) => total + mib, 0);
  return [...uses, { what: 'reserve, a tenth', mib: Math.ceil(sum * RESERVE_SHARE) }];
}

function checkMemory({ memoryMib, imageSizeBytes, models }: SizingInput, neededMib: number): SizingFinding[] {
  const findings: SizingFinding[] = [];
  const imageMib = mibOf(imageSizeBytes);
  if (memoryMib < imageMib * IMAGE_RATIO) {
    const need = `nitro-cli wants ${IMAGE_RATIO} times the image: ${IMAGE_RATIO} x ${imageMib} = ${imageMib * IMAGE_RATIO} MiB`;
    findings.push(error(`${need}, enclave.memoryMib is ${memoryMib}. Raise it.`));
  }
  if (memoryMib < neededMib) {
    findings.push(
      error(`Image and models need ${neededMib} MiB, enclave.memoryMib is ${memoryMib}. Raise it.`),
    );
  }
  const weightsMib = models.reduce((sum, { payloadSizeBytes }) => sum + mibOf(payloadSizeBytes), 0);
  if (weightsMib * 2 > memoryMib) {
    const rule = "The weights' files may take half of the enclave's memory";
    findings.push(
      error(
        `${rule}: 2 x ${weightsMib} = ${weightsMib * 2} MiB, enclave.memoryMib is ${memoryMib}. Raise it.`,
      ),
    );
  }
  return findings;
}

const ALLOCATOR = '/etc/nitro_enclaves/allocator.yaml and restart nitro-enclaves-allocator.service';

function checkHugePages(memoryMib: number, { hugePages }: HostFacts): SizingFinding[] {
  if (hugePages === undefined) return [warning('This kernel does not say how many huge pages it has.')];
  const { totalMib, freeMib } = hugePages;
  if (totalMib < memoryMib) {
    const found = `${memoryMib} MiB of huge pages are needed, the host has ${totalMib}`;
    return [error(`${found}. Set memory_mib in ${ALLOCATOR}.`)];
  }
  if (freeMib >= memoryMib) return [];
  const found = `${memoryMib} MiB of huge pages are needed, ${freeMib} of ${totalMib} are free`;
  return [warning(`${found}. Another enclave holds the rest; see nitro-cli describe-enclaves.`)];
}

function checkCpus(cpuCount: number, { cpuPool, threadsPerCore }: HostFacts): SizingFinding[] {
  const findings: SizingFinding[] = [];
  if (threadsPerCore !== undefined && threadsPerCore > 0 && cpuCount % threadsPerCore !== 0) {
    const rule = `Enclaves take whole cores of ${threadsPerCore} threads`;
    findings.push(
      error(`${rule}, enclave.cpuCount is ${cpuCount}. Make it a multiple of ${threadsPerCore}.`),
    );
  }
  // The pool never holds the core of CPU 0: that one stays with the host (ne_overview.rst).
  if (cpuPool === undefined) {
    findings.push(
      warning('The driver nitro_enclaves is not loaded, so nobody can say which CPUs enclaves may have.'),
    );
  } else if (cpuPool.length < cpuCount) {
    const found = `enclave.cpuCount is ${cpuCount}, the pool has ${cpuPool.length} CPUs`;
    findings.push(error(`${found}. Set cpu_count in ${ALLOCATOR}.`));
  }
  return findings;
}

function mibOf(sizeBytes: number): number {
  return Math.ceil(sizeBytes / MIB);
}

function error(text: string): SizingFinding {
  return { severity: 'error', text };
}

function warning(text: string): SizingFinding {
  return { severity: 'warning', text };
}
