import { randomBytes } from 'node:crypto';
import { parseArgs } from 'node:util';
import { createFolder, readFolder } from '../../owner/certificates/folder.ts';
import { issueCertificate } from '../../owner/certificates/issue.ts';
import { type Name, serverName, spiffeId, trustDomainOf } from '../../owner/certificates/names.ts';
import { curveOf, LEAF_DAYS, lifeOf } from '../certificate-options.ts';
import type { Command } from '../command.ts';
import { CommandError } from '../errors.ts';
import { required } from '../seal-options.ts';

export const command: Command = {
  name: 'cert issue',
  summary: 'issue a short-lived certificate to a server or a client',
  help: `
Usage: strongroom cert issue --ca FOLDER --server NAME [--server NAME]... -o FOLDER [OPTIONS]
       strongroom cert issue --ca FOLDER --client SPIFFE-ID -o FOLDER [OPTIONS]

Makes a key and a certificate for it: FOLDER/certificate.pem and FOLDER/key.pem (mode 600). Nothing is overwritten.

A client's name goes to whoever ends its TLS, so it should say nothing about people: give only the trust domain
(spiffe://models.example.org), and the client gets a random name below it.

Options:
      --ca FOLDER      the CA that "strongroom cert ca" made
      --server NAME    a DNS name or IP address of the server; may be repeated
      --client ID      spiffe://TRUST-DOMAIN/PATH, or spiffe://TRUST-DOMAIN for a random path
  -o, --out FOLDER     the folder to create
      --days N         default ${LEAF_DAYS.fallback}, at most ${LEAF_DAYS.max}; never longer than the CA
      --hours N        in place of days, for certificates that a client of an enclave renews by itself
      --curve CURVE    P-256 (default) or P-384
      --json           print the result as JSON

Example:
  strongroom cert issue --ca ca --server registry.models.example.org -o registry
  strongroom cert issue --ca ca --client spiffe://models.example.org -o parent-1
  strongroom cert issue --ca ca --client spiffe://models.example.org --hours 24 -o app-1

Exit codes: 0 done, 1 the CA does not permit the name or ends too early, 2 usage, or FOLDER exists already.
`,
  async run(args, io) {
    const { values } = parseArgs({
      args: [...args],
      options: {
        ca: { type: 'string' },
        server: { type: 'string', multiple: true, default: [] },
        client: { type: 'string' },
        out: { type: 'string', short: 'o' },
        days: { type: 'string' },
        hours: { type: 'string' },
        curve: { type: 'string', default: 'P-256' },
        json: { type: 'boolean', default: false },
      },
    });
    const out = required('cert issue', values.out, '-o FOLDER');
    const caFolder = required('cert issue', values.ca, '--ca FOLDER');
    const days = lifeOf(values, LEAF_DAYS);
    const curve = curveOf(values.curve);
    const { use, names } = subjectOf(values.server, values.client);
    const pair = issueCertificate(await readFolder(caFolder), { at: new Date(), days, use, names, curve });
    try {
      await createFolder(out, pair);
    } finally {
      pair.keyPem.fill(0);
    }
    const notAfter = pair.certificate.validToDate.toISOString();
    const texts = names.map(({ text }) => text);
    io.stdout.write(
      values.json
        ? `${JSON.stringify({ folder: out, use, names: texts, notAfter })}\n`
        : `${use} certificate for ${texts.join(', ')} in ${out}, until ${notAfter}\n`,
    );
    return 0;
  },
};

function subjectOf(
  servers: readonly string[],
  client: string | undefined,
): { use: 'server' | 'client'; names: [Name, ...Name[]] } {
  const [first, ...rest] = servers;
  if ((first === undefined) === (client === undefined)) {
    throw new CommandError('USAGE', 'cert issue needs either --server NAME or --client SPIFFE-ID.');
  }
  if (first !== undefined) return { use: 'server', names: [serverName(first), ...rest.map(serverName)] };
  const trustDomain = trustDomainOf(String(client));
  const id =
    trustDomain === undefined ? String(client) : `spiffe://${trustDomain}/${randomBytes(16).toString('hex')}`;
  return { use: 'client', names: [spiffeId(id)] };
}
