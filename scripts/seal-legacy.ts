/** `strongroom seal --format encmodel|envmodel`: one file in a legacy layout, for tools that read nothing else. */
import type { WrittenMessage } from '../owner/legacy/message-write.ts';
import type { PythonDict } from '../owner/legacy/python-loads.ts';
import type { sealEncmodel } from '../owner/legacy/seal-legacy.ts';
import { readDataKeyFile } from '../owner/secret-files.ts';
import type { CommandIo } from './command.ts';
import { CommandError } from './errors.ts';
import { readAssociatedData } from './legacy-options.ts';
import { bytes, progressLine } from './progress.ts';
import { kmsKeysOf, kmsPlaceOf, required, type SealOptionValues, tellLeftover } from './seal-options.ts';

/** For `parseArgs`. */
export const SEAL_LEGACY_OPTIONS = {
  aad: { type: 'string' },
  'aad-file': { type: 'string' },
  metadata: { type: 'string', multiple: true, default: [] as string[] },
} as const;

export const SEAL_LEGACY_HELP = `
A legacy layout in place of a sealed model, for tools that read nothing else (docs/legacy.md). OUT is one file, of one
file or a pipe; --name, --version, --label, --recovery-key and --sign have no place in it:
      --format encmodel     under --key-file FILE; with --aad TEXT or --aad-file FILE, for example iris:3, as
                            associated data
      --format envmodel     under one --kms-key ARN; --metadata NAME=VALUE, any number of times, is its metadata
                            and the KMS encryption context
`.trim();

export interface SealLegacyValues extends SealOptionValues {
  readonly aad?: string | undefined;
  readonly 'aad-file'?: string | undefined;
  readonly metadata: readonly string[];
  readonly as?: string | undefined;
  readonly json: boolean;
}

export type LegacyLayout = 'encmodel' | 'envmodel';

export function isLegacyLayout(format: string | undefined): format is LegacyLayout {
  return format === 'encmodel' || format === 'envmodel';
}

type Input = Parameters<typeof sealEncmodel>[0]['input'];

export async function sealLegacyLayout(
  layout: LegacyLayout,
  values: SealLegacyValues,
  input: Input,
  io: CommandIo,
): Promise<void> {
  expectOptionsOf(layout, values);
  const out = required('seal', values.out, '-o OUT');
  const progress = progressLine(io.stderr, () => performance.now());
  const request = {
    input,
    out,
    signal: io.signal,
    onProgress: (doneBytes: number, totalBytes?: number) => progress.show('sealing', doneBytes, totalBytes),
    onLeftover: (leftover: Parameters<typeof tellLeftover>[0]) =>
      void io.stderr.write(tellLeftover(leftover)),
  };
  let written: WrittenMessage;
  try {
    written = layout === 'encmodel' ? await encmodel(values, request) : await envmodel(values, request);
  } finally {
    progress.end();
  }
  const { sizeBytes, sha256 } = written;
  io.stdout.write(
    values.json
      ? `${JSON.stringify({ file: out, layout, plaintextSizeBytes: sizeBytes, plaintextSha256: sha256 })}\n`
      : `wrote ${out}, layout ${layout.toUpperCase()} (${bytes(sizeBytes)}, SHA-256 ${sha256})\n`,
  );
}

type Request = Omit<Parameters<typeof sealEncmodel>[0], 'dataKey' | 'associatedData'>;

async function encmodel(values: SealLegacyValues, request: Request): Promise<WrittenMessage> {
  const associatedData = await readAssociatedData(values);
  const dataKey = await readDataKeyFile(
    required('seal', values['key-file'], '--key-file FILE for an ENCMODEL'),
  );
  try {
    const { sealEncmodel } = await import('../owner/legacy/seal-legacy.ts');
    return await sealEncmodel({
      ...request,
      dataKey,
      ...(associatedData === undefined ? {} : { associatedData }),
    });
  } finally {
    dataKey.fill(0);
  }
}

async function envmodel(values: SealLegacyValues, request: Request): Promise<WrittenMessage> {
  const metadata = metadataOf(values.metadata);
  const [kmsKey] = await kmsKeysOf(values['kms-key'], kmsPlaceOf(values));
  if (kmsKey === undefined) throw new CommandError('USAGE', 'seal needs --kms-key ARN for an ENVMODEL.');
  try {
    const { sealEnvmodel } = await import('../owner/legacy/seal-legacy.ts');
    return await sealEnvmodel({ ...request, kmsKey, metadata });
  } finally {
    kmsKey.client.destroy();
  }
}

/** In the order given, which is the order in which they are written. */
function metadataOf(pairs: readonly string[]): PythonDict {
  const metadata: PythonDict = new Map();
  for (const pair of pairs) {
    const at = pair.indexOf('=');
    const name = pair.slice(0, at);
    if (at < 1)
      throw new CommandError('USAGE', `--metadata must be NAME=VALUE, not ${JSON.stringify(pair)}.`);
    if (metadata.has(name))
      throw new CommandError('USAGE', `--metadata gives ${JSON.stringify(name)} twice.`);
    metadata.set(name, pair.slice(at + 1));
  }
  return metadata;
}

/** What a layout cannot hold is refused rather than dropped: a name that nobody checks is worse than none. */
function expectOptionsOf(layout: LegacyLayout, values: SealLegacyValues): void {
  const hint = layout === 'encmodel' ? '--aad NAME:VERSION' : '--metadata model=NAME';
  for (const option of ['name', 'version', 'label', 'recovery-key', 'sign', 'as'] as const) {
    if (values[option] === undefined) continue;
    throw new CommandError(
      'USAGE',
      `--${option} has no place in an ${layout.toUpperCase()}; it can bind a name by ${hint}.`,
    );
  }
  const foreign =
    layout === 'encmodel'
      ? [values['kms-key'].length > 0 && '--kms-key', values.metadata.length > 0 && '--metadata']
      : [
          values['key-file'] !== undefined && '--key-file',
          (values.aad ?? values['aad-file']) !== undefined && '--aad',
          values['kms-key'].length > 1 && 'a second --kms-key',
        ];
  const found = foreign.find((option) => option !== false);
  if (found !== undefined)
    throw new CommandError('USAGE', `An ${layout.toUpperCase()} has no place for ${found}.`);
}
