/**
 * Peak resident memory of a strict opening over its data, in a process of its own: prints MiB. Arguments: size in
 * MiB. The sources are memory, and one that the main thread feeds to the workers.
 */
import { randomFillSync } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { parseHead } from '../../shared/sealed-model/head.ts';
import { openSealedModel } from '../../shared/sealed-model/open.ts';
import { sealModel } from '../../shared/sealed-model/seal.ts';
import { planSeal } from '../../shared/sealed-model/seal-plan.ts';
import { memorySource } from '../../shared/sealed-model/source.ts';
import { unlockHead } from '../../shared/sealed-model/unlock.ts';

const sizeBytes = Number(process.argv[2]) * (1 << 20);
const payload = new SharedArrayBuffer(sizeBytes);
const target = new SharedArrayBuffer(sizeBytes);
for (const buffer of [payload, target]) new Uint8Array(buffer).fill(1); // resident before anything is measured

const identity = { name: 'bench', version: 1, format: 'raw' };
const salt = randomFillSync(new Uint8Array(32));
const dataKey = randomFillSync(new Uint8Array(new ArrayBuffer(32)));
const sink = {
  async write(offset: number, bytes: Uint8Array): Promise<void> {
    new Uint8Array(payload).set(bytes, offset);
  },
};
const plan = planSeal(identity, [{ path: 'model.raw', sizeBytes }], salt);
const { head } = await sealModel({ plan, inputs: [memorySource(payload)], dataKey, sink });
using unlocked = unlockHead(parseHead(head), dataKey);

const status = (field: string): number =>
  Number(new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(readFileSync('/proc/self/status', 'utf8'))?.[1]) /
  1024;
const direct = memorySource(payload);
let overMiB = 0;
for (const source of [direct, { sizeBytes: direct.sizeBytes, read: direct.read }]) {
  globalThis.gc?.();
  writeFileSync('/proc/self/clear_refs', '5'); // resets the high-water mark (proc(5))
  const before = status('VmRSS');
  await openSealedModel(unlocked, source, { kind: 'memory', buffer: target }, { workers: 2 });
  overMiB = Math.max(overMiB, status('VmHWM') - before);
}
process.stdout.write(`${overMiB.toFixed(0)}\n`);
