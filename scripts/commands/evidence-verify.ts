import { writeFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { readPublicKey } from '../../owner/secret-files.ts';
import { ARCHIVE_MAX_BYTES } from '../../review/bundle/members.ts';
import { bundleHtml } from '../../review/bundle/report-html.ts';
import { bundleJson, bundleText } from '../../review/bundle/report-text.ts';
import { verifyBundle } from '../../review/bundle/verify.ts';
import type { Registers } from '../../review/registers.ts';
import { awsNitroAnchor } from '../../shared/attestation/anchors.ts';
import type { Command, CommandIo } from '../command.ts';
import { CommandError } from '../errors.ts';
import { readPart } from '../evidence/options.ts';
import { measureFile } from '../image/options.ts';
import { hex } from '../image/shown.ts';
import { parseTime, readAnchor } from '../proof-input.ts';

export const command: Command = {
  name: 'evidence verify',
  summary: 'check an evidence bundle again, offline, at a given time',
  help: `
Usage: strongroom evidence verify BUNDLE.tar [--at TIME] [--signer PUBLIC] [--image X.eif] [--root FILE]
                                  [--html FILE] [--json]

Checks everything again that the bundle says, and prints each check with its outcome (docs/evidence-bundle.md):
digests, the attestation's chain, that image, deployment, attestation and key policy belong together, and the
verdict of the key policy, which is reviewed anew. Needs no network and no AWS account.

  --at TIME        when all of it must hold, for example 2026-11-30T16:22:48Z; default: "document", the
                   attestation's own time, as its certificates live for hours
  --signer PUBLIC  the public key that must have signed the bundle (PEM)
  --image X.eif    measure this image file, and compare
  --root FILE      trust this simulation root (PEM or DER) instead of the AWS root
  --html FILE      also write the result as one page
  --json           print one JSON document

Example:
  strongroom evidence verify strongroom-1.4.0.evidence.tar --signer reviewer.pub.pem

Exit codes: 0 in order; 1 refused; 2 usage, or not readable as a bundle; 3 cannot be decided with what is in it.
The cause is in "code".
`,
  async run(args, io) {
    const { values, positionals } = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        at: { type: 'string' },
        signer: { type: 'string' },
        image: { type: 'string' },
        root: { type: 'string' },
        html: { type: 'string' },
        json: { type: 'boolean', default: false },
      },
    });
    const [path, ...others] = positionals;
    if (path === undefined || others.length > 0)
      throw new CommandError('USAGE', 'Expected exactly one bundle.');
    const at = parseTime(values.at, 'document') ?? 'document';
    const anchor = values.root === undefined ? awsNitroAnchor() : await readAnchor(values.root);
    const signer = values.signer === undefined ? undefined : await readPublicKey(values.signer);
    const archive = await readPart(path, ARCHIVE_MAX_BYTES);
    const image = values.image === undefined ? undefined : await measure(values.image, io);
    const verification = verifyBundle(archive, { anchors: [anchor], at, signer, image });
    if (values.html !== undefined) await writeFile(values.html, bundleHtml(verification, path));
    io.stdout.write(values.json ? `${JSON.stringify(bundleJson(verification))}\n` : bundleText(verification));
    return verification.error?.exitCode ?? 0;
  },
};

async function measure(path: string, io: CommandIo): Promise<Registers> {
  const { measurements } = await measureFile(path, io);
  const { pcr0, pcr1, pcr2, pcr8 } = measurements;
  return new Map([pcr0, pcr1, pcr2, pcr8].map((value, index) => [[0, 1, 2, 8][index] as number, hex(value)]));
}
