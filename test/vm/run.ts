/**
 * `npm run test:vm`: what can only be shown with a kernel of our own. Boots a virtual machine, runs the checks
 * of guest/main.ts in it, and prints one line for each (docs/simulation.md section 6).
 *
 * Exit codes: 0 all passed, or skipped because this machine cannot run it (the reason is printed; with
 * --required that is 2); 1 a check failed, or the machine did not come to its end.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { CheckResult } from './guest/check.ts';
import {
  type Accelerator,
  accelerators,
  CannotRun,
  fetchKernel,
  type Kernel,
  requireTools,
  runMachine,
  writeInitramfs,
} from './machine.ts';

const TIMEOUT_MS = { kvm: 240_000, tcg: 1_200_000 } as const;

const required = process.argv.includes('--required');
const folder = mkdtempSync(join(tmpdir(), 'strongroom-vm-'));
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1));
process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
try {
  process.exitCode = await run();
} catch (error) {
  if (!(error instanceof CannotRun)) throw error;
  console.log(`skipped: ${error.message}`);
  process.exitCode = required ? 2 : 0;
}

async function run(): Promise<number> {
  const begin = performance.now();
  requireTools();
  const kernel = fetchKernel(folder);
  const initramfs = join(folder, 'initramfs.cpio');
  await writeInitramfs(kernel, initramfs);
  console.log(`Linux ${kernel.name}; prepared in ${secondsSince(begin)}`);
  for (const accelerator of accelerators()) {
    const { passed, failed, end } = await boot(kernel, initramfs, accelerator);
    if (passed + failed === 0 && accelerator === 'kvm') {
      console.log('KVM does not work here; once more in software.');
      continue;
    }
    const how = end === undefined ? ', and the machine did not come to its end' : '';
    console.log(`${passed} passed, ${failed} failed in ${secondsSince(begin)} (${accelerator})${how}`);
    return end === 0 && failed === 0 && passed > 0 ? 0 : 1;
  }
  return 1;
}

interface Outcome {
  passed: number;
  failed: number;
  /** The exit code of the checks; undefined when the machine did not get that far. */
  end: number | undefined;
}

async function boot(kernel: Kernel, initramfs: string, accelerator: Accelerator): Promise<Outcome> {
  const outcome: Outcome = { passed: 0, failed: 0, end: undefined };
  await runMachine({
    kernel,
    initramfs,
    accelerator,
    timeoutMs: TIMEOUT_MS[accelerator],
    onLine: (line) => {
      const entry = parse(line);
      if (entry === undefined) {
        if (line.trim() !== '') console.log(`  console: ${line}`);
      } else if ('end' in entry) {
        outcome.end = entry.end;
      } else {
        outcome[entry.passed ? 'passed' : 'failed'] += 1;
        const { check, durationMs, detail } = entry;
        console.log(`${entry.passed ? 'passed' : 'FAILED'}  ${check} (${durationMs} ms) ${detail}`);
      }
    },
  });
  return outcome;
}

function parse(line: string): CheckResult | { readonly end: number } | undefined {
  try {
    const entry = JSON.parse(line.slice(line.indexOf('{')));
    return 'check' in entry || 'end' in entry ? entry : undefined;
  } catch {
    return undefined;
  }
}

function secondsSince(begin: number): string {
  return `${((performance.now() - begin) / 1000).toFixed(1)} s`;
}
