import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { auditBucket, exitCodeOf } from '../../review/bucket/audit.ts';
import { auditSarif } from '../../review/bucket/report-sarif.ts';
import { auditText } from '../../review/bucket/report-text.ts';
import { collectBucket } from '../bucket/collect.ts';
import { BUCKET_HELP, BUCKET_OPTIONS, openBucket } from '../bucket/options.ts';
import type { Command } from '../command.ts';
import { CommandError } from '../errors.ts';

const OBJECTS_DEFAULT = 10_000;
const FORMATS = ['text', 'json', 'sarif'] as const;

export const command: Command = {
  name: 'bucket audit',
  summary: 'check a bucket of sealed models, and that all in it is sealed',
  help: `
Usage: strongroom bucket audit BUCKET [OPTIONS]

Reads the configuration of the bucket and the first bytes of its objects, changes nothing, and says for every check
what was seen. The bucket policy is judged by asking it: what would happen to this request, by anybody, without TLS,
without the header, with another key?

      --format FORMAT       text, json or sarif; default: text. --json is --format json
      --objects N           how many objects are looked at; default: ${OBJECTS_DEFAULT}
      --fail-on-warning     let warnings count as findings
${BUCKET_HELP}

Needs s3:GetBucket*, s3:GetEncryptionConfiguration, s3:GetLifecycleConfiguration, s3:GetReplicationConfiguration,
s3:ListBucket and s3:GetObject; a check that was denied says so and is not passed.

Example:
  strongroom bucket audit example-models --region eu-central-1

Exit codes: 0 nothing failed, 1 findings, 2 usage or unreadable bucket, 3 a check could not be decided.
`,
  async run(args, io) {
    const { values, positionals } = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        ...BUCKET_OPTIONS,
        format: { type: 'string' },
        json: { type: 'boolean', default: false },
        objects: { type: 'string', default: String(OBJECTS_DEFAULT) },
        'fail-on-warning': { type: 'boolean', default: false },
      },
    });
    const format = FORMATS.find((one) => one === (values.format ?? (values.json ? 'json' : 'text')));
    if (format === undefined)
      throw new CommandError('USAGE', `--format must be one of ${FORMATS.join(', ')}.`);
    if (!/^[0-9]{1,7}$/.test(values.objects)) throw new CommandError('USAGE', '--objects must be a number.');
    using place = await openBucket('bucket audit', positionals, values);
    const snapshot = await collectBucket({ ...place, signal: io.signal, objectsMax: Number(values.objects) });
    const report = auditBucket(snapshot);
    const text =
      format === 'text'
        ? auditText(report, io.stdout.isTTY === true && process.env.NO_COLOR === undefined)
        : `${JSON.stringify(format === 'json' ? report : auditSarif(report, toolVersion()), undefined, 2)}\n`;
    io.stdout.write(text);
    return exitCodeOf(report, values['fail-on-warning']);
  },
};

function toolVersion(): string {
  const path = new URL('../package.json', import.meta.url);
  return (JSON.parse(readFileSync(path, 'utf8')) as { version: string }).version;
}
