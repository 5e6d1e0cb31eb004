import { parseArgs } from 'node:util';
import { PARENT_CONFIG_MAX_BYTES } from '../../parent/config/config.ts';
import type { Command, CommandIo } from '../command.ts';
import { examine, exitCodeOf, type Finding } from '../doctor/examine.ts';
import { Report, summaryOf } from '../doctor/report.ts';
import { thisWorld, type World } from '../doctor/world.ts';
import { CommandError } from '../errors.ts';
import { expectFile } from '../input-file.ts';

export const command: Command = {
  name: 'doctor',
  summary: 'Check this EC2 host step by step, and say what to do for each finding.',
  help: `
Usage: strongroom doctor [--config FILE] [--json]

Looks at everything that the parent and its enclave need on this host, from the kernel module to the TLS
connection to KMS, and says for each finding what was found, why it matters and what to do. It changes nothing
and prints no credentials. docs/monitoring.md section 4 lists the checks.

Options:
  --config FILE    the parent's configuration; without it only the host is checked
  --json           print one JSON document

Example:
  strongroom doctor --config parent.json

Exit codes: 0 nothing to do (warnings allowed), 1 problems, 2 usage, 3 something could not be told.
`,
  run: async (args, io) => {
    const { values } = parseArgs({
      args: [...args],
      options: { config: { type: 'string' }, json: { type: 'boolean', default: false } },
    });
    if (values.config !== undefined) await expectFile(values.config, PARENT_CONFIG_MAX_BYTES);
    return diagnose(thisWorld(values.config), io, values.json);
  },
};

/** Examines a world and reports it; resolves to the exit code. */
export async function diagnose(world: World, io: CommandIo, json: boolean): Promise<number> {
  const report = new Report(io.stdout.isTTY === true && process.env.NO_COLOR === undefined);
  const findings: Finding[] = [];
  for await (const finding of examine(world)) {
    if (io.signal.aborted) throw new CommandError('INTERRUPTED', 'Interrupted.');
    findings.push(finding);
    if (!json) io.stdout.write(report.lines(finding));
  }
  const exitCode = exitCodeOf(findings);
  if (json) io.stdout.write(`${JSON.stringify({ exitCode, checks: findings })}\n`);
  else io.stdout.write(summaryOf(findings));
  return exitCode;
}
