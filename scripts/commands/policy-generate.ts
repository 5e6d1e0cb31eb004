import { parseArgs } from 'node:util';
import { describePolicy } from '../../review/policy/describe.ts';
import { generateKeyPolicy, type PolicyRelease } from '../../review/policy/generate.ts';
import { pcrOfMeasuredBytes, pcrOfText } from '../../shared/pcr.ts';
import type { Command } from '../command.ts';
import { readDeploymentFile } from '../deployment-file.ts';
import { CommandError } from '../errors.ts';

export const command: Command = {
  name: 'policy generate',
  summary: 'Write the KMS key policy that releases a model to one image and deployment.',
  help: `
Usage: strongroom policy generate --account ID --role ARN --admin ARN --sealer ARN
                                  --pcr0 HEX (--deployment FILE | --pcr16 HEX) [--model NAME] [--json]

Writes the key policy to standard output and what it allows, in one sentence, to standard error. Only an
enclave of that image, running that deployment on that role, can then decrypt the data keys of these models.

Options:
  --account ID       the KMS key's account, 12 digits
  --role ARN         IAM role of the parent instance; PCR3 is computed from it
  --admin ARN        may change this policy, and so must be trusted (repeatable)
  --sealer ARN       may wrap data keys, never unwrap them (repeatable)
  --pcr0 HEX         measurement of the image (repeatable)
  --deployment FILE  deployment document; PCR16 is computed from its bytes (repeatable)
  --pcr16 HEX        instead of --deployment: the measurement itself (repeatable)
  --model NAME       model name (repeatable); default: all that the deployment documents name
  --json             print {policy, sentence, pcr3, releases} as one JSON document

For an upgrade window give two pairs: the first --pcr0 belongs to the first --deployment or --pcr16, the second
to the second. Each pair becomes a statement of its own, so image and deployment cannot be mixed.

Example:
  strongroom policy generate --account 111122223333 \\
    --role arn:aws:iam::111122223333:role/EnclaveHost --admin arn:aws:iam::111122223333:role/KeyAdmin \\
    --sealer arn:aws:iam::111122223333:role/Owner --pcr0 d99dda1d... --deployment deployment.json > policy.json

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
        pcr0: { type: 'string', multiple: true, default: [] },
        deployment: { type: 'string', multiple: true, default: [] },
        pcr16: { type: 'string', multiple: true, default: [] },
        model: { type: 'string', multiple: true, default: [] },
        json: { type: 'boolean' },
      },
    });
    const { account, role } = values;
    if (account === undefined) throw new CommandError('USAGE', 'policy generate needs --account ID.');
    if (role === undefined) throw new CommandError('USAGE', 'policy generate needs --role ARN.');
    for (const name of ['admin', 'sealer', 'pcr0'] as const) {
      if (values[name].length === 0) throw new CommandError('USAGE', `policy generate needs --${name}.`);
    }
    const deployments: DeploymentOption[] = [];
    for (const token of tokens) {
      if (token.kind !== 'option' || (token.name !== 'deployment' && token.name !== 'pcr16')) continue;
      deployments.push({ kind: token.name, value: token.value ?? '' });
    }
    const releases = await pairReleases(values.pcr0, deployments, values.model);
    const policy = generateKeyPolicy({
      accountId: account,
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

interface DeploymentOption {
  readonly kind: 'deployment' | 'pcr16';
  readonly value: string;
}

async function pairReleases(
  images: readonly string[],
  deployments: readonly DeploymentOption[],
  models: readonly string[],
): Promise<PolicyRelease[]> {
  if (images.length !== deployments.length) {
    throw new CommandError(
      'USAGE',
      `Each --pcr0 needs its own --deployment or --pcr16: found ${images.length} and ${deployments.length}.`,
    );
  }
  const releases: PolicyRelease[] = [];
  for (const [index, pcr0] of images.entries()) {
    const { kind, value } = deployments[index] as DeploymentOption;
    const { pcr16, names } = kind === 'pcr16' ? { pcr16: value, names: undefined } : await measure(value);
    const unnamed = names === undefined ? undefined : models.find((model) => !names.includes(model));
    if (unnamed !== undefined) {
      throw new CommandError('USAGE', `${value} names the models ${names?.join(', ')}, not ${unnamed}.`);
    }
    const own = models.length > 0 ? models : (names ?? []);
    if (own.length === 0)
      throw new CommandError('USAGE', 'With --pcr16, policy generate needs --model NAME.');
    releases.push(...own.map((modelName) => ({ pcr0, pcr16, modelName })));
  }
  return releases;
}

async function measure(path: string): Promise<{ pcr16: string; names: readonly string[] }> {
  const { bytes, deployment } = await readDeploymentFile(path);
  return {
    pcr16: Buffer.from(pcrOfMeasuredBytes(bytes)).toString('hex'),
    names: deployment.models.map(({ name }) => name),
  };
}
