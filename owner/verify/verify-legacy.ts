/** The same for a model in a legacy layout, of which far less can be said (docs/legacy.md section 8). */
import { codeOf } from '../../shared/errors.ts';
import { OwnerError } from '../errors.ts';
import { openLegacyFile } from '../legacy/legacy-file.ts';
import { type LegacyKey, verifyLegacyFile } from '../legacy/unlock.ts';
import { ticksOf } from './checks.ts';
import type { Observe } from './segments.ts';
import type { Verification } from './verify-model.ts';

export async function verifyLegacyModel(
  path: string,
  key: LegacyKey | undefined,
  observe: Observe,
): Promise<Verification> {
  const ticks = ticksOf('legacy', key === undefined ? ['layout'] : ['layout', 'tag', 'plaintext']);
  const file = await ticks.makeAsync(
    'layout',
    () => openLegacyFile(path),
    ({ format, message }) => `${format}, ${message.sizeBytes} bytes`,
  );
  await using _closing = file;
  if (file !== undefined && key !== undefined) {
    await verifyLegacyFile(file, key, observe).then(
      () => {
        ticks.passed('tag', '');
        ticks.passed('plaintext', file.message.plaintextSha256);
      },
      (error: unknown) => {
        const isDigest = codeOf(error) === 'LEGACY_DIGEST_REFUSED';
        if (isDigest) ticks.passed('tag', '');
        ticks.failed(isDigest ? 'plaintext' : 'tag', error);
      },
    );
  }
  const checks = ticks.results();
  const { error } = ticks;
  if (error !== undefined) return { checks, error, model: undefined, proven: [], notProven: [] };
  if (key === undefined) {
    return {
      checks,
      error: new OwnerError(
        'OWNER_NOBODY_VOUCHES',
        'Without its key, nothing of a legacy model can be checked but its layout.',
      ),
      model: undefined,
      proven: [],
      notProven: ['Everything else: a legacy model states no digest of its ciphertext, and nobody signs it.'],
    };
  }
  return {
    checks,
    error: undefined,
    model: undefined,
    proven: [
      'It opens under your key, whole, to the plaintext whose SHA-256 it states; nothing was released.',
    ],
    notProven: [
      'Who made it: whoever has the data key, or may have KMS wrap one, can make another. Only a signature on a sealed model tells.',
    ],
  };
}
