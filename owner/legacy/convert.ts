/** A legacy model becomes a sealed model. The plaintext passes through memory piece by piece, never a disk. */
import { type SealResult, type SealToFolder, sealToFolder } from '../seal-model.ts';
import { openLegacyFile } from './legacy-file.ts';
import { type LegacyKey, verifyLegacyFile } from './unlock.ts';

export interface ConvertLegacy {
  readonly legacy: string;
  readonly legacyKey: LegacyKey;
  /** The path that its bytes get inside the sealed model. */
  readonly path: string;
  /** As for any seal. Its progress says `reading` while the legacy file is verified. */
  readonly seal: Omit<SealToFolder, 'input'>;
}

/** Throws what `sealToFolder` throws, or LegacyError; then nothing is left behind. */
export async function convertLegacy({ legacy, legacyKey, path, seal }: ConvertLegacy): Promise<SealResult> {
  await using file = await openLegacyFile(legacy);
  return await sealToFolder({
    ...seal,
    input: {
      kind: 'source',
      path,
      open: (onProgress) => verifyLegacyFile(file, legacyKey, { signal: seal.signal, onProgress }),
    },
  });
}
