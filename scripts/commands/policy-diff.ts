import { basename } from 'node:path';
import { parseArgs } from 'node:util';
import { diffPolicies } from '../../review/policy/diff.ts';
import { diffSentence, diffText } from '../../review/policy/diff-text.ts';
import { CONTEXT_MAX_BYTES, parseSupplied } from '../../review/policy/supplied.ts';
import { parseKeyArn } from '../../shared/policy/arn.ts';
import { POLICY_MAX_BYTES, parsePolicy } from '../../shared/policy/parse.ts';
import type { Command } from '../command.ts';
import { CommandError } from '../errors.ts';
import { readSmallFile } from '../input-file.ts';
import { Inputs, imageOptions, readKnownReleases, readReviewed } from '../policy/review-inputs.ts';
import { expectRole } from '../role-option.ts';

export const command: Command = {
  name: 'policy diff',
  summary: 'Say which requests get another answer under a new key policy than under the old one',
  help: `
Usage: strongroom policy diff OLD.json NEW.json [--image X.eif | --pcrs FILE] [--deployment FILE] [--role ARN]
                              [--key ARN] [--context FILE] [--releases DIR] [--json]

Asks both policies the same requests: for every principal, action and attestation document that the two can tell apart,
and with every value of a condition key that they mention. Says who gains and who loses what, with a request that
shows it and the statements that decide it (docs/policy.md section 10). Reordering and renaming change nothing.

Options:
  --image FILE       enclave image; what is about it is called the reviewed image (repeatable)
  --pcrs FILE        its registers instead: output of image measure --json, or {"PCR0": "..."}
  --deployment FILE  deployment document that it runs (repeatable)
  --role ARN         role of the parent instance (repeatable)
  --key ARN          the key
  --context FILE     iamPolicies, grants and keyMetadata, the same for both (docs/policy-review.md section 6)
  --releases DIR     release manifests, so that other images have names
  --json             print one JSON document

Example:
  strongroom policy diff old.json new.json --releases releases/

Exit codes: 0 no request changes its answer; 1 some do; 2 usage, or a policy that cannot be read; 3 the search was
given up before it found a change.
`,
  run: async (args, io) => {
    const { values, positionals, tokens } = parseArgs({
      args: [...args],
      allowPositionals: true,
      tokens: true,
      options: {
        image: { type: 'string', multiple: true },
        pcrs: { type: 'string', multiple: true },
        deployment: { type: 'string', multiple: true, default: [] },
        role: { type: 'string', multiple: true, default: [] },
        key: { type: 'string' },
        context: { type: 'string' },
        releases: { type: 'string' },
        json: { type: 'boolean', default: false },
      },
    });
    const [oldPath, newPath, ...others] = positionals;
    if (oldPath === undefined || newPath === undefined || others.length > 0) {
      throw new CommandError(
        'USAGE',
        `Expected two policies, the old and the new, found ${positionals.length}.`,
      );
    }
    if (values.key !== undefined && parseKeyArn(values.key) === undefined) {
      throw new CommandError('USAGE', `--key takes the ARN of a key, not ${JSON.stringify(values.key)}.`);
    }
    for (const arn of values.role) expectRole(arn);
    const images = imageOptions(tokens);
    const inputs = new Inputs();
    const supplied =
      values.context === undefined
        ? undefined
        : parseSupplied(await inputs.file('context', values.context, CONTEXT_MAX_BYTES));
    const diff = diffPolicies({
      before: parsePolicy(await readSmallFile(oldPath, POLICY_MAX_BYTES), 'key'),
      after: parsePolicy(await readSmallFile(newPath, POLICY_MAX_BYTES), 'key'),
      reviewed: await readReviewed(images, values.deployment, inputs, io),
      hostRoleArns: values.role,
      now: new Date(),
      ...(values.key === undefined ? {} : { keyArn: values.key }),
      ...(supplied === undefined ? {} : { supplied }),
      releases: await readKnownReleases(values.releases, inputs),
    });
    if (values.json) {
      const schema = { name: 'strongroom-policy-diff', version: 1 };
      const same = diff.changes.length === 0 && !diff.gaveUp;
      io.stdout.write(`${JSON.stringify({ schema, same, sentence: diffSentence(diff), ...diff })}\n`);
    } else {
      const [before, after] = [basename(oldPath), basename(newPath)];
      io.stdout.write(
        diffText(diff, before === after ? { before: oldPath, after: newPath } : { before, after }),
      );
    }
    if (diff.changes.length > 0) return 1;
    return diff.gaveUp ? 3 : 0;
  },
};
