import { parseArgs } from 'node:util';
import type { DataKeySource } from '../../owner/data-key.ts';
import { type Rewrap, type RewrapResult, rewrapModel, type WrapChange } from '../../owner/key-life/rewrap.ts';
import { type RewrapReport, rewrapAll } from '../../owner/key-life/rewrap-all.ts';
import type { SealedPlace } from '../../owner/key-life/sealed-place.ts';
import type { NamedDeployment } from '../../owner/key-life/stranding.ts';
import { readDataKeyFile, readPrivateKey, readPublicKey } from '../../owner/secret-files.ts';
import type { Command } from '../command.ts';
import { readDeploymentFile } from '../deployment-file.ts';
import { CommandError } from '../errors.ts';
import { kmsByRegion } from '../owner-kms.ts';
import { describeReport, describeRewrap, exitOfReports, summaryOf } from '../rewrap-report.ts';
import { S3_PLACE_HELP, S3_PLACE_OPTIONS } from '../s3-client.ts';
import { KMS_PLACE_HELP, kmsPlaceOf } from '../seal-options.ts';
import { isPublished, sealedPlaces } from '../sealed-places.ts';

const JOBS = { usual: 8, max: 64 };
const OPTIONS = {
  ...S3_PLACE_OPTIONS,
  'kms-key': { type: 'string', multiple: true },
  to: { type: 'string', multiple: true, default: [] as string[] },
  remove: { type: 'string', multiple: true, default: [] as string[] },
  recovery: { type: 'string' },
  'recovery-file': { type: 'string' },
  'recovery-folder': { type: 'string' },
  'key-file': { type: 'string' },
  deployment: { type: 'string', multiple: true, default: [] as string[] },
  'no-deployment': { type: 'boolean', default: false },
  signer: { type: 'string' },
  all: { type: 'string', multiple: true, default: [] as string[] },
  jobs: { type: 'string' },
  again: { type: 'boolean', default: false },
  'kms-endpoint': { type: 'string' },
  'kms-ca': { type: 'string' },
  json: { type: 'boolean', default: false },
} as const;

export const command: Command = {
  name: 'rewrap',
  summary: 'wrap the data key of sealed models anew, touching key.json alone',
  help: `
Usage: strongroom rewrap MODEL [OPTIONS]
       strongroom rewrap MODEL --to ARN --recovery PRIVATE [--remove ARN] [OPTIONS]
       strongroom rewrap --all PREFIX [OPTIONS]

MODEL is a folder, or s3://BUCKET/PREFIX/NAME.sealed. Replaces its key.json, at once or not at all. Weights, content id
and signature stay; of a published model head, manifest and key.json are fetched, and never the payload.

Without --to and --remove, KMS moves each wrap to the newest material of its own key (ReEncrypt on the same key;
after "strongroom rotate"). With --to, your own wrap of the data key is opened, checked against the model, and
wrapped under another KMS key.

Which wraps:
      --kms-key ARN         renew only the wrap under this key; may be given several times
      --to ARN              add a wrap under this KMS key; may be given several times
      --remove ARN          drop the wrap under this KMS key; may be given several times
      --again               ask KMS also where a wrap's label says that it is of the newest material

The data key, for --to:
      --recovery PRIVATE    your private recovery key (mode 600)
      --recovery-file FILE  where the recovery wrap lies; default: FOLDER.recovery.json
      --recovery-folder DIR for published models: where their recovery wraps lie, as the models lie below PREFIX
                            (PREFIX/v2/NAME.sealed: DIR/v2/NAME.sealed.recovery.json)
      --key-file FILE       or the 32 raw bytes of the data key (mode 600), if you keep it yourself

What must still start:
      --deployment FILE     a deployment document in use; may be given several times. A change that would leave
                            one without a wrap that it may use is refused; --remove needs this
      --no-deployment       says that nothing runs this model
      --signer PUBLIC       whose signature the manifest must bear; otherwise the model is not touched

Many models:
      --all PREFIX          every sealed model below this folder or s3://BUCKET/PREFIX, or below those that begin so
                            ("models/iris-"). Stopped or failed, run it again: what is done already is recognised
      --jobs N              how many at a time (1 to ${JOBS.max}; default ${JOBS.usual})

${KMS_PLACE_HELP}

${S3_PLACE_HELP}

      --json                print the report as JSON

Example:
  strongroom rewrap iris.sealed --deployment deployment.json
  strongroom rewrap iris.sealed --to arn:aws:kms:eu-central-1:111122223333:key/NEW --recovery keys/recovery.key.pem \\
    --deployment deployment.json
  strongroom rewrap --all s3://example-models/team-a --region eu-central-1

Exit codes: 0 done or nothing to do, 1 refused (KMS, stranding, recovery key; with --all: of any model), 2 usage or
unusable input, 3 KMS not reachable, busy, or stopped before the end.
`,
  async run(args, io) {
    const { values, positionals } = parseArgs({ args: [...args], allowPositionals: true, options: OPTIONS });
    const one = expectTargets(positionals, values.all, values);
    const atOnce = jobsOf(values.jobs);
    const deployments = await readDeployments(values.deployment, values['no-deployment']);
    const signer = values.signer === undefined ? undefined : await readPublicKey(values.signer);
    using places = sealedPlaces({ s3: values, recoveryFolder: values['recovery-folder'], lanes: atOnce }, io);
    using kms = kmsByRegion(kmsPlaceOf(values));
    using key = await readKey(values);
    const change = changeOf(values, key?.source);
    const requestOf = (place: SealedPlace): Rewrap => ({
      place,
      change,
      signer,
      kmsKey: kms.kmsKey,
      deployments,
      now: () => new Date(),
      again: values.again,
      signal: io.signal,
    });
    if (one !== undefined) {
      const result: RewrapResult = await rewrapModel(requestOf(await places.one(one)));
      io.stdout.write(values.json ? `${JSON.stringify(result)}\n` : describeRewrap(result));
      return 0;
    }
    const models = await places.below(values.all);
    const onReport = (report: RewrapReport, doneCount: number): void => {
      if (io.stderr.isTTY === true) {
        io.stderr.write(`\r\x1b[K${doneCount} of ${models.length}  ${report.outcome}  ${report.folder}`);
      }
    };
    const reports = await rewrapAll(models, requestOf, { atOnce, onReport });
    if (io.stderr.isTTY === true) io.stderr.write('\r\x1b[K');
    io.stdout.write(
      values.json
        ? `${JSON.stringify({ summary: summaryOf(reports), models: reports })}\n`
        : describeReport(reports),
    );
    return exitOfReports(reports);
  },
};

function expectTargets(
  positionals: readonly string[],
  all: readonly string[],
  values: TargetValues,
): string | undefined {
  const [one, ...rest] = positionals;
  if (rest.length > 0) throw new CommandError('USAGE', 'rewrap takes one MODEL, or --all PREFIX for many.');
  if ((one === undefined) === (all.length === 0)) {
    throw new CommandError('USAGE', 'rewrap needs either one MODEL or --all PREFIX.');
  }
  const { recovery, 'recovery-file': file, 'recovery-folder': folder } = values;
  if (all.length > 0 && file !== undefined) {
    throw new CommandError('USAGE', '--recovery-file names one file; with --all each lies beside its model.');
  }
  const published = [...positionals, ...all].some(isPublished);
  const unused = published ? undefined : S3_OPTIONS.find((name) => values[name] !== undefined);
  if (unused !== undefined) throw new CommandError('USAGE', `--${unused} is for models in s3://.`);
  if (published && recovery !== undefined && file === undefined && folder === undefined) {
    throw new CommandError(
      'USAGE',
      'No recovery wrap lies beside a published model: give --recovery-folder DIR, or --recovery-file FILE.',
    );
  }
  return one;
}

const S3_OPTIONS = ['region', 'endpoint', 'ca', 'recovery-folder'] as const;

type TargetValues = Readonly<
  Partial<Record<(typeof S3_OPTIONS)[number] | 'recovery' | 'recovery-file', string | undefined>>
>;

interface ChangeValues {
  readonly 'kms-key'?: readonly string[] | undefined;
  readonly to: readonly string[];
  readonly remove: readonly string[];
}

function changeOf(values: ChangeValues, key: DataKeySource | undefined): WrapChange {
  const { to, remove, 'kms-key': keyArns } = values;
  if (to.length === 0 && remove.length === 0) {
    if (key !== undefined) throw new CommandError('USAGE', '--recovery and --key-file are for --to ARN.');
    return { kind: 'renew', keyArns };
  }
  if (keyArns !== undefined) {
    throw new CommandError(
      'USAGE',
      '--kms-key says which wraps to renew; --to and --remove name their own keys.',
    );
  }
  if (to.length > 0 && key === undefined) {
    throw new CommandError('USAGE', '--to needs the data key: --recovery PRIVATE, or --key-file FILE.');
  }
  const both = to.find((arn) => remove.includes(arn));
  if (both !== undefined) throw new CommandError('USAGE', `--to and --remove both name ${both}.`);
  return { kind: 'move', to, remove, key };
}

interface KeyValues {
  readonly recovery?: string | undefined;
  readonly 'recovery-file'?: string | undefined;
  readonly 'key-file'?: string | undefined;
}

async function readKey(
  values: KeyValues,
): Promise<({ readonly source: DataKeySource } & Disposable) | undefined> {
  const { recovery, 'recovery-file': file, 'key-file': keyFile } = values;
  if (recovery !== undefined && keyFile !== undefined) {
    throw new CommandError('USAGE', '--recovery and --key-file are two ways to the data key; give one.');
  }
  if (recovery === undefined && file !== undefined) {
    throw new CommandError('USAGE', '--recovery-file needs --recovery PRIVATE beside it.');
  }
  if (recovery !== undefined) {
    const privateKey = await readPrivateKey(recovery);
    return { source: { kind: 'recovery', privateKey, file }, [Symbol.dispose]() {} };
  }
  if (keyFile === undefined) return undefined;
  const dataKey = await readDataKeyFile(keyFile);
  return { source: { kind: 'kept', dataKey }, [Symbol.dispose]: () => void dataKey.fill(0) };
}

async function readDeployments(
  paths: readonly string[],
  none: boolean,
): Promise<readonly NamedDeployment[] | 'none'> {
  if (none && paths.length > 0) {
    throw new CommandError('USAGE', '--deployment and --no-deployment contradict each other.');
  }
  if (none) return 'none';
  return Promise.all(
    paths.map(async (name) => ({ name, deployment: (await readDeploymentFile(name)).deployment })),
  );
}

function jobsOf(text: string | undefined): number {
  if (text === undefined) return JOBS.usual;
  const jobs = /^[1-9][0-9]?$/.test(text) ? Number(text) : 0;
  if (jobs >= 1 && jobs <= JOBS.max) return jobs;
  throw new CommandError('USAGE', `--jobs must be 1 to ${JOBS.max}, not ${JSON.stringify(text)}.`);
}
