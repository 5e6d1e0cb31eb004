import { parseArgs } from 'node:util';
import { readPublicKey } from '../../owner/secret-files.ts';
import {
  type DenyListFields,
  openDenyList,
  parseDenyList,
  verifyDenyList,
} from '../../shared/deny-list/deny-list.ts';
import type { Command } from '../command.ts';
import { readDenyList, textOf, wholeNumber } from '../deny-list-options.ts';
import { CommandError } from '../errors.ts';

const HOUR_MS = 60 * 60 * 1000;

export const command: Command = {
  name: 'deny-list show',
  summary: 'show a deny list, and warn before it ends',
  help: `
Usage: strongroom deny-list show FILE [--signer FILE] [--within HOURS] [--json]

Shows whom the list denies, its sequence, and how long it still holds.

Options:
      --signer FILE    public key that must have signed it (PEM); without it the signature is not checked
      --within HOURS   warn if the list ends within these hours; default: only once it has ended
      --json           print the list as JSON

Example:
  strongroom deny-list show deny-list.json --signer keys/signing.pub.pem --within 8

Exit codes: 0 it holds; 1 it has ended, ends within HOURS, begins later, or was not signed by --signer; 2 usage or
unreadable input.
`,
  async run(args, io) {
    const { values, positionals } = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        signer: { type: 'string' },
        within: { type: 'string' },
        json: { type: 'boolean', default: false },
      },
    });
    const [file, ...others] = positionals;
    if (file === undefined || others.length > 0) {
      throw new CommandError('USAGE', 'deny-list show needs exactly one FILE.');
    }
    const within = values.within === undefined ? 0 : wholeNumber('--within', values.within, 31 * 24);
    const bytes = await readDenyList(file);
    if (bytes === undefined) throw new CommandError('INPUT_UNREADABLE', `There is no file ${file}.`);
    const list: DenyListFields =
      values.signer === undefined
        ? parseDenyList(openDenyList(bytes).payload)
        : verifyDenyList(bytes, await readPublicKey(values.signer));
    const state = stateOf(list, new Date(), within);
    const shown = {
      file,
      signature: values.signer === undefined ? 'not-checked' : 'valid',
      sequence: list.sequence,
      issuedAt: list.issuedAt.toISOString(),
      expiresAt: list.expiresAt.toISOString(),
      state,
      denied: list.denied.map(textOf),
    };
    io.stdout.write(values.json ? `${JSON.stringify(shown)}\n` : textForPeople(shown));
    return state === 'valid' ? 0 : 1;
  },
};

type State = 'valid' | 'ends-soon' | 'ended' | 'not-yet';

function stateOf({ issuedAt, expiresAt }: DenyListFields, at: Date, withinHours: number): State {
  if (at >= expiresAt) return 'ended';
  if (at < issuedAt) return 'not-yet';
  return expiresAt.getTime() - at.getTime() < withinHours * HOUR_MS ? 'ends-soon' : 'valid';
}

const STATES: Readonly<Record<State, string>> = {
  valid: 'holds',
  'ends-soon': 'WARNING: ends soon; sign the next one',
  ended: 'ENDED: enclaves that need it serve nobody; sign the next one now',
  'not-yet': 'NOT YET VALID; check this machine’s clock',
};

function textForPeople(shown: {
  readonly file: string;
  readonly signature: string;
  readonly sequence: number;
  readonly issuedAt: string;
  readonly expiresAt: string;
  readonly state: State;
  readonly denied: readonly string[];
}): string {
  return [
    `${shown.file}: deny list ${shown.sequence}`,
    `  signature  ${shown.signature === 'valid' ? 'by --signer' : 'not checked: give --signer'}`,
    `  valid      ${shown.issuedAt} to ${shown.expiresAt}`,
    `  state      ${STATES[shown.state]}`,
    `  denied     ${shown.denied.length === 0 ? 'nobody' : shown.denied.length}`,
    ...shown.denied.map((denied) => `    ${denied}`),
    '',
  ].join('\n');
}
