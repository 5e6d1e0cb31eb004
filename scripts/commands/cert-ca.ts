import { parseArgs } from 'node:util';
import { permittedName } from '../../owner/certificates/constraints.ts';
import { createFolder } from '../../owner/certificates/folder.ts';
import { createCa } from '../../owner/certificates/issue.ts';
import { CA_DAYS, curveOf, daysOf } from '../certificate-options.ts';
import type { Command } from '../command.ts';
import { CommandError } from '../errors.ts';
import { required } from '../seal-options.ts';

export const command: Command = {
  name: 'cert ca',
  summary: 'make a private CA for registries of sealed models and their clients',
  help: `
Usage: strongroom cert ca --permit NAME [--permit NAME]... -o FOLDER [OPTIONS]

Writes FOLDER/certificate.pem, for everybody who shall trust this CA, and FOLDER/key.pem (mode 600), which signs.
The CA can sign certificates of servers and clients for the permitted names alone, and no other CA: every TLS
library refuses the rest, also if the key is stolen. Nothing is overwritten.

Options:
      --permit NAME   a domain with all below it (models.example.org), an address or range (10.0.0.0/8), or the
                      SPIFFE trust domain of clients (spiffe://models.example.org); may be repeated
  -o, --out FOLDER    the folder to create
      --name TEXT     the CA's name, at most 64 characters; default: "Strongroom CA" and part of its key's digest
      --days N        default ${CA_DAYS.fallback}, at most ${CA_DAYS.max}
      --curve CURVE   P-256 or P-384 (default)
      --json          print the result as JSON

Example:
  strongroom cert ca --permit models.example.org --permit spiffe://models.example.org -o ca

Exit codes: 0 done, 2 usage, or FOLDER exists already.
`,
  async run(args, io) {
    const { values } = parseArgs({
      args: [...args],
      options: {
        permit: { type: 'string', multiple: true, default: [] },
        out: { type: 'string', short: 'o' },
        name: { type: 'string' },
        days: { type: 'string' },
        curve: { type: 'string', default: 'P-384' },
        json: { type: 'boolean', default: false },
      },
    });
    const out = required('cert ca', values.out, '-o FOLDER');
    const { name } = values;
    if (name !== undefined && !/^[\x20-\x7e]{1,64}$/.test(name)) {
      throw new CommandError('USAGE', '--name must be 1 to 64 printable ASCII characters.');
    }
    const permitted = values.permit.map(permittedName);
    if (permitted.length === 0) throw new CommandError('USAGE', 'cert ca needs at least one --permit NAME.');
    const days = daysOf('--days', values.days, CA_DAYS);
    const pair = createCa({ at: new Date(), days, name, permitted, curve: curveOf(values.curve) });
    try {
      await createFolder(out, pair);
    } finally {
      pair.keyPem.fill(0);
    }
    const notAfter = pair.certificate.validToDate.toISOString();
    const names = permitted.map(({ text }) => text);
    io.stdout.write(
      values.json
        ? `${JSON.stringify({ folder: out, permitted: names, notAfter })}\n`
        : `CA for ${names.join(', ')} in ${out}, until ${notAfter}\n`,
    );
    return 0;
  },
};
