import type { X509Certificate } from 'node:crypto';
import { parseArgs } from 'node:util';
import { readFolder, replaceInFolder } from '../../owner/certificates/folder.ts';
import { daysOfLife, type Holder, renewCertificate } from '../../owner/certificates/issue.ts';
import { type Expiry, expiryOf, timeLeft } from '../../shared/expiry.ts';
import { CA_DAYS, daysOf, LEAF_DAYS, lifeOf } from '../certificate-options.ts';
import type { Command } from '../command.ts';
import { CommandError } from '../errors.ts';

const DAY_MS = 24 * 60 * 60 * 1000;

export const command: Command = {
  name: 'cert renew',
  summary: 'renew certificates before they expire',
  help: `
Usage: strongroom cert renew FOLDER... --ca FOLDER [OPTIONS]

Renews each certificate that has few days left, for the same names and as many days as before, and leaves the others
as they are: meant to run every day. Certificate and key are replaced together at one moment, and the old ones stay
until the new ones are whole. What uses them must read them again: a parent does by itself, a web server when it is
told ("nginx -s reload").

A CA is renewed by itself (FOLDER and --ca are the same), keeps its key, and vouches for what it has signed; hand its
new certificate.pem to everybody who trusts it.

Options:
      --ca FOLDER     the CA that issued the certificates
      --within DAYS   renew what has fewer days left; default: 30, or a third of its life if that is less
      --days N        another life than before; at most ${LEAF_DAYS.max}, for a CA ${CA_DAYS.max}
      --hours N       the same in hours
      --keep-key      keep the key; default: a new one
      --json          print the results as JSON

Example:
  strongroom cert renew registry --ca ca && nginx -s reload

Exit codes: 0 renewed or not due yet, 1 refused (another CA, or it ends too early), 2 usage or unreadable input.
`,
  async run(args, io) {
    const { values, positionals } = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        ca: { type: 'string' },
        within: { type: 'string' },
        days: { type: 'string' },
        hours: { type: 'string' },
        'keep-key': { type: 'boolean', default: false },
        json: { type: 'boolean', default: false },
      },
    });
    if (positionals.length === 0 || values.ca === undefined) {
      throw new CommandError('USAGE', 'cert renew needs at least one FOLDER and --ca FOLDER.');
    }
    const within = values.within === undefined ? undefined : daysOf('--within', values.within, CA_DAYS);
    const ca = await readFolder(values.ca);
    const results = [];
    for (const folder of positionals) {
      const old = await readFolder(folder);
      const at = new Date();
      const due = isDue(old, at, within);
      const days = lifeOf(values, {
        ...(old.certificate.ca ? CA_DAYS : LEAF_DAYS),
        fallback: daysOfLife(old.certificate),
      });
      const now = due
        ? await renew(folder, ca, old, { at, days, keepKey: values['keep-key'] })
        : old.certificate;
      const result = { folder, renewed: due, days: expiry(now, at).days };
      results.push({ ...result, notAfter: now.validToDate.toISOString() });
      if (!values.json) {
        const what = due ? 'renewed' : 'not due';
        io.stdout.write(
          `${folder}: ${what}, until ${now.validToDate.toISOString()} (${timeLeft(now.validToDate, at)})\n`,
        );
      }
    }
    if (values.json) io.stdout.write(`${JSON.stringify({ certificates: results })}\n`);
    return 0;
  },
};

async function renew(folder: string, ca: Holder, old: Holder, life: Parameters<typeof renewCertificate>[2]) {
  const pair = renewCertificate(ca, old, life);
  try {
    await replaceInFolder(folder, pair, life.at.getTime());
    return pair.certificate;
  } finally {
    pair.keyPem.fill(0);
  }
}

function isDue({ certificate }: Holder, at: Date, within: number | undefined): boolean {
  if (within === undefined) return expiry(certificate, at).step !== undefined;
  return certificate.validToDate.getTime() - at.getTime() < within * DAY_MS;
}

function expiry({ validFromDate, validToDate }: X509Certificate, at: Date): Expiry {
  return expiryOf({ from: validFromDate, until: validToDate }, at.getTime());
}
