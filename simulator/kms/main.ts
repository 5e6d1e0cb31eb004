/**
 * The simulated KMS as a process of its own: `node simulator/kms/main.ts CONFIG.json`.
 *
 * Standard output carries one JSON document a line. The first says where it listens:
 *     {"ready":true,"host":"kms.REGION.amazonaws.com","port":N,"caCertificatePem":"..."}
 * Standard input is the control interface, one JSON document a line, each answered by one line:
 *     {"inject":{"kind":"error","name":"ThrottlingException"},"operation":"Decrypt","times":2}
 *     {"clear":true}
 * The end of standard input, SIGTERM and SIGINT end the process: it never outlives whoever started it.
 */
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { StrongroomError } from '../../shared/errors.ts';
import { readSimulatedKmsConfig } from './config.ts';
import { type Faults, readFault } from './faults.ts';
import { startSimulatedKms } from './simulated-kms.ts';

const [path] = process.argv.slice(2);

try {
  if (path === undefined) throw new TypeError('usage: node simulator/kms/main.ts CONFIG.json');
  const kms = await startSimulatedKms(readSimulatedKmsConfig(readFileSync(path), () => new Date()));
  const { host, port, caCertificatePem } = kms;
  const lines = createInterface({ input: process.stdin });
  lines.on('line', (line) => say(control(kms.faults, line)));
  const told = new Promise<void>((resolve) => {
    lines.once('close', resolve);
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => resolve());
  });
  say({ ready: true, host, port, caCertificatePem });
  await told;
  lines.close();
  await kms.close();
  process.exit(0);
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(error instanceof StrongroomError ? error.exitCode : 2);
}

function control(faults: Faults, line: string): object {
  try {
    const { inject, clear, ...scope } = JSON.parse(line) as Record<string, unknown>;
    if (clear === true) faults.clear();
    else faults.inject(readFault(inject), scope);
    return { ok: true };
  } catch (error) {
    return { ok: false, error: error instanceof Error ? error.message : String(error) };
  }
}

function say(document: object): void {
  process.stdout.write(`${JSON.stringify(document)}\n`);
}
