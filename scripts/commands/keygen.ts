import { parseArgs } from 'node:util';
import { type KeyPurpose, writeOwnerKeys } from '../../owner/keygen.ts';
import type { Command } from '../command.ts';
import { CommandError } from '../errors.ts';

export const command: Command = {
  name: 'keygen',
  summary: 'make the owner’s signing key and recovery key',
  help: `
Usage: strongroom keygen [-o FOLDER] [--only signing|recovery] [--json]

Writes into FOLDER (created if absent; nothing is overwritten):
  signing.key.pem    ECDSA P-256, private, mode 600: signs manifests
  signing.pub.pem    its public half: goes into deployment documents
  recovery.key.pem   RSA-3072, private, mode 600: opens recovery wraps; keep it offline
  recovery.pub.pem   its public half: "strongroom seal --recovery-key"

Options:
  -o, --out FOLDER   where the keys go; default: keys
      --only KIND    make only this pair
      --json         print the files as JSON

Example:
  strongroom keygen -o keys

Exit codes: 0 done, 2 usage, or a file exists already.
`,
  async run(args, io) {
    const { values } = parseArgs({
      args: [...args],
      options: {
        out: { type: 'string', short: 'o', default: 'keys' },
        only: { type: 'string' },
        json: { type: 'boolean', default: false },
      },
    });
    const files = await writeOwnerKeys(values.out, purposesOf(values.only));
    if (values.json) io.stdout.write(`${JSON.stringify({ keys: files })}\n`);
    else {
      for (const { purpose, privateFile, publicFile } of files) {
        io.stdout.write(`${purpose}: ${privateFile} (secret, mode 600), ${publicFile}\n`);
      }
    }
    return 0;
  },
};

function purposesOf(only: string | undefined): readonly KeyPurpose[] {
  if (only === undefined) return ['signing', 'recovery'];
  if (only === 'signing' || only === 'recovery') return [only];
  throw new CommandError('USAGE', `--only must be "signing" or "recovery", not ${JSON.stringify(only)}.`);
}
