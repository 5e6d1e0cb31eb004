import { writeFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { readReleases } from '../../review/releases.ts';
import { SEVERITIES, type Severity } from '../../review/trail/codes.ts';
import { TrailError } from '../../review/trail/errors.ts';
import { reviewTrail } from '../../review/trail/read.ts';
import type { TrailVerdict } from '../../review/trail/report.ts';
import { trailHtml } from '../../review/trail/report-html.ts';
import { trailText } from '../../review/trail/report-text.ts';
import { accountOfIdentityArn, accountOfRootArn, parseKeyArn } from '../../shared/policy/arn.ts';
import type { Command } from '../command.ts';
import { CommandError } from '../errors.ts';
import { progressLine } from '../progress.ts';
import { expectRole } from '../role-option.ts';

const EXIT_CODES: Readonly<Record<TrailVerdict, number>> = {
  CLEAN: 0,
  FINDINGS: 1,
  UNREADABLE: 2,
  UNDECIDED: 3,
};

export const command: Command = {
  name: 'trail review',
  summary: 'See in CloudTrail who used the key, with which image, and who tried',
  help: `
Usage: strongroom trail review PATH... [--key ARN]... [--releases DIR] [--role ARN]... [--admin ARN]...
                               [--sealer ARN]... [--fail-on SEVERITY] [--json] [--html FILE]

Reads CloudTrail's files and says of every use of the key whether it was attested, by which image, from which role;
who was refused and why; and who changed the key, its policy or its grants (docs/trail.md). PATH is a file or a
folder, as S3 has them ({"Records": [...]}, gzip or not), or JSON lines. Any size, in constant memory.

Options:
  --key ARN           the key, by ARN or id (repeatable); default: every key in the trail
  --releases DIR      release manifests (strongroom image release): which images are known, and by what name
  --role ARN          IAM role of the parent instances (repeatable)
  --admin ARN         whose changes of the key policy are expected, though still shown (repeatable)
  --sealer ARN        who may seal; anybody else who encrypts is a finding (repeatable)
  --fail-on SEVERITY  least severity that counts as a finding: critical, high, medium, low (default), info
  --html FILE         also write the report as one page, with a picture of when what happened
  --json              print one JSON document (docs/trail.md section 5)

Example:
  strongroom trail review trail/ --key arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab \\
    --releases releases/ --role arn:aws:iam::111122223333:role/EnclaveHost --html trail.html

Exit codes: 0 nothing to object to; 1 findings; 2 not everything could be read, or usage; 3 cannot say (no release
manifests were given, or no record is about the key). The cause is in "verdict".
`,
  run: async (args, io) => {
    const { values, positionals } = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        key: { type: 'string', multiple: true, default: [] },
        releases: { type: 'string' },
        role: { type: 'string', multiple: true, default: [] },
        admin: { type: 'string', multiple: true, default: [] },
        sealer: { type: 'string', multiple: true, default: [] },
        'fail-on': { type: 'string', default: 'low' },
        html: { type: 'string' },
        json: { type: 'boolean', default: false },
      },
    });
    if (positionals.length === 0) throw new CommandError('USAGE', 'trail review needs a file or folder.');
    const failOn = SEVERITIES.find((severity): severity is Severity => severity === values['fail-on']);
    if (failOn === undefined) {
      throw new CommandError(
        'USAGE',
        `--fail-on takes ${SEVERITIES.join(', ')}, not ${JSON.stringify(values['fail-on'])}.`,
      );
    }
    for (const key of values.key) expectKey(key);
    for (const arn of values.role) expectRole(arn);
    for (const name of ['admin', 'sealer'] as const) {
      for (const arn of values[name]) expectPrincipal(name, arn);
    }
    const expected = {
      keys: values.key,
      releases: values.releases === undefined ? undefined : await readReleases(values.releases),
      hostRoleArns: values.role,
      administratorArns: values.admin,
      sealerArns: values.sealer,
    };
    const progress = progressLine(io.stderr, () => performance.now());
    const report = await reviewTrail(positionals, expected, {
      failOn,
      onProgress: (doneBytes, totalBytes) => {
        if (io.signal.aborted) throw new CommandError('INTERRUPTED', 'Interrupted.');
        progress.show('reading', doneBytes, totalBytes);
      },
    }).finally(() => progress.end());
    if (values.html !== undefined) await writeFile(values.html, trailHtml(report));
    const colour = io.stdout.isTTY === true && process.env.NO_COLOR === undefined;
    io.stdout.write(values.json ? `${JSON.stringify(report)}\n` : trailText(report, colour));
    return EXIT_CODES[report.verdict];
  },
};

function expectKey(key: string): void {
  if (
    parseKeyArn(key) === undefined &&
    !/^(mrk-[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})$/.test(key)
  ) {
    throw new TrailError('TRAIL_KEY', `--key: expected a key's ARN or id, found ${JSON.stringify(key)}`);
  }
}

function expectPrincipal(option: string, arn: string): void {
  if (accountOfIdentityArn(arn) === undefined && accountOfRootArn(arn) === undefined) {
    throw new CommandError(
      'USAGE',
      `--${option} takes the ARN of a role or user, not ${JSON.stringify(arn)}.`,
    );
  }
}
