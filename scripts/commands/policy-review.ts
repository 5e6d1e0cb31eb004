import { writeFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { exitCodeOf } from '../../review/policy/outcome.ts';
import { SEVERITIES, type Severity } from '../../review/policy/report.ts';
import { policyReviewHtml } from '../../review/policy/report-html.ts';
import { policyReviewSarif } from '../../review/policy/report-sarif.ts';
import { policyReviewText } from '../../review/policy/report-text.ts';
import { reviewPolicy } from '../../review/policy/review.ts';
import { CONTEXT_MAX_BYTES, parseSupplied, type Supplied } from '../../review/policy/supplied.ts';
import { parseSuppressions } from '../../review/policy/suppressions.ts';
import { parseKeyArn } from '../../shared/policy/arn.ts';
import type { Command, CommandIo } from '../command.ts';
import { CommandError } from '../errors.ts';
import { kmsClient } from '../kms-client.ts';
import { readLiveKey } from '../policy/live-key.ts';
import { Inputs, imageOptions, readKnownReleases, readReviewed } from '../policy/review-inputs.ts';
import { expectRole } from '../role-option.ts';

/** More than KMS stores, so that a document that is too large is refused with a report. */
const POLICY_FILE_MAX_BYTES = 1024 * 1024;

export const command: Command = {
  name: 'policy review',
  summary: 'Say whether only one image gets a KMS key, who else could, and how that is known',
  help: `
Usage: strongroom policy review POLICY.json [--image X.eif | --pcrs FILE] [--deployment FILE] [--role ARN]
                                [--key ARN] [--context FILE] [--releases DIR] [OPTIONS]
       strongroom policy review --live --key ARN [OPTIONS]

Asks the policy, as KMS would, who gets plaintext without an enclave, who with another image, whether the reviewed
image gets it, and who gets around it in one step. Every finding has a request that shows it. Nothing is changed.

What is reviewed:
      --image FILE        enclave image; it is measured here (repeatable: all of these may get the key)
      --pcrs FILE         its registers instead: image measure --json, nitro-cli's output, or {"PCR0": "..."}
      --deployment FILE   deployment document; the policy must pin its PCR16 together with PCR0 (repeatable)
      --role ARN          role of the parent instance; gives PCR3 (repeatable)
      --key ARN           the KMS key
      --context FILE      iamPolicies, grants and keyMetadata (docs/policy-review.md section 6)
      --releases DIR      release manifests, so that other images have names
      --live              read policy, grants, metadata and aliases of --key through KMS
      --kms-endpoint URL  another KMS than AWS's own
      --kms-ca FILE       its certificate authority, PEM

What is made of it:
      --suppress FILE     findings to live with, each with reason, owner and expiry
      --profile strict    accept only what policy generate writes
      --fail-on SEVERITY  critical, high, medium, low or info; default: high
      --json              print the report as JSON
      --sarif FILE        also write it as SARIF 2.1.0
      --html FILE         also write it as one page

Example:
  strongroom policy review policy.json --image strongroom.eif --deployment deployment.json \\
    --role arn:aws:iam::111122223333:role/EnclaveHost

Exit codes: 0 only this image gets the key and no finding at --fail-on or above, 1 findings, 2 the document must be
refused, or usage, 3 cannot be decided with what was supplied.
`,
  async run(args, io) {
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
        live: { type: 'boolean', default: false },
        'kms-endpoint': { type: 'string' },
        'kms-ca': { type: 'string' },
        suppress: { type: 'string' },
        profile: { type: 'string' },
        'fail-on': { type: 'string', default: 'high' },
        json: { type: 'boolean', default: false },
        sarif: { type: 'string' },
        html: { type: 'string' },
      },
    });
    const failOn = severityOption(values['fail-on']);
    if (values.profile !== undefined && values.profile !== 'strict') {
      throw new CommandError('USAGE', `--profile must be strict, not ${JSON.stringify(values.profile)}.`);
    }
    if (values.key !== undefined && parseKeyArn(values.key) === undefined) {
      throw new CommandError('USAGE', `--key must be the ARN of a key, not ${JSON.stringify(values.key)}.`);
    }
    for (const arn of values.role) expectRole(arn);
    const images = imageOptions(tokens);
    if (values.deployment.length > 0 && images.length === 0) {
      throw new CommandError('USAGE', '--deployment needs --image or --pcrs: PCR16 alone proves nothing.');
    }
    const inputs = new Inputs();
    const { policy, supplied } = await readPolicy(positionals, values, inputs, io);
    const reviewed = await readReviewed(images, values.deployment, inputs, io);
    const releases = await readKnownReleases(values.releases, inputs);
    const suppressions =
      values.suppress === undefined
        ? []
        : parseSuppressions(await inputs.file('suppressions', values.suppress, POLICY_FILE_MAX_BYTES));
    const at = new Date();
    const report = reviewPolicy({
      policy,
      reviewed,
      hostRoleArns: values.role,
      ...(values.key === undefined ? {} : { keyArn: values.key }),
      ...(supplied === undefined ? {} : { supplied }),
      releases,
      suppressions,
      now: at,
      ...(values.profile === undefined ? {} : { profile: 'strict' as const }),
      inputs: inputs.list,
    });
    const toolVersion = await version();
    if (values.sarif !== undefined) {
      await writeFile(
        values.sarif,
        `${JSON.stringify(policyReviewSarif(report, toolVersion), undefined, 2)}\n`,
      );
    }
    if (values.html !== undefined)
      await writeFile(values.html, policyReviewHtml(report, { toolVersion, at }));
    io.stdout.write(
      values.json
        ? `${JSON.stringify(report)}\n`
        : policyReviewText(report, io.stdout.isTTY === true && process.env.NO_COLOR === undefined),
    );
    return exitCodeOf(report, failOn);
  },
};

interface Where {
  readonly key?: string | undefined;
  readonly context?: string | undefined;
  readonly live: boolean;
  readonly 'kms-endpoint'?: string | undefined;
  readonly 'kms-ca'?: string | undefined;
}

async function readPolicy(
  positionals: readonly string[],
  values: Where,
  inputs: Inputs,
  io: CommandIo,
): Promise<{ policy: { name: string; bytes: Uint8Array }; supplied: Supplied | undefined }> {
  const [path, ...others] = positionals;
  const fromFile =
    values.context === undefined
      ? undefined
      : parseSupplied(await inputs.file('context', values.context, CONTEXT_MAX_BYTES));
  if (!values.live) {
    if (path === undefined || others.length > 0) {
      throw new CommandError('USAGE', `Expected exactly one policy file, found ${positionals.length}.`);
    }
    return {
      policy: { name: path, bytes: await inputs.file('policy', path, POLICY_FILE_MAX_BYTES) },
      supplied: fromFile,
    };
  }
  if (values.key === undefined) throw new CommandError('USAGE', '--live needs --key ARN.');
  if (path !== undefined)
    throw new CommandError('USAGE', '--live reads the policy from KMS; leave the file out.');
  const region = parseKeyArn(values.key)?.region ?? '';
  const client = await kmsClient(region, { endpoint: values['kms-endpoint'], caFile: values['kms-ca'] });
  try {
    const live = await readLiveKey(client, values.key);
    for (const call of live.denied) io.stderr.write(`${call} was refused; the review goes on without it.\n`);
    const bytes = Buffer.from(live.policy);
    const context = Buffer.from(JSON.stringify(live.context));
    inputs.note('policy', values.key, bytes);
    inputs.note('live', values.key, context);
    const fromKms = parseSupplied(context);
    return {
      policy: { name: values.key, bytes },
      // What KMS says today goes before what a file says of the same key.
      supplied: { ...fromFile, ...fromKms, notUnderstood: fromFile?.notUnderstood ?? [] },
    };
  } finally {
    client.destroy();
  }
}

function severityOption(text: string): Severity {
  const found = SEVERITIES.find((one) => one === text);
  if (found === undefined)
    throw new CommandError('USAGE', `--fail-on must be one of ${SEVERITIES.join(', ')}.`);
  return found;
}

async function version(): Promise<string> {
  const module = await import('../package.json', { with: { type: 'json' } });
  return (module.default as { version: string }).version;
}
