import { parseArgs } from 'node:util';
import {
  isFinding,
  readCertificates,
  type ShownCertificate,
  showCertificate,
} from '../../owner/certificates/show.ts';
import type { Command } from '../command.ts';
import { CommandError } from '../errors.ts';

export const command: Command = {
  name: 'cert show',
  summary: 'show certificates, and warn of those that expire soon',
  help: `
Usage: strongroom cert show FILE... [--ca FILE] [--json]

Shows subject, names, use, chain and days left of every certificate in the PEM files, or in folders that
"strongroom cert" wrote. Private keys are neither needed nor read.

Options:
      --ca FILE   the CA (PEM file or folder) that every certificate must lead to
      --json      print the certificates as JSON

Example:
  strongroom cert show registry parent-1 --ca ca

Exit codes: 0 all valid, and none due; 1 one is expired, not yet valid, due (less than a third of its life is left, and
fewer than 30 days; less than a tenth and fewer than 7 days are said more loudly), or does not lead to --ca; 2 usage or
unreadable input.
`,
  async run(args, io) {
    const { values, positionals } = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: { ca: { type: 'string' }, json: { type: 'boolean', default: false } },
    });
    if (positionals.length === 0) throw new CommandError('USAGE', 'cert show needs at least one FILE.');
    const cas = values.ca === undefined ? [] : await readCertificates(values.ca);
    const at = new Date();
    const shown: ShownCertificate[] = [];
    for (const file of positionals) {
      const all = await readCertificates(file);
      shown.push(...all.map((each) => showCertificate(each, { file, beside: all, cas, at })));
    }
    if (values.json) io.stdout.write(`${JSON.stringify({ certificates: shown })}\n`);
    else for (const each of shown) io.stdout.write(`${text(each)}\n`);
    return shown.some(isFinding) ? 1 : 0;
  },
};

function text(shown: ShownCertificate): string {
  const { file, kind, subject, names, permitted, key, notBefore, notAfter, chain, issuer, sha256 } = shown;
  return [
    `${file}: ${subject}`,
    `  kind     ${kind}, ${key}`,
    ...(names.length > 0 ? [`  names    ${names.join(', ')}`] : []),
    ...(permitted === undefined ? [] : [`  permits  ${permitted.join(', ')}`]),
    `  valid    ${notBefore} to ${notAfter}`,
    `  chain    ${chainText(chain, issuer, subject)}`,
    `  sha256   ${sha256}`,
    `  state    ${stateText(shown)}`,
    ...(shown.leadsTo === 'not-ca' ? ['  FAIL     does not lead to --ca'] : []),
  ].join('\n');
}

function chainText(chain: readonly string[], issuer: string, subject: string): string {
  if (chain.length > 0) return chain.join(' < ');
  return issuer === subject ? 'signed by itself' : `${issuer} (not at hand)`;
}

function stateText({ state, left }: ShownCertificate): string {
  switch (state) {
    case 'valid':
      return `${left} left`;
    case 'renewal-due':
      return `WARNING: ${left} left; renew it`;
    case 'renewal-urgent':
      return `URGENT: ${left} left; renew it now`;
    case 'expired':
      return 'EXPIRED; renew it now';
    case 'not-yet-valid':
      return 'NOT YET VALID; check this machine’s clock';
  }
}
