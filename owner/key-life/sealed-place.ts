/** Where a sealed model lies whose wraps change: in a folder here, or published in S3 (published-place.ts). */
import type { KeyObject } from 'node:crypto';
import type { Head } from '../../shared/sealed-model/head.ts';
import { expectHeadOf, verifyManifest } from '../../shared/sealed-model/manifest.ts';
import type { Leftover } from '../leftovers.ts';
import { readHead, readSealedPart } from '../sealed-folder.ts';
import { KeyFileClaim } from './claim.ts';

export interface SealedPlace {
  /** As its owner names it: a path, or `s3://BUCKET/PREFIX/NAME.sealed`. */
  readonly name: string;
  /** The local path that the recovery wrap is named after. */
  readonly recoveryBeside: string;
  /** Held against the manifest, if `signer` is given against its signature. Throws OwnerError, PublishError, SealedModelError. */
  readHead(signer: KeyObject | undefined): Promise<Head>;
  /** Before anything is asked of KMS: what is read from it is what `replace` replaces, or that is refused. */
  claimKeyFile(): Promise<KeyFileWriter>;
}

export interface KeyFileWriter extends AsyncDisposable {
  /** Undefined if there is no key.json. */
  read(): Promise<Uint8Array | undefined>;
  /** Once, after `read`: at once or not at all. Throws REWRAP_BUSY if somebody else changed it meanwhile. */
  replace(content: Uint8Array): Promise<void>;
}

export function folderPlace(folder: string, onLeftover?: (leftover: Leftover) => void): SealedPlace {
  return {
    name: folder,
    recoveryBeside: folder,
    async readHead(signer) {
      const head = await readHead(folder);
      if (signer !== undefined) {
        expectHeadOf(verifyManifest(await readSealedPart(folder, 'manifest.json'), signer), head);
      }
      return head;
    },
    claimKeyFile: () => KeyFileClaim.make(folder, onLeftover),
  };
}
