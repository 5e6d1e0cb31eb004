import { parseArgs } from 'node:util';
import { type FetchResult, fetchModel } from '../../owner/publish/fetch-model.ts';
import { readPublicKey } from '../../owner/secret-files.ts';
import type { ModelsConfig } from '../../parent/config/models.ts';
import { openModelStore } from '../../parent/models/open-store.ts';
import type { RemoteLimits } from '../../parent/models/patience.ts';
import type { Command } from '../command.ts';
import { CommandError } from '../errors.ts';
import { type ModelPlace, splitModelPlace } from '../model-place.ts';
import { bytes, progressLine } from '../progress.ts';
import { type OwnS3Client, S3_PLACE_HELP, S3_PLACE_OPTIONS, s3Client } from '../s3-client.ts';
import { required, tellLeftover } from '../seal-options.ts';
import { lanesOf } from './publish.ts';

const LANES_DEFAULT = 8;
/** More patient than a parent that an enclave waits for. */
const LIMITS: RemoteLimits = {
  attemptTimeoutMs: 20_000,
  answerTimeoutMs: 120_000,
  idleTimeoutMs: 30_000,
  attempts: 6,
  pauseMs: 500,
};

const OPTIONS = {
  ...S3_PLACE_OPTIONS,
  out: { type: 'string', short: 'o' },
  signer: { type: 'string' },
  'content-id': { type: 'string' },
  certificate: { type: 'string' },
  key: { type: 'string' },
  parallel: { type: 'string', default: String(LANES_DEFAULT) },
  json: { type: 'boolean', default: false },
} as const;

export const command: Command = {
  name: 'fetch',
  summary: 'fetch a published model from S3, a web server or a folder, and check it',
  help: `
Usage: strongroom fetch s3://BUCKET/PREFIX/NAME.sealed -o OUT [OPTIONS]
       strongroom fetch https://HOST/PATH/NAME.sealed -o OUT [OPTIONS]
       strongroom fetch FOLDER/NAME.sealed -o OUT [OPTIONS]

Creates the folder OUT once every byte of the payload has the digest that the head holds, and the head is the one
that the manifest names. No key is needed. What was fetched when it stopped is taken up by the next run.

Options:
  -o, --out OUT             the folder to create, usually NAME.sealed
      --signer FILE         public key (PEM) that must have signed the manifest
      --content-id HEX      the content id that the model must have
      --parallel N          ranges that are fetched at once; default: ${LANES_DEFAULT}
      --certificate FILE    https://: client certificate (PEM), with its private key:
      --key FILE

${S3_PLACE_HELP}

      --json                print the result as JSON

Example:
  strongroom fetch s3://example-models/team-a/iris.sealed --signer keys/signing.pub.pem -o iris.sealed

Exit codes: 0 fetched, 1 refused, 2 usage or nothing there, 3 the source was not reachable, or stopped before the
end; run it again to continue.
`,
  async run(args, io) {
    const { values, positionals } = parseArgs({ args: [...args], allowPositionals: true, options: OPTIONS });
    const [from, ...rest] = positionals;
    if (from === undefined || rest.length > 0) throw new CommandError('USAGE', 'fetch needs one place.');
    const out = required('fetch', values.out, '-o OUT');
    const { place, model } = splitModelPlace(from);
    const contentId = values['content-id']?.toLowerCase();
    if (contentId !== undefined && !/^[0-9a-f]{64}$/.test(contentId)) {
      throw new CommandError('USAGE', '--content-id has 64 hexadecimal digits.');
    }
    const lanes = lanesOf(values.parallel);
    const signer = values.signer === undefined ? undefined : await readPublicKey(values.signer);
    using s3 = place.kind === 's3' ? await s3Client(values) : undefined;
    const config = configOf(place, values, s3);
    const source = openModelStore(config, {
      credentials: { provide: () => credentialsOf(s3) },
      observe: () => {},
      now: Date.now,
      limits: LIMITS,
    });
    const progress = progressLine(io.stderr, () => performance.now());
    try {
      const result = await fetchModel({
        source,
        model,
        out,
        lanes,
        signal: io.signal,
        ...(signer !== undefined && { signer }),
        ...(contentId !== undefined && { contentId }),
        onProgress: progress.show,
        onLeftover: (leftover) => void io.stderr.write(tellLeftover(leftover)),
      });
      progress.end();
      io.stdout.write(values.json ? `${JSON.stringify(result)}\n` : describe(result));
      return 0;
    } finally {
      progress.end();
      source.close();
    }
  },
};

type Values = ReturnType<typeof parseArgs<{ options: typeof OPTIONS }>>['values'];

function configOf(place: ModelPlace, values: Values, s3: OwnS3Client | undefined): ModelsConfig {
  const allowed = {
    s3: ['region', 'endpoint', 'ca'],
    registry: ['ca', 'certificate', 'key'],
    folder: [] as string[],
  }[place.kind];
  const all = ['region', 'endpoint', 'ca', 'certificate', 'key'] as const;
  const wrong = all.find((name) => values[name] !== undefined && !allowed.includes(name));
  if (wrong !== undefined) throw new CommandError('USAGE', `--${wrong} does not go with this place.`);
  if ((values.certificate === undefined) !== (values.key === undefined)) {
    throw new CommandError('USAGE', '--certificate and --key go together.');
  }
  const { ca, endpoint, certificate, key } = values;
  const files = { ...(ca !== undefined && { ca }) };
  if (place.kind === 'folder') return place;
  if (place.kind === 'registry') {
    return {
      ...place,
      ...files,
      ...(certificate !== undefined && { certificate }),
      ...(key !== undefined && { key }),
    };
  }
  return {
    kind: 's3',
    bucket: place.bucket,
    region: s3?.region ?? '',
    ...(place.prefix !== '' && { prefix: place.prefix }),
    ...(endpoint !== undefined && { endpoint }),
    ...files,
  };
}

/** Long-lived keys have neither session token nor expiry; the parent's client passes on what there is. */
async function credentialsOf(s3: OwnS3Client | undefined) {
  const found = await s3?.client.config.credentials();
  return found as Required<NonNullable<typeof found>>;
}

function describe({ folder, name, version, contentId, payloadSizeBytes, ...result }: FetchResult): string {
  const lines = [
    `fetched ${name} version ${version} into ${folder} (${bytes(payloadSizeBytes)})`,
    `content id ${contentId}`,
    ...(result.resumedBytes > 0
      ? [`continued: ${bytes(result.resumedBytes)} were there from an earlier run`]
      : []),
    result.signatureChecked
      ? 'signed by the given key'
      : 'note: whose signature the manifest has was not checked; give --signer FILE or --content-id HEX',
  ];
  return `${lines.join('\n')}\n`;
}
