/** Sealed folders on the disk, small ones, for the tests of what an owner does with them. */
import { randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { generateOwnerKeyPair } from '../../owner/keygen.ts';
import type { ModelKey } from '../../owner/model-key.ts';
import { type SealToFolder, sealToFolder } from '../../owner/seal-model.ts';
import { encodeUnsignedManifest } from '../../shared/sealed-model/manifest-sign.ts';
import { IRIS, SMALL, sealFiles } from '../shared/sealed-model/seals.ts';

const recovery = await generateOwnerKeyPair('recovery');
export const signing = await generateOwnerKeyPair('signing');
export const recoveryPrivateKey = recovery.privateKey;

export class SealedFolders {
  readonly folder = mkdtempSync(join(tmpdir(), 'strongroom-owner-'));
  readonly dataKey: Uint8Array = randomBytes(32);
  #made = 0;

  path(name: string): string {
    return join(this.folder, name);
  }

  /** Signed, under the kept key and with a recovery wrap beside it. */
  async seal(files: Readonly<Record<string, Uint8Array>>, more: Partial<SealToFolder> = {}): Promise<string> {
    const plain = this.path(`plain-${this.#made}`);
    for (const [path, content] of Object.entries(files)) {
      mkdirSync(dirname(join(plain, path)), { recursive: true });
      writeFileSync(join(plain, path), content);
    }
    const out = this.path(`iris-${this.#made++}.sealed`);
    await sealToFolder({
      identity: IRIS,
      input: { kind: 'paths', paths: [plain] },
      out,
      kmsKeys: [],
      dataKey: this.dataKey,
      recoveryKey: recovery.publicKey,
      signer: signing.privateKey,
      sizes: SMALL,
      ...more,
    });
    rmSync(plain, { recursive: true });
    return out;
  }

  /** What `seal` refuses to make: a model without a byte. */
  async sealEmpty(): Promise<string> {
    const { sealed } = await sealFiles({ 'model.onnx': new Uint8Array(0) }, { dataKey: this.dataKey });
    const out = this.path(`empty-${this.#made++}.sealed`);
    mkdirSync(out);
    writeFileSync(join(out, 'head'), sealed.head);
    writeFileSync(join(out, 'payload'), '');
    writeFileSync(join(out, 'manifest.json'), encodeUnsignedManifest({ ...IRIS, ...sealed }));
    return out;
  }

  /** Anew each time: whoever uses it may wipe it. */
  get kept(): ModelKey {
    return { kind: 'kept', dataKey: new Uint8Array(this.dataKey) };
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** The byte at `offset` of a file, changed. */
export function flip(bytes: Buffer, offset: number): Buffer {
  const changed = Buffer.from(bytes);
  changed[offset] = (changed[offset] as number) ^ 1;
  return changed;
}
