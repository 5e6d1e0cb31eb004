import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { Leftover } from '../../owner/leftovers.ts';
import { defaultKmsKey, type Encryption } from '../../owner/publish/bucket-store.ts';
import { type LocalModel, openLocalModel } from '../../owner/publish/local-model.ts';
import { type PublishResult, publishToBucket } from '../../owner/publish/to-bucket.ts';
import { publishToFolder } from '../../owner/publish/to-folder.ts';
import type { Command, CommandIo } from '../command.ts';
import { CommandError } from '../errors.ts';
import { type ModelPlace, parseModelPlace } from '../model-place.ts';
import { bytes, progressLine } from '../progress.ts';
import { S3_PLACE_HELP, S3_PLACE_OPTIONS, s3Client } from '../s3-client.ts';
import { required, tellLeftover } from '../seal-options.ts';

const LANES_DEFAULT = 4;

const OPTIONS = {
  ...S3_PLACE_OPTIONS,
  to: { type: 'string' },
  replace: { type: 'boolean', default: false },
  discard: { type: 'boolean', default: false },
  sse: { type: 'string', default: 'kms' },
  'sse-kms-key': { type: 'string' },
  parallel: { type: 'string' },
  json: { type: 'boolean', default: false },
} as const;

export const command: Command = {
  name: 'publish',
  summary: 'copy a sealed model to S3 or to a folder, for enclaves to load',
  help: `
Usage: strongroom publish NAME.sealed --to s3://BUCKET[/PREFIX] [OPTIONS]
       strongroom publish NAME.sealed --to FOLDER [OPTIONS]

Puts payload, key.json, head and manifest.json, in this order, under PREFIX/NAME.sealed, where NAME is the model's
own name. Never anything else: the recovery file stays with you. Publishing again continues what was interrupted,
and sends only what differs, for example key.json after a rewrap.

What is there already:
      --replace             replace another model of this name; otherwise it is refused. For a moment there is none
      --discard             S3: end unfinished uploads to this place first, instead of continuing one

Encryption at rest in S3, beside the seal:
      --sse-kms-key KEY     the KMS key, by ARN; default: the bucket's own, else the account's key for S3
      --sse bucket          ask for nothing: however the bucket does it ("kms" is the default)

      --parallel N          S3: parts of 64 MiB that are in memory and on their way at once; default: ${LANES_DEFAULT}

${S3_PLACE_HELP}

      --json                print the result as JSON

Example:
  strongroom publish iris.sealed --to s3://example-models/team-a --region eu-central-1

Exit codes: 0 published, 1 refused, 2 usage or unusable input, 3 the store was not reachable, or stopped before the
end; run it again to continue.
`,
  async run(args, io) {
    const { values, positionals } = parseArgs({ args: [...args], allowPositionals: true, options: OPTIONS });
    const [folder, ...rest] = positionals;
    if (folder === undefined || rest.length > 0)
      throw new CommandError('USAGE', 'publish needs one NAME.sealed.');
    const place = parseModelPlace(required('publish', values.to, '--to'));
    const lanes = lanesOf(values.parallel ?? String(LANES_DEFAULT));
    await using model = await openLocalModel(folder);
    const progress = progressLine(io.stderr, () => performance.now());
    try {
      const onProgress = (done: number, total: number): void => progress.show('publishing', done, total);
      const result = await publish(model, place, { values, lanes, io, onProgress });
      progress.end();
      io.stdout.write(values.json ? `${JSON.stringify(result)}\n` : describe(result, model));
      return 0;
    } finally {
      progress.end();
    }
  },
};

interface How {
  readonly values: ReturnType<typeof parseArgs<{ options: typeof OPTIONS }>>['values'];
  readonly lanes: number;
  readonly io: CommandIo;
  readonly onProgress: (doneBytes: number, totalBytes: number) => void;
}

async function publish(
  model: LocalModel,
  to: ModelPlace,
  { values, lanes, io, onProgress }: How,
): Promise<PublishResult> {
  const name = `${model.head.identity.name}.sealed`;
  const { replace, discard } = values;
  const { signal } = io;
  if (to.kind === 'registry') {
    throw new CommandError(
      'USAGE',
      'A web server is published to through the folder that it serves, or its bucket.',
    );
  }
  if (to.kind === 'folder') {
    expectForS3(values);
    const onLeftover = (leftover: Leftover): void => void io.stderr.write(tellLeftover(leftover));
    return publishToFolder({ model, out: join(to.path, name), replace, signal, onProgress, onLeftover });
  }
  using s3 = await s3Client(values, lanes);
  const prefix = to.prefix === '' ? name : `${to.prefix}/${name}`;
  const encryption = await encryptionOf(values, () => defaultKmsKey(s3.client, to.bucket));
  const bucketPlace = { client: s3.client, bucket: to.bucket, prefix, encryption };
  return publishToBucket({ model, place: bucketPlace, replace, discard, lanes, signal, onProgress });
}

async function encryptionOf(
  { sse, 'sse-kms-key': keyArn }: How['values'],
  bucketsKey: () => Promise<string | undefined>,
): Promise<Encryption> {
  if (sse !== 'kms' && sse !== 'bucket') throw new CommandError('USAGE', '--sse must be "kms" or "bucket".');
  if (sse === 'bucket') {
    if (keyArn !== undefined) throw new CommandError('USAGE', '--sse-kms-key contradicts --sse bucket.');
    return { kind: 'bucket' };
  }
  const key = keyArn ?? (await bucketsKey());
  return { kind: 'kms', ...(key !== undefined && { keyArn: key }) };
}

function expectForS3(values: How['values']): void {
  const given = (['region', 'endpoint', 'ca', 'sse-kms-key', 'parallel'] as const).find(
    (name) => values[name] !== undefined,
  );
  if (given !== undefined || values.discard) {
    throw new CommandError('USAGE', `--${given ?? 'discard'} is for publishing to s3://.`);
  }
}

export function lanesOf(text: string): number {
  if (/^[1-9][0-9]?$/.test(text) && Number(text) <= 64) return Number(text);
  throw new CommandError('USAGE', `--parallel must be 1 to 64, not ${JSON.stringify(text)}.`);
}

function describe(result: PublishResult, { head, signed }: LocalModel): string {
  const { name, version } = head.identity;
  const { written, destination, contentId, payloadSizeBytes, resumedBytes, checksums } = result;
  const lines = [
    written.length === 0
      ? `${name} version ${version} was published already: ${destination}`
      : `published ${name} version ${version} (${bytes(payloadSizeBytes)}): ${destination}`,
    `content id ${contentId}`,
    ...(written.length > 0 ? [`written: ${written.join(', ')}`] : []),
    ...(resumedBytes > 0 ? [`continued: ${bytes(resumedBytes)} were there from an earlier run`] : []),
    ...(checksums
      ? []
      : ['note: the store keeps no SHA-256, so only sizes were compared; fetch it once to be sure']),
    ...(signed ? [] : ['note: nobody signed the manifest yet: strongroom sign, then publish again']),
  ];
  return `${lines.join('\n')}\n`;
}
