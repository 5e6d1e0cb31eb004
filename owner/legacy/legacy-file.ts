/** One legacy file, held open: what it says of itself, and its message. Nothing here needs a key. */
import { constants, open } from 'node:fs/promises';
import { type Encmodel, readEncmodel } from './encmodel.ts';
import { faultOfContext } from './encryption-context.ts';
import { type Envmodel, readEnvmodel } from './envmodel.ts';
import { formatOfMagic, MAGIC_BYTES, malformed, readAt, readPreamble } from './layout.ts';
import { pythonDumps } from './python-dumps.ts';

export type LegacyFile = (Encmodel | Envmodel) & {
  readonly path: string;
  [Symbol.asyncDispose](): Promise<void>;
};

/** The caller disposes of it. Throws LegacyError: LEGACY_MALFORMED, LEGACY_TOO_LARGE, LEGACY_CHANGED; ENOENT. */
export async function openLegacyFile(path: string): Promise<LegacyFile> {
  // Whoever names a pipe is told so, instead of being waited for.
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const status = await file.stat();
    if (!status.isFile()) throw malformed(`${path} is not a regular file, and it must be read twice`);
    const format = status.size < MAGIC_BYTES ? undefined : formatOfMagic(await readAt(file, 0, MAGIC_BYTES));
    if (format === undefined) throw malformed(`${path} begins with neither ENCMODEL nor ENVMODEL`);
    const preamble = await readPreamble(file, status.size);
    const model =
      format === 'encmodel'
        ? await readEncmodel(file, status.size, preamble)
        : await readEnvmodel(file, status.size, preamble);
    return { ...model, path, [Symbol.asyncDispose]: () => file.close() };
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** Plain data for people and for JSON. All of it is claimed by the file, and nothing yet verified. */
export interface LegacyDescription {
  readonly format: 'encmodel' | 'envmodel';
  readonly plaintextSizeBytes: number;
  readonly plaintextSha256: string;
  /** Hexadecimal. */
  readonly nonce: string;
  /** Members that the layout does not have; they change nothing. */
  readonly otherMembers: readonly string[];
  /** ENCMODEL alone. */
  readonly hasAssociatedData?: boolean;
  /** ENVMODEL alone, as all that follow. */
  readonly kmsKeyId?: string;
  readonly wrappedKeySizeBytes?: number;
  /** As Python's `json.dumps` writes it. */
  readonly metadata?: string;
  /** Why KMS could not have taken the metadata as encryption context; absent if it could. */
  readonly metadataFault?: string;
}

export async function inspectLegacy(path: string): Promise<LegacyDescription> {
  await using file = await openLegacyFile(path);
  return describeLegacy(file);
}

export function describeLegacy(file: LegacyFile): LegacyDescription {
  const { format, message, otherMembers } = file;
  const shared = {
    format,
    plaintextSizeBytes: message.sizeBytes,
    plaintextSha256: message.plaintextSha256,
    nonce: Buffer.from(message.nonce).toString('hex'),
    otherMembers,
  };
  if (file.format === 'encmodel') return { ...shared, hasAssociatedData: file.hasAssociatedData };
  const metadataFault = faultOfContext(file.metadata);
  return {
    ...shared,
    kmsKeyId: file.kmsKeyId,
    wrappedKeySizeBytes: file.wrappedKey.length,
    metadata: pythonDumps(file.metadata),
    ...(metadataFault === undefined ? {} : { metadataFault }),
  };
}
