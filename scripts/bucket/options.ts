/** What the commands for a bucket share. */
import { CommandError } from '../errors.ts';
import { expectBucket } from '../model-place.ts';
import { type OwnS3Client, S3_PLACE_HELP, S3_PLACE_OPTIONS, type S3Place, s3Client } from '../s3-client.ts';

/** For `parseArgs`. */
export const BUCKET_OPTIONS = {
  ...S3_PLACE_OPTIONS,
  account: { type: 'string' },
} as const;

export const BUCKET_HELP = `      --account ID          the account that the bucket belongs to; default: that of your credentials

${S3_PLACE_HELP}`;

export interface OpenBucket extends Disposable {
  readonly client: OwnS3Client['client'];
  readonly bucket: string;
  readonly accountId: string;
}

/** Throws CommandError USAGE. */
export async function openBucket(
  command: string,
  positionals: readonly string[],
  values: S3Place & { readonly account?: string | undefined },
): Promise<OpenBucket> {
  const [name, ...rest] = positionals;
  if (name === undefined || rest.length > 0) throw new CommandError('USAGE', `${command} needs one BUCKET.`);
  const bucket = name.replace(/^s3:\/\//, '').replace(/\/$/, '');
  expectBucket(bucket);
  const s3 = await s3Client(values);
  try {
    return {
      client: s3.client,
      bucket,
      accountId: values.account ?? (await accountOfCredentials(s3)),
      [Symbol.dispose]: () => s3[Symbol.dispose](),
    };
  } catch (error) {
    s3[Symbol.dispose]();
    throw error;
  }
}

async function accountOfCredentials({ client }: OwnS3Client): Promise<string> {
  const { accountId } = await client.config.credentials();
  if (accountId !== undefined && /^\d{12}$/.test(accountId)) return accountId;
  throw new CommandError(
    'USAGE',
    'Your credentials do not say which account they are of: give --account ID.',
  );
}
