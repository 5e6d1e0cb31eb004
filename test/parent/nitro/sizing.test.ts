import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseCpuList, readHostFacts } from '../../../parent/nitro/host-facts.ts';
import { type SizingInput, sizeEnclave } from '../../../parent/nitro/sizing.ts';

const MIB = 1024 * 1024;
const HOST = { hugePages: { totalMib: 16_384, freeMib: 16_384 }, cpuPool: [2, 3, 6, 7], threadsPerCore: 2 };
const INPUT: SizingInput = {
  memoryMib: 8_192,
  cpuCount: 4,
  imageSizeBytes: 200 * MIB,
  models: [{ name: 'iris', payloadSizeBytes: 1_000 * MIB }],
  limits: { requestBytes: 4 * MIB, queueLength: 63 },
  host: HOST,
};
const errors = (change: Partial<SizingInput>): readonly string[] =>
  sizeEnclave({ ...INPUT, ...change })
    .findings.filter(({ severity }) => severity === 'error')
    .map(({ text }) => text);

describe('the size of an enclave', () => {
  it('fits, with every use of its memory shown and summed up', () => {
    const sizing = sizeEnclave(INPUT);
    expect(sizing).toMatchObject({ fits: true, findings: [], memoryMib: 8_192 });
    expect(Object.fromEntries(sizing.uses.map(({ what, mib }) => [what, mib]))).toEqual({
      'kernel, and its table of pages': 64 + 128,
      'root file system, as large as the image': 200,
      'enclave process': 256,
      'iris: weights in a memory file': 1_000,
      'iris: engine, its copy of the weights, working memory': 192 + 1_000 + 250,
      'iris: 64 requests of the largest size': 256,
      'reserve, a tenth': 335,
    });
    expect(sizing.neededMib).toBe(sizing.uses.reduce((sum, { mib }) => sum + mib, 0));
  });

  it("is refused below nitro-cli's four times the image, with the sum", () => {
    expect(errors({ imageSizeBytes: 2_100 * MIB, models: [] })).toEqual([
      'nitro-cli wants 4 times the image: 4 x 2100 = 8400 MiB, enclave.memoryMib is 8192. Raise it.',
    ]);
    expect(errors({ imageSizeBytes: 2_048 * MIB, models: [] })).toEqual([]);
  });

  it('is refused when image and models need more', () => {
    const models = [...INPUT.models, { name: 'rose', payloadSizeBytes: 2_500 * MIB }];
    expect(errors({ models })[0]).toMatch(/^Image and models need \d+ MiB, enclave.memoryMib is 8192/);
  });

  it('is refused when the weights take more than half, which is all that a memory file system gives', () => {
    const models = [{ name: 'rose', payloadSizeBytes: 4_097 * MIB }];
    expect(errors({ models })).toContainEqual(expect.stringContaining('2 x 4097 = 8194 MiB'));
  });

  it('is refused beyond the huge pages of the host, and warned of when others hold them', () => {
    const less = { ...HOST, hugePages: { totalMib: 8_191, freeMib: 8_191 } };
    expect(errors({ host: less })[0]).toContain('8192 MiB of huge pages are needed, the host has 8191');
    const held = sizeEnclave({
      ...INPUT,
      host: { ...HOST, hugePages: { totalMib: 16_384, freeMib: 8_191 } },
    });
    expect(held).toMatchObject({ fits: true, findings: [{ severity: 'warning' }] });
  });

  it('is refused for half a core, and for more CPUs than the pool has', () => {
    expect(errors({ cpuCount: 3 })[0]).toContain('whole cores of 2 threads');
    expect(errors({ cpuCount: 3, host: { ...HOST, threadsPerCore: 1 } })).toEqual([]);
    expect(errors({ cpuCount: 6 })[0]).toContain('the pool has 4 CPUs');
  });

  it('is not judged by what the host does not say', () => {
    const silent = { hugePages: undefined, cpuPool: undefined, threadsPerCore: undefined };
    const sizing = sizeEnclave({ ...INPUT, host: silent });
    expect(sizing.fits).toBe(true);
    expect(sizing.findings.map(({ severity }) => severity)).toEqual(['warning', 'warning']);
    expect(sizeEnclave({ ...INPUT, host: undefined }).findings).toEqual([]);
  });

  it('never fits less when it gets more memory', () => {
    const size = fc.integer({ min: 0, max: 1_000_000 });
    fc.assert(
      fc.property(size, size, fc.array(size, { maxLength: 4 }), (memory, image, payloads) => {
        const input = {
          ...INPUT,
          imageSizeBytes: image * 1_000,
          models: payloads.map((mib, index) => ({ name: `m${index}`, payloadSizeBytes: mib * MIB })),
          host: undefined,
        };
        const fits = (memoryMib: number) => sizeEnclave({ ...input, memoryMib }).fits;
        return !fits(memory) || fits(memory + 64);
      }),
      { numRuns: 200 },
    );
  });
});

describe('what the host says', () => {
  it.each([
    ['1-3,9', [1, 2, 3, 9]],
    ['0', [0]],
    ['', []],
    ['(null)', []],
    ['1-', undefined],
    ['a', undefined],
    ['1,,2', undefined],
  ])('reads the CPU list %j', (text, expected) => {
    expect(parseCpuList(text)).toEqual(expected);
  });

  it('is read from sysfs: huge pages of every size, the pool, threads of a core', async () => {
    const sys = await mkdtemp(join(tmpdir(), 'sr-'));
    const files = {
      'kernel/mm/hugepages/hugepages-2048kB/nr_hugepages': '512\n',
      'kernel/mm/hugepages/hugepages-2048kB/free_hugepages': '256\n',
      'kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages': '3\n',
      'kernel/mm/hugepages/hugepages-1048576kB/free_hugepages': '2\n',
      'module/nitro_enclaves/parameters/ne_cpus': '2-3,6-7\n',
      'devices/system/cpu/cpu0/topology/thread_siblings_list': '0,4\n',
    };
    for (const [path, content] of Object.entries(files)) {
      await mkdir(dirname(join(sys, path)), { recursive: true });
      await writeFile(join(sys, path), content);
    }
    expect(await readHostFacts(sys)).toEqual({
      hugePages: { totalMib: 1_024 + 3_072, freeMib: 512 + 2_048 },
      cpuPool: [2, 3, 6, 7],
      threadsPerCore: 2,
    });
    await rm(sys, { recursive: true });
    expect(await readHostFacts(sys)).toEqual({
      hugePages: undefined,
      cpuPool: undefined,
      threadsPerCore: undefined,
    });
  });
});
