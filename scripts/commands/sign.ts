import { parseArgs } from 'node:util';
import { readPrivateKey } from '../../owner/secret-files.ts';
import { signSealedFolder } from '../../owner/sign-model.ts';
import type { Command } from '../command.ts';
import { CommandError } from '../errors.ts';

export const command: Command = {
  name: 'sign',
  summary: 'sign the manifest of a sealed model',
  help: `
Usage: strongroom sign FOLDER --key FILE [--json]

Checks that FOLDER's manifest describes the head beside it, and replaces manifest.json by the same statement
with this key's signature.

Options:
      --key FILE   private signing key (PEM, ECDSA P-256 or Ed25519, mode 600)
      --json       print what was signed as JSON

Example:
  strongroom sign iris.sealed --key keys/signing.key.pem

Exit codes: 0 signed, 1 refused, 2 usage or unreadable input.
`,
  async run(args, io) {
    const { values, positionals } = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: { key: { type: 'string' }, json: { type: 'boolean', default: false } },
    });
    const [folder, ...rest] = positionals;
    if (folder === undefined || rest.length > 0) throw new CommandError('USAGE', 'sign needs one FOLDER.');
    if (values.key === undefined) throw new CommandError('USAGE', 'sign needs --key FILE.');
    const manifest = await signSealedFolder(folder, await readPrivateKey(values.key));
    io.stdout.write(
      values.json
        ? `${JSON.stringify(manifest)}\n`
        : `signed ${manifest.name} version ${manifest.version}, content id ${manifest.contentId}\n`,
    );
    return 0;
  },
};
