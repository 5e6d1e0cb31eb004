import { parseArgs } from 'node:util';
import { type SignOms, signOms } from '../../owner/oms/sealed.ts';
import type { OmsManifest } from '../../owner/oms/statement.ts';
import { readPrivateKey } from '../../owner/secret-files.ts';
import { signSealedFolder } from '../../owner/sign-model.ts';
import type { Command, CommandIo } from '../command.ts';
import { CommandError } from '../errors.ts';
import { progressLine } from '../progress.ts';

export const command: Command = {
  name: 'sign',
  summary: 'sign the manifest of a sealed model',
  help: `
Usage: strongroom sign FOLDER --key FILE [--json]
       strongroom sign FOLDER --key FILE --oms BUNDLE [--oms-method shards|files] [--json]

Checks that FOLDER's manifest describes the head beside it, and replaces manifest.json by the same statement
with this key's signature.

With --oms, writes a detached OpenSSF Model Signing v1.0 bundle over payload and head instead (docs/sealed-model.md
section 12), after reading the payload and checking it; manifest.json stays as it is.

Options:
      --key FILE     private signing key (PEM, mode 600): ECDSA P-256 or Ed25519; with --oms ECDSA P-256, P-384, P-521
      --oms BUNDLE   the bundle to create, beside FOLDER and not in it, for example iris.sealed.sig
      --oms-method   "shards" (the default; one digest for each 64 MiB, those that the head holds) or "files"
      --json         print what was signed as JSON

Example:
  strongroom sign iris.sealed --key keys/signing.key.pem
  strongroom sign iris.sealed --key keys/signing.key.pem --oms iris.sealed.sig

Exit codes: 0 signed, 1 refused, 2 usage or unreadable input, 3 the payload could not be read to the end.
`,
  async run(args, io) {
    const { values, positionals } = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        key: { type: 'string' },
        oms: { type: 'string' },
        'oms-method': { type: 'string' },
        json: { type: 'boolean', default: false },
      },
    });
    const [folder, ...rest] = positionals;
    if (folder === undefined || rest.length > 0) throw new CommandError('USAGE', 'sign needs one FOLDER.');
    if (values.key === undefined) throw new CommandError('USAGE', 'sign needs --key FILE.');
    const method = methodOf(values['oms-method'], values.oms);
    const signer = await readPrivateKey(values.key);
    if (values.oms !== undefined) {
      const bundle = { sealed: folder, signer, method, out: values.oms };
      const { resources } = await signWithProgress(bundle, io);
      io.stdout.write(
        values.json
          ? `${JSON.stringify({ bundle: values.oms, method, resources })}\n`
          : `signed ${folder} into ${values.oms}: ${resources.length} digests of payload and head\n`,
      );
      return 0;
    }
    const manifest = await signSealedFolder(folder, signer);
    io.stdout.write(
      values.json
        ? `${JSON.stringify(manifest)}\n`
        : `signed ${manifest.name} version ${manifest.version}, content id ${manifest.contentId}\n`,
    );
    return 0;
  },
};

function methodOf(text: string | undefined, oms: string | undefined): 'shards' | 'files' {
  if (text !== undefined && oms === undefined)
    throw new CommandError('USAGE', '--oms-method needs --oms BUNDLE.');
  if (text === undefined || text === 'shards') return 'shards';
  if (text === 'files') return text;
  throw new CommandError('USAGE', `--oms-method must be "shards" or "files", not ${JSON.stringify(text)}.`);
}

async function signWithProgress(request: SignOms, io: CommandIo): Promise<OmsManifest> {
  const progress = progressLine(io.stderr, () => performance.now());
  try {
    return await signOms({
      ...request,
      signal: io.signal,
      onProgress: (doneBytes, totalBytes) => progress.show('reading', doneBytes, totalBytes),
    });
  } finally {
    progress.end();
  }
}
