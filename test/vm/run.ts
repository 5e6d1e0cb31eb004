/**
 * `npm run test:vm`: what can only be shown with a kernel of our own. Boots virtual machines, one with checks of
 * the vsock and the NSM device, and one for each of two image files; prints one line for each check
 * (docs/simulation.md section 6).
 *
 * Exit codes: 0 all passed, or skipped because this machine cannot run it (the reason is printed; with
 * --required that is 2); 1 a check failed, or a machine did not come to its end.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { availableParallelism, freemem, tmpdir } from 'node:os';
import { join } from 'node:path';
import type { CheckResult } from './guest/check.ts';
import { bootableImage, fetchDebianPackages, ownersModel } from './images.ts';
import { CannotRun, fetchKernel, requireTools } from './kernel.ts';
import { type Accelerator, type MachineParts, MEMORY_MIB, runMachine, usableAccelerator } from './machine.ts';
import { appendRamdisk, guestEntries, script } from './ramdisk.ts';

/** From inside a Nitro enclave the parent is 3; in an emulated one its own id is, and leads back to itself. */
const PARENT_CID = 3;
/** Of one machine, and something for the rest. */
const MEMORY_BYTES = 1.25 * MEMORY_MIB * 2 ** 20;

const required = process.argv.includes('--required');
const folder = mkdtempSync(join(tmpdir(), 'strongroom-vm-'));
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1));
process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
try {
  process.exitCode = await run();
} catch (error) {
  if (!(error instanceof CannotRun)) throw error;
  console.log(`${required ? 'cannot run, and it is required' : 'skipped'}: ${error.message}`);
  process.exitCode = required ? 2 : 0;
}

interface Machine {
  readonly name: string;
  readonly parts: MachineParts;
  /** What the console must say, beside what the checks say. */
  readonly console?: RegExp;
}

async function run(): Promise<number> {
  const begin = performance.now();
  requireTools();
  const kernel = fetchKernel(folder);
  fetchDebianPackages();
  const own = guestEntries(kernel);
  const model = await ownersModel();
  const checks = join(folder, 'checks.cpio');
  const [standIn, production, accelerator] = await Promise.all([
    bootableImage('stand-in', kernel, own, model, join(folder, 'stand-in')),
    bootableImage('production', kernel, own, model, join(folder, 'production')),
    usableAccelerator(kernel, join(folder, 'kvm')),
    appendRamdisk([...own, script('init', 'init.sh')], checks),
  ]);
  const machines: Machine[] = [
    {
      name: 'stand-in image',
      parts: { ...standIn, folder: join(folder, 'stand-in'), contextId: PARENT_CID },
    },
    {
      name: 'checks',
      parts: {
        kernel: kernel.image,
        commandLine: 'console=ttyS0 quiet loglevel=3 panic=-1',
        ramdisk: checks,
        folder: join(folder, 'checks'),
      },
    },
    {
      name: 'production image',
      parts: { ...production, folder: join(folder, 'production'), contextId: PARENT_CID },
      console: /KmsError: .*self-signed certificate in certificate chain/,
    },
  ];
  const how = accelerator === 'kvm' ? 'with KVM' : 'in software emulation';
  console.log(`Linux ${kernel.name}, ${how}; prepared in ${secondsSince(begin)}`);

  const outcomes: Outcome[] = [];
  const waiting = machines.values();
  const inTurn = async () => {
    for (const machine of waiting) outcomes.push(await boot(machine, accelerator));
  };
  // Emulation takes one processor a machine.
  const atOnce = Math.min(2, availableParallelism(), Math.floor(freemem() / MEMORY_BYTES));
  await Promise.all(Array.from({ length: Math.max(1, atOnce) }, inTurn));
  const total = (what: 'passed' | 'failed') => outcomes.reduce((sum, outcome) => sum + outcome[what], 0);
  console.log(`${total('passed')} passed, ${total('failed')} failed in ${secondsSince(begin)}`);
  return total('failed') === 0 ? 0 : 1;
}

interface Outcome {
  passed: number;
  failed: number;
}

async function boot(machine: Machine, accelerator: Accelerator): Promise<Outcome> {
  const { name, parts, console: expected } = machine;
  const begin = performance.now();
  const outcome: Outcome = { passed: 0, failed: 0 };
  const heard: string[] = [];
  let end: number | undefined;
  const report = ({ check, passed, durationMs, detail }: CheckResult) => {
    outcome[passed ? 'passed' : 'failed'] += 1;
    console.log(`${passed ? 'passed' : 'FAILED'}  ${check} (${durationMs} ms) ${detail}`);
  };
  await runMachine(parts, accelerator, {
    console: (line) => heard.push(line.trimEnd()),
    results: (line) => {
      const entry = parse(line);
      if (entry === undefined) heard.push(line);
      else if ('end' in entry) end = entry.end;
      else report(entry);
    },
  });
  if (accelerator === 'kvm' && heard.some((line) => line.includes('KVM internal error'))) {
    console.log(`${name}: KVM gave up; once more in software emulation.`);
    return boot(machine, 'tcg');
  }
  if (expected !== undefined) {
    const said = heard.find((line) => expected.test(line));
    const check = `${name}: its console says why it ended`;
    report({ check, passed: said !== undefined, durationMs: 0, detail: said?.trim() ?? String(expected) });
  }
  const whole = end === 0 && outcome.passed > 0;
  if (!whole) outcome.failed += 1;
  if (outcome.failed > 0) for (const line of heard) console.log(`  ${name}: ${line}`);
  const how = whole ? 'came to its end' : `did NOT come to a good end (${end ?? 'it stopped before'})`;
  console.log(`${whole ? 'passed' : 'FAILED'}  ${name}: the machine ${how} after ${secondsSince(begin)}`);
  return outcome;
}

function parse(line: string): CheckResult | { readonly end: number } | undefined {
  try {
    const entry = JSON.parse(line);
    return 'check' in entry || 'end' in entry ? entry : undefined;
  } catch {
    return undefined;
  }
}

function secondsSince(begin: number): string {
  return `${((performance.now() - begin) / 1000).toFixed(1)} s`;
}
