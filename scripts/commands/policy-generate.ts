import { parseArgs } from 'node:util';
import { describePolicy } from '../../review/policy/describe.ts';
import { generateKeyPolicy } from '../../review/policy/generate.ts';
import { pcrOfText } from '../../shared/pcr.ts';
import { accountOfIdentityArn } from '../../shared/policy/arn.ts';
import type { Command } from '../command.ts';
import { CommandError } from '../errors.ts';
import {
  DEPLOYMENT_KINDS,
  IMAGE_KINDS,
  isImage,
  measureRelease,
  parseReleaseOption,
  type ReleaseChoice,
  type ReleasePart,
} from '../policy/release-options.ts';
import { expectRole } from '../role-option.ts';

export const command: Command = {
  name: 'policy generate',
  summary: 'Write the KMS key policy that releases a model to one image and deployment.',
  help: `
Usage: strongroom policy generate --role ARN --admin ARN --sealer ARN --image X.eif --deployment FILE [--json]
       strongroom policy generate --role ARN --admin ARN --sealer ARN --release image=FILE,deployment=FILE ...

Writes the key policy to standard output and what it allows, in one sentence, to standard error. Only an
enclave of that image, running that deployment on that role, can then decrypt the data keys of these models.

Who:
  --role ARN         IAM role of the parent instance; PCR3 is computed from it
  --admin ARN        may change this policy, and so must be trusted (repeatable)
  --sealer ARN       may wrap data keys, never unwrap them (repeatable)
  --account ID       the KMS key's account, 12 digits; default: the account of --role

Which image, one of:
  --image FILE       enclave image file, which is measured
  --pcrs FILE        its registers: output of image measure --json or of nitro-cli, or {"PCR0": "..."}
  --pcr0 HEX         its PCR0

Running which deployment, one of:
  --deployment FILE  deployment document; PCR16 is computed from its bytes, and it names the models
  --pcr16 HEX        the measurement itself; then --model is needed
  --model NAME       model name (repeatable); default: all that the deployment document names

Several releases side by side, for the time of an upgrade:
  --release LIST     one release, repeatable: image=FILE, pcrs=FILE, pcr0=HEX or manifest=FILE (a release manifest,
                     docs/releases.md), with deployment=FILE or pcr16=HEX, and model=NAME, with commas between.
                     A manifest or a file of registers may name the deployment itself. Each release becomes a
                     statement of its own, so the image of one cannot run the deployment of another. The options
                     above may be repeated too: the first image belongs to the first deployment.

  --json             print {policy, sentence, pcr3, releases} as one JSON document

Example:
  strongroom policy generate --role arn:aws:iam::111122223333:role/EnclaveHost \\
    --admin arn:aws:iam::111122223333:role/KeyAdmin --sealer arn:aws:iam::111122223333:role/Owner \\
    --release image=old.eif,deployment=old.json --release image=new.eif,deployment=new.json > policy.json

Exit codes: 0 written, 2 wrong options or unusable values.
`,
  run: async (args, io) => {
    const { values, tokens } = parseArgs({
      args: [...args],
      tokens: true,
      options: {
        account: { type: 'string' },
        role: { type: 'string' },
        admin: { type: 'string', multiple: true, default: [] },
        sealer: { type: 'string', multiple: true, default: [] },
        image: { type: 'string', multiple: true },
        pcrs: { type: 'string', multiple: true },
        pcr0: { type: 'string', multiple: true },
        deployment: { type: 'string', multiple: true },
        pcr16: { type: 'string', multiple: true },
        model: { type: 'string', multiple: true, default: [] },
        release: { type: 'string', multiple: true, default: [] },
        json: { type: 'boolean' },
      },
    });
    const { role } = values;
    if (role === undefined) throw new CommandError('USAGE', 'policy generate needs --role ARN.');
    expectRole(role);
    for (const name of ['admin', 'sealer'] as const) {
      if (values[name].length === 0) throw new CommandError('USAGE', `policy generate needs --${name}.`);
    }
    const parts: ReleasePart[] = [];
    for (const token of tokens) {
      if (token.kind !== 'option') continue;
      const kind = [...IMAGE_KINDS, ...DEPLOYMENT_KINDS].find((known) => known === token.name);
      if (kind !== undefined) parts.push({ kind, value: token.value ?? '' });
    }
    const choices = [...pair(parts, values.model), ...values.release.map(parseReleaseOption)];
    if (choices.length === 0) {
      throw new CommandError(
        'USAGE',
        'policy generate needs an image: --image, --pcrs, --pcr0 or --release.',
      );
    }
    const releases = [];
    for (const choice of choices) releases.push(...(await measureRelease(choice, io)));
    const policy = generateKeyPolicy({
      accountId: values.account ?? accountOfIdentityArn(role) ?? '',
      releases,
      hostRoleArn: role,
      administratorArns: values.admin,
      sealerArns: values.sealer,
    });
    const sentence = describePolicy(policy);
    if (values.json) {
      const pcr3 = Buffer.from(pcrOfText(role)).toString('hex');
      io.stdout.write(`${JSON.stringify({ policy: JSON.parse(policy), sentence, pcr3, releases })}\n`);
    } else {
      io.stdout.write(policy);
      io.stderr.write(`${sentence}\n`);
    }
    return 0;
  },
};

/** The first image belongs to the first deployment, the second to the second. */
function pair(parts: readonly ReleasePart[], models: readonly string[]): readonly ReleaseChoice[] {
  const images = parts.filter(({ kind }) => isImage(kind));
  const deployments = parts.filter(({ kind }) => !isImage(kind));
  // A file of registers may hold PCR16 as well.
  const complete = deployments.length === 0 && images.every(({ kind }) => kind === 'pcrs');
  if (images.length !== deployments.length && !complete) {
    throw new CommandError(
      'USAGE',
      `Each image needs its own --deployment or --pcr16: found ${images.length} and ${deployments.length}.`,
    );
  }
  return images.map((image, index) => ({ image, deployment: deployments[index], models }));
}
