/** What `strongroom run --check` shows: the sum of the enclave's memory, and what does not fit. */
import type { ParentConfig } from '../parent/config/config.ts';
import { checkEnclave } from '../parent/nitro/check.ts';
import type { Sizing } from '../parent/nitro/sizing.ts';
import { modelsOf } from '../parent/parent.ts';
import type { CommandIo } from './command.ts';

/** Resolves to the exit code: 0 it fits, 1 it does not. */
export async function checkParent(config: ParentConfig, json: boolean, io: CommandIo): Promise<number> {
  const sizing = await sizingOf(config);
  if (json) io.stdout.write(`${JSON.stringify({ configuration: 'accepted', enclave: sizing ?? null })}\n`);
  else io.stdout.write(`The configuration is accepted. Nothing was started.\n${shown(sizing)}`);
  return sizing?.fits === false ? 1 : 0;
}

async function sizingOf(config: ParentConfig): Promise<Sizing | undefined> {
  if (config.enclave?.kind !== 'nitro-cli') return undefined;
  const store = modelsOf(config);
  try {
    return await checkEnclave(config, config.enclave, { store });
  } finally {
    store.close();
  }
}

function shown(sizing: Sizing | undefined): string {
  if (sizing === undefined) return 'Somebody else starts the enclave, so there is no size to check.\n';
  const rows = [
    ...sizing.uses.map(({ what, mib }) => [`  ${what}`, mib] as const),
    ['needed', sizing.neededMib] as const,
    ['enclave.memoryMib', sizing.memoryMib] as const,
  ];
  const width = Math.max(...rows.map(([what]) => what.length)) + 2;
  const lines = rows.map(([what, mib]) => `${what.padEnd(width)}${String(mib).padStart(8)} MiB`);
  const findings = sizing.findings.map(({ severity, text }) => `${severity}: ${text}`);
  const verdict = sizing.fits ? 'The enclave fits.' : 'The enclave does not fit.';
  return `${['', 'The memory of the enclave:', ...lines, '', ...findings, verdict].join('\n')}\n`;
}
