/**
 * What a sealed model says of itself, without any key. Everything here is a claim, except what a signature by an expected
 * key covers: the content id, and with it the head (identity, files, sizes, digests) and every byte that the digest table
 * names. `key.json` is never signed.
 */
import type { KeyObject } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { keyIdOf } from '../shared/dsse.ts';
import { parseStrictJson } from '../shared/json.ts';
import { encryptionContextOf, type Head } from '../shared/sealed-model/head.ts';
import { expectKeyFileOf, type KeyFile, parseKeyFile } from '../shared/sealed-model/key-file.ts';
import {
  expectStatementOf,
  MANIFEST_MAX_BYTES,
  type ManifestFields,
  parseEnvelope,
  parseStatement,
  verifyManifest,
} from '../shared/sealed-model/manifest.ts';
import { readHead, readSealedPart, readSealedPartIfThere } from './sealed-folder.ts';

export interface SealedDescription {
  readonly name: string;
  readonly version: number;
  readonly versionLabel?: string;
  readonly format: string;
  /** Hexadecimal. */
  readonly contentId: string;
  readonly encryptionContext: Readonly<Record<string, string>>;
  readonly chunkBytes: number;
  readonly chunkCount: number;
  readonly segmentBytes: number;
  readonly segmentCount: number;
  readonly payloadSizeBytes: number;
  /** Found on the disk; undefined if there is no payload. */
  readonly payloadFoundBytes: number | undefined;
  readonly headSizeBytes: number;
  readonly files: readonly {
    readonly path: string;
    readonly offset: number;
    readonly sizeBytes: number;
    /** Of the plaintext, as the manifest states it. */
    readonly sha256: string;
  }[];
  /** Undefined: nobody's signature was expected, or the expected one is not there. */
  readonly signedBy: string | undefined;
  readonly signatureCount: number;
  /** Key ids that the signatures name; hints that nobody authenticates. */
  readonly claimedSigners: readonly string[];
  /** Empty if there is no key.json: the owner keeps the data key. */
  readonly wraps: readonly {
    readonly keyArn: string;
    readonly label?: string;
    readonly ciphertextSizeBytes: number;
  }[];
}

/**
 * Throws OWNER_NOT_A_SEAL, and SealedModelError for parts that are malformed or do not belong together; with a signer
 * also SEALED_MANIFEST_UNSIGNED.
 */
export async function inspectSealed(folder: string, signer?: KeyObject): Promise<SealedDescription> {
  const head = await readHead(folder);
  const bytes = await readSealedPart(folder, 'manifest.json');
  const envelope = parseEnvelope(bytes);
  const manifest = signer === undefined ? parseStatement(envelope.payload) : verifyManifest(bytes, signer);
  expectStatementOf(manifest, head);
  const payload = await stat(join(folder, 'payload')).catch(() => undefined);
  const keyFile = await readWraps(folder, head);
  const { identity, geometry } = head;
  return {
    name: identity.name,
    version: identity.version,
    ...(identity.versionLabel === undefined ? {} : { versionLabel: identity.versionLabel }),
    format: identity.format,
    contentId: Buffer.from(head.contentId).toString('hex'),
    encryptionContext: encryptionContextOf(head),
    chunkBytes: geometry.chunkBytes,
    chunkCount: geometry.chunkCount,
    segmentBytes: geometry.chunkBytes * geometry.chunksPerSegment,
    segmentCount: geometry.segmentCount,
    payloadSizeBytes: head.payloadSizeBytes,
    payloadFoundBytes: payload?.isFile() ? payload.size : undefined,
    headSizeBytes: sizeOf(head),
    files: filesOf(head, manifest),
    signedBy: signer === undefined ? undefined : keyIdOf(signer),
    signatureCount: envelope.signatures.length,
    claimedSigners: claimedSignersOf(bytes),
    wraps: (keyFile?.wraps ?? []).map(({ keyArn, label, ciphertextBlob }) => ({
      keyArn,
      ...(label === undefined ? {} : { label }),
      ciphertextSizeBytes: ciphertextBlob.length,
    })),
  };
}

/** A reader that decides anything must not look at these; a person may (docs/sealed-model.md section 8.3). */
function claimedSignersOf(manifest: Uint8Array): readonly string[] {
  const { value } = parseStrictJson(manifest, { maxBytes: MANIFEST_MAX_BYTES, maxDepth: 4 });
  const { signatures } = value as unknown as { readonly signatures: readonly { readonly keyid?: unknown }[] };
  return signatures
    .map(({ keyid }) => keyid)
    .filter((keyid) => typeof keyid === 'string')
    .map((keyid) => (/^[!-~]{1,128}$/.test(keyid) ? keyid : '(unprintable)'));
}

async function readWraps(folder: string, head: Head): Promise<KeyFile | undefined> {
  const bytes = await readSealedPartIfThere(folder, 'key.json');
  if (bytes === undefined) return undefined;
  const keyFile = parseKeyFile(bytes);
  expectKeyFileOf(head, keyFile);
  return keyFile;
}

function filesOf(head: Head, manifest: ManifestFields): SealedDescription['files'] {
  return head.files.map(({ path, offset, sizeBytes }, index) => ({
    path,
    offset,
    sizeBytes,
    sha256: manifest.files[index]?.sha256 ?? '',
  }));
}

function sizeOf({ parts }: Head): number {
  const { preludeAndCore, commitment, mac, tags, digests } = parts;
  return [preludeAndCore, commitment, mac, tags, digests].reduce((sum, part) => sum + part.length, 0);
}
