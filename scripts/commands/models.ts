import { setTimeout as pause } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { readParentConfig } from '../../parent/config/config.ts';
import { type EnclaveControl, type EnclaveModel, enclaveControl } from '../../parent/control.ts';
import type { Command } from '../command.ts';
import { CommandError } from '../errors.ts';
import { openLink } from '../parent-link.ts';

const POLL_MS = 250;

export const command: Command = {
  name: 'models',
  summary: 'show which models an enclave serves; replace one by a newer version, unload it, load it again',
  help: `
Usage: strongroom models --config FILE [--json]
       strongroom models load NAME --config FILE [--json]
       strongroom models unload NAME --config FILE [--json]

Asks the running enclave, on its control port, from the host that it runs on. "load" has the enclave take what the
model store offers under NAME now, in the place of what it serves, and waits until it serves it or has refused it. No
request is dropped (docs/serving.md section 9). Which models, by whose signature and from which version on, is the
deployment's to say; an older version than one that was served is refused.

Options:
  --config FILE    the parent's configuration, which names the enclave
  --json           print one JSON document

Example:
  strongroom models load iris --config /etc/strongroom/parent.json

Exit codes: 0 done; 1 the enclave refused, and serves what it served before; 2 usage or unreadable configuration; 3 the
enclave cannot be reached, or is busy with another model. The cause is the code that is printed.
`,
  async run(args, io) {
    const { values, positionals } = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: { config: { type: 'string' }, json: { type: 'boolean', default: false } },
    });
    if (values.config === undefined) throw new CommandError('USAGE', 'models needs --config FILE.');
    const change = changeOf(positionals);
    const { link } = await readParentConfig(values.config);
    const control = enclaveControl(await openLink(link));
    try {
      const outcome = await perform(control, change, io.signal);
      io.stdout.write(values.json ? `${JSON.stringify(outcome)}\n` : asText(outcome));
      return exitCodeOf(outcome);
    } finally {
      control.close();
    }
  },
};

interface Change {
  readonly verb: 'load' | 'unload';
  readonly name: string;
}

interface Outcome {
  /** Why the change was refused or failed; null if it was done, or none was asked for. */
  readonly refused: string | null;
  readonly models: readonly EnclaveModel[];
}

function changeOf([verb, name, ...rest]: readonly string[]): Change | undefined {
  if (verb === undefined || (verb === 'list' && name === undefined)) return undefined;
  if ((verb !== 'load' && verb !== 'unload') || name === undefined || rest.length > 0) {
    throw new CommandError('USAGE', 'models takes "load NAME", "unload NAME", or nothing.');
  }
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/.test(name)) {
    throw new CommandError(
      'USAGE',
      `Expected the name of a model, found ${JSON.stringify(name.slice(0, 64))}.`,
    );
  }
  return { verb, name };
}

async function perform(
  control: EnclaveControl,
  change: Change | undefined,
  signal: AbortSignal,
): Promise<Outcome> {
  if (change === undefined) return { refused: null, models: await control.models() };
  const answer = await control.changeModel(change.name, change.verb);
  if (answer.refused !== null) return answer;
  let { models } = answer;
  // Loading goes on in the enclave whoever waits for it: an interrupt ends the waiting alone.
  while (models.some(({ name, loading }) => name === change.name && loading)) {
    await pause(POLL_MS, undefined, { signal });
    models = await control.models();
  }
  const failure = models.find(({ name }) => name === change.name)?.failure ?? null;
  return { refused: change.verb === 'load' ? failure : null, models };
}

function exitCodeOf({ refused }: Outcome): number {
  if (refused === null) return 0;
  if (refused === 'MODELS_UNKNOWN') return 2;
  return refused === 'MODELS_BUSY' ? 3 : 1;
}

function asText({ refused, models }: Outcome): string {
  const width = Math.max(...models.map(({ name }) => name.length), 0);
  const lines = models.map(({ name, version, contentId, loading, failure, inMemory }) => {
    const serves = version === null ? 'not loaded' : `version ${version}  ${contentId?.slice(0, 16)}`;
    const notes = [
      ...(loading ? ['loading another'] : []),
      ...(inMemory > 1 ? [`${inMemory} in memory: old connections are finishing`] : []),
      ...(failure === null ? [] : [`last loading failed: ${failure}`]),
    ];
    return `${name.padEnd(width)}  ${serves}${notes.length === 0 ? '' : `  (${notes.join('; ')})`}\n`;
  });
  return `${refused === null ? '' : `Refused: ${refused}\n`}${lines.join('')}`;
}
