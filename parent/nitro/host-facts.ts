import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';

/** What this host has set aside for enclaves. A member is undefined where the kernel does not say. */
export interface HostFacts {
  readonly hugePages: { readonly totalMib: number; readonly freeMib: number } | undefined;
  /** CPUs of the allocator's pool, taken from the host. */
  readonly cpuPool: readonly number[] | undefined;
  readonly threadsPerCore: number | undefined;
}

/**
 * Reads them from sysfs: Documentation/admin-guide/mm/hugetlbpage.rst, Documentation/admin-guide/cputopology.rst,
 * and the parameter of the kernel's nitro_enclaves module (Documentation/virt/ne_overview.rst).
 */
export async function readHostFacts(sys = '/sys'): Promise<HostFacts> {
  const pool = await line(join(sys, 'module/nitro_enclaves/parameters/ne_cpus'));
  const siblings = await line(join(sys, 'devices/system/cpu/cpu0/topology/thread_siblings_list'));
  return {
    hugePages: await readHugePages(join(sys, 'kernel/mm/hugepages')),
    cpuPool: pool === undefined ? undefined : parseCpuList(pool),
    threadsPerCore: siblings === undefined ? undefined : parseCpuList(siblings)?.length,
  };
}

async function readHugePages(folder: string): Promise<HostFacts['hugePages']> {
  const sizes = await readdir(folder).catch(() => []);
  let totalKib = 0;
  let freeKib = 0;
  for (const name of sizes) {
    const pageKib = Number(/^hugepages-(\d+)kB$/.exec(name)?.[1] ?? Number.NaN);
    const total = Number(await line(join(folder, name, 'nr_hugepages')));
    const free = Number(await line(join(folder, name, 'free_hugepages')));
    if (![pageKib, total, free].every(Number.isSafeInteger)) return undefined;
    totalKib += pageKib * total;
    freeKib += pageKib * free;
  }
  if (sizes.length === 0) return undefined;
  return { totalMib: Math.floor(totalKib / 1024), freeMib: Math.floor(freeKib / 1024) };
}

async function line(path: string): Promise<string | undefined> {
  const text = await readFile(path, 'latin1').catch(() => undefined);
  return text?.trim();
}

/** `1-3,9`; an empty text is an empty list. Undefined for anything else. */
export function parseCpuList(text: string): readonly number[] | undefined {
  if (text === '' || text === '(null)') return [];
  const cpus: number[] = [];
  for (const part of text.split(',')) {
    const range = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(part);
    if (range === null) return undefined;
    const first = Number(range[1]);
    const last = Number(range[2] ?? first);
    for (let cpu = first; cpu <= last; cpu += 1) cpus.push(cpu);
  }
  return cpus;
}
