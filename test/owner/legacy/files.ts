/** A folder for one test file's models, and both layouts written by hand, so that any part can be wrong. */
import { createCipheriv, createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type LegacyKey, openLegacyToFile } from '../../../owner/legacy/unlock.ts';

export const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

export class Files {
  readonly folder = mkdtempSync(join(tmpdir(), 'strongroom-legacy-'));
  #made = 0;

  path(name = `file-${this.#made++}`): string {
    return join(this.folder, name);
  }

  write(content: Uint8Array | string, name?: string): string {
    const path = this.path(name);
    writeFileSync(path, content);
    return path;
  }

  /** What `openLegacyToFile` makes of it. */
  async open(legacy: string, key: LegacyKey): Promise<Buffer> {
    const out = this.path();
    await openLegacyToFile(legacy, key, out);
    return readFileSync(out);
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

export function framed(magic: string, json: string | Uint8Array, ...rest: Uint8Array[]): Buffer {
  const text = Buffer.from(json as string);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(text.length);
  return Buffer.concat([Buffer.from(magic), length, text, ...rest]);
}

export interface Forged {
  readonly key: Uint8Array;
  readonly plaintext: Uint8Array;
  readonly nonce?: Uint8Array;
  readonly associatedData?: string;
  /** Members in place of the right ones; `undefined` leaves one out. */
  readonly members?: Readonly<Record<string, unknown>>;
}

function encrypted({ key, plaintext, associatedData = '' }: Forged, nonce: Uint8Array): Buffer {
  const cipher = createCipheriv('aes-256-gcm', key, nonce).setAAD(Buffer.from(associatedData));
  return Buffer.concat([cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
}

export function encmodel(forged: Forged): Buffer {
  const { plaintext, nonce = randomBytes(12), associatedData, members } = forged;
  const json = JSON.stringify({
    version: 1,
    algorithm: 'AES-256-GCM',
    plaintext_size: plaintext.length,
    plaintext_hash: sha256(plaintext),
    has_aad: associatedData !== undefined,
    ...members,
  });
  return framed('ENCMODEL', json, nonce, encrypted(forged, nonce));
}

/** `metadata` stands in the envelope as it is given; the associated data is the same text unless given. */
export function envmodel(
  forged: Forged & { metadata?: string; wrapped?: Uint8Array; kmsKeyId?: string },
): Buffer {
  const { plaintext, nonce = randomBytes(12), metadata = '{"model": "iris"}', members } = forged;
  const json = JSON.stringify({
    version: 1,
    kms_key_id: forged.kmsKeyId ?? 'alias/models',
    encrypted_dek: Buffer.from(forged.wrapped ?? randomBytes(60)).toString('base64'),
    nonce: Buffer.from(nonce).toString('base64'),
    metadata: '<metadata>',
    plaintext_hash: sha256(plaintext),
    ...members,
  }).replace('"<metadata>"', () => metadata);
  return framed('ENVMODEL', json, encrypted({ associatedData: metadata, ...forged }, nonce));
}
