import { parseArgs } from 'node:util';
import { inspectSealed } from '../../owner/inspect-model.ts';
import { inspectLegacy } from '../../owner/legacy/legacy-file.ts';
import { recogniseModelFile } from '../../owner/model-file.ts';
import type { Command } from '../command.ts';
import { CommandError } from '../errors.ts';
import { legacyText, sealedText } from '../inspect-text.ts';
import { expectSealedOnly, readSigner } from '../model-key-options.ts';

export const command: Command = {
  name: 'inspect',
  summary: 'show what a sealed or legacy model says of itself, without any key',
  help: `
Usage: strongroom inspect MODEL [--signer PUBLIC] [--json]

Shows name, version, files, content id, the KMS keys that wrap the data key, and the layout of the payload. Marks what
is vouched for by the signature that you expect, and what is merely claimed. Reads the small files alone: whether the
payload is what the head says, "strongroom verify" checks.

Options:
      --signer PUBLIC  the public key that must have signed the manifest
      --json           print one JSON document

Example:
  strongroom inspect iris.sealed --signer keys/signing.pub.pem

Exit codes: 0 shown, 1 refused (signature, parts of different models, a payload of another size), 2 usage, or not
readable as a model.
`,
  async run(args, io) {
    const { values, positionals } = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: { signer: { type: 'string' }, json: { type: 'boolean', default: false } },
    });
    const [model, ...rest] = positionals;
    if (model === undefined || rest.length > 0) throw new CommandError('USAGE', 'inspect needs one model.');
    if ((await recogniseModelFile(model)) !== 'sealed-model') {
      expectSealedOnly(values, ['signer']);
      const legacy = await inspectLegacy(model);
      io.stdout.write(
        values.json ? `${JSON.stringify({ kind: 'legacy', ...legacy })}\n` : legacyText(model, legacy),
      );
      return 0;
    }
    const sealed = await inspectSealed(model, await readSigner(values.signer));
    io.stdout.write(
      values.json
        ? `${JSON.stringify({ kind: 'sealed-model', vouchedFor: sealed.signedBy !== undefined, ...sealed })}\n`
        : sealedText(model, sealed),
    );
    return sealed.payloadFoundBytes === sealed.payloadSizeBytes ? 0 : 1;
  },
};
