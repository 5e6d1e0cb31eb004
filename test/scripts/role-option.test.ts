/** PCR3 is made of a role's ARN, so every command that takes one takes the same texts, before it reads anything. */
import { PassThrough } from 'node:stream';
import { describe, expect, it } from 'vitest';
import type { Command } from '../../scripts/command.ts';
import { command as evidenceBundle } from '../../scripts/commands/evidence-bundle.ts';
import { command as imageMeasure } from '../../scripts/commands/image-measure.ts';
import { command as policyDiff } from '../../scripts/commands/policy-diff.ts';
import { command as policyGenerate } from '../../scripts/commands/policy-generate.ts';
import { command as policyReview } from '../../scripts/commands/policy-review.ts';
import { command as trailReview } from '../../scripts/commands/trail-review.ts';

const COMMANDS: readonly (readonly [Command, readonly string[]])[] = [
  [policyReview, ['absent.json']],
  [policyDiff, ['absent.json', 'absent.json']],
  [policyGenerate, ['--admin', 'x', '--sealer', 'x', '--pcr0', 'x', '--pcr16', 'x']],
  [imageMeasure, ['absent.eif']],
  [evidenceBundle, ['deployment', 'policy', 'attestation', 'out'].flatMap((name) => [`--${name}`, 'absent'])],
  [trailReview, ['absent']],
];

const A = 'arn:aws:iam::111122223333';
const NONE = [
  ['a name', 'EnclaveHost'],
  ['no text', ''],
  ['a user', `${A}:user/dev`],
  ['a user whose path looks like a role', `${A}:user/x:role/EnclaveHost`],
  ['a session', 'arn:aws:sts::111122223333:assumed-role/EnclaveHost/i-0abc'],
  ['an account', `${A}:root`],
  ['an account of eleven digits', 'arn:aws:iam::11112222333:role/EnclaveHost'],
  ['a partition that is none', 'arn:AWS:iam::111122223333:role/EnclaveHost'],
  ['a wildcard', `${A}:role/*`],
  ['a wildcard in the path', `${A}:role/team-?/EnclaveHost`],
  ['no name', `${A}:role/`],
  ['a path and no name', `${A}:role/team/`],
  ['a blank around it', ` ${A}:role/EnclaveHost`],
  ['a line end', `${A}:role/EnclaveHost\n`],
  ['another letter than ASCII', `${A}:role/Encl\u0430veHost`],
] as const;

const SOME = [
  `${A}:role/EnclaveHost`,
  `${A}:role/service-role/team/Host+=,.@_-1`,
  'arn:aws-us-gov:iam::111122223333:role/EnclaveHost',
  'arn:aws-cn:iam::111122223333:role/EnclaveHost',
];

async function codeOf(command: Command, args: readonly string[]): Promise<unknown> {
  const [stdin, stdout, stderr] = [new PassThrough(), new PassThrough(), new PassThrough()];
  const io = { stdin, stdout, stderr, signal: new AbortController().signal };
  return command.run([...args], io).then(
    (exit) => `exit ${exit}`,
    ({ code, message }: { code: string; message: string }) => `${code} ${message}`,
  );
}

describe.each(COMMANDS)('--role of $name', (command, args) => {
  it.each(NONE)('refuses %s', async (_what, arn) => {
    expect(await codeOf(command, [...args, `--role=${arn}`])).toMatch(/^USAGE --role takes the whole ARN/);
  });

  it.each(SOME)('takes %s', async (arn) => {
    expect(await codeOf(command, [...args, `--role=${arn}`])).not.toContain('--role');
  });
});
