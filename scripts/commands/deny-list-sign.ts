import { parseArgs } from 'node:util';
import { readCertificates } from '../../owner/certificates/show.ts';
import { nextDenyList, replaceFile } from '../../owner/deny-list.ts';
import { readPrivateKey } from '../../owner/secret-files.ts';
import type { Denied } from '../../shared/deny-list/deny-list.ts';
import type { Command } from '../command.ts';
import { deniedOf, readDenyList, textOf, wholeNumber } from '../deny-list-options.ts';
import { CommandError } from '../errors.ts';
import { required } from '../seal-options.ts';

const HOUR_MS = 60 * 60 * 1000;
const MAX_HOURS = 31 * 24;

export const command: Command = {
  name: 'deny-list sign',
  summary: 'sign the next deny list: clients that enclaves serve no longer',
  help: `
Usage: strongroom deny-list sign FILE --key FILE [OPTIONS]

If FILE is a deny list of this key, signs the one that follows it: the same entries and those of --deny, without those
of --undeny, the next sequence, and a new end. If there is no FILE, signs the first list. FILE is replaced at one
moment; a parent hands it on at the enclave's next request.

Run it more often than a list is valid, also when nobody is to be denied: when the last list that an enclave has seen
is over, the enclave serves nobody.

Options:
      --key FILE              private key whose public half the deployment names (PEM, mode 600)
      --deny WHAT             spiffe://TRUST-DOMAIN/PATH, subject:NAME, serial:HEX or sha256:HEX; may be repeated
      --deny-certificate FILE deny the certificates in FILE by their SHA-256; may be repeated
      --undeny WHAT           take an entry out; may be repeated
      --hours N               how long the list is valid; default 24, at most ${MAX_HOURS}
      --sequence N            in place of the next sequence, if FILE was lost: higher than any that was ever signed
      --json                  print the result as JSON

Example:
  strongroom deny-list sign deny-list.json --key keys/signing.key.pem --deny spiffe://models.example.org/app-1

Exit codes: 0 signed, 1 FILE was signed by another key, or an entry to take out is not there, 2 usage or unreadable input.
`,
  async run(args, io) {
    const { values, positionals } = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        key: { type: 'string' },
        deny: { type: 'string', multiple: true, default: [] },
        'deny-certificate': { type: 'string', multiple: true, default: [] },
        undeny: { type: 'string', multiple: true, default: [] },
        hours: { type: 'string', default: '24' },
        sequence: { type: 'string' },
        json: { type: 'boolean', default: false },
      },
    });
    const [file, ...others] = positionals;
    if (file === undefined || others.length > 0) {
      throw new CommandError('USAGE', 'deny-list sign needs exactly one FILE.');
    }
    const keyFile = required('deny-list sign', values.key, '--key FILE');
    const hours = wholeNumber('--hours', values.hours, MAX_HOURS);
    const sequence =
      values.sequence === undefined
        ? undefined
        : wholeNumber('--sequence', values.sequence, Number.MAX_SAFE_INTEGER);
    const certificates = await Promise.all(values['deny-certificate'].map(deniedCertificates));
    const { bytes, fields } = nextDenyList({
      previous: await readDenyList(file),
      signer: await readPrivateKey(keyFile),
      at: new Date(),
      lifeMs: hours * HOUR_MS,
      add: [...values.deny.map(deniedOf), ...certificates.flat()],
      remove: values.undeny.map(deniedOf),
      sequence,
    });
    await replaceFile(file, bytes);
    const expiresAt = fields.expiresAt.toISOString();
    io.stdout.write(
      values.json
        ? `${JSON.stringify({ file, sequence: fields.sequence, expiresAt, denied: fields.denied.map(textOf) })}\n`
        : `deny list ${fields.sequence} in ${file}: ${fields.denied.length} denied, until ${expiresAt}\n`,
    );
    return 0;
  },
};

async function deniedCertificates(file: string): Promise<Denied[]> {
  const certificates = await readCertificates(file);
  return certificates.map(({ fingerprint256 }) => ({
    kind: 'sha256',
    value: fingerprint256.replaceAll(':', '').toLowerCase(),
  }));
}
