/** How an owner seals a model: the whole story is `sealToFolder`. */
import { type KeyObject, randomFillSync } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { SealedModelError } from '../shared/sealed-model/errors.ts';
import { type ChunkSizes, KEY_BYTES, PRODUCTION_SIZES, SALT_BYTES } from '../shared/sealed-model/format.ts';
import { encryptionContextOf } from '../shared/sealed-model/head.ts';
import { faultOfIdentity, faultOfPaths, type ModelIdentity } from '../shared/sealed-model/identity.ts';
import { encodeKeyFile } from '../shared/sealed-model/key-file-write.ts';
import { type ManifestFields, signatureAlgorithmOf } from '../shared/sealed-model/manifest.ts';
import { encodeUnsignedManifest, signManifest } from '../shared/sealed-model/manifest-sign.ts';
import { type PayloadSink, sealModel } from '../shared/sealed-model/seal.ts';
import { planSeal } from '../shared/sealed-model/seal-plan.ts';
import type { PayloadSource } from '../shared/sealed-model/source.ts';
import { Aside } from './aside.ts';
import { OwnerError } from './errors.ts';
import { noteWrap } from './key-life/wrap-label.ts';
import { clearKilledSeals } from './killed-seal.ts';
import { checkKmsKey, expectWrappable, type KmsKey, wrapWithKms } from './kms.ts';
import type { Leftover } from './leftovers.ts';
import { expectOutside, type Plaintext, plaintextOf } from './plaintext.ts';
import { expectRecoveryKey, recoveryFileOf, wrapForRecovery } from './recovery.ts';
import { expectNotAborted, spoolPipe } from './spool.ts';

/** Called once all else is known to be in order. Each read gives the bytes that were there when it resolved, or rejects. */
export type OpenSource = (onBytes: (doneBytes: number, totalBytes: number) => void) => Promise<PayloadSource>;

export interface SealToFolder {
  readonly identity: ModelIdentity;
  /** Paths on disk, or bytes that come in another way, with the path that they get inside the model. */
  readonly input:
    | { readonly kind: 'paths'; readonly paths: readonly string[] }
    | { readonly kind: 'pipe'; readonly pipe: NodeJS.ReadableStream; readonly path: string }
    | { readonly kind: 'source'; readonly open: OpenSource; readonly path: string }
    /** Files that answer for their own bytes, under their own paths. */
    | { readonly kind: 'opened'; readonly open: () => Promise<Plaintext> };
  /** The folder to create, usually NAME.sealed. */
  readonly out: string;
  /** Each wraps the data key; enclaves open the model through any of them. */
  readonly kmsKeys: readonly KmsKey[];
  /** Public; the recovery wrap goes to OUT.recovery.json. Required with KMS keys. */
  readonly recoveryKey?: KeyObject;
  /** 32 bytes that the owner keeps. Without it, a fresh key is made and wiped. */
  readonly dataKey?: Uint8Array;
  /** Private signing key; without it the manifest waits for `strongroom sign`. */
  readonly signer?: KeyObject;
  readonly sizes?: ChunkSizes;
  /** Asked with what was sealed, before it appears under its name; throws to refuse it. */
  readonly expectSealed?: (manifest: ManifestFields) => void;
  /** Notes in each wrap when it was made; without it, none says so. */
  readonly now?: () => Date;
  readonly signal?: AbortSignal;
  /** `totalBytes` is unknown while a pipe is being read. */
  readonly onProgress?: (phase: 'reading' | 'sealing', doneBytes: number, totalBytes?: number) => void;
  /** Told of everything that killed seals left beside `out`. */
  readonly onLeftover?: (leftover: Leftover) => void;
}

export interface SealResult {
  readonly folder: string;
  readonly recoveryFile: string | undefined;
  readonly encryptionContext: Record<string, string>;
  readonly payloadSizeBytes: number;
  readonly manifest: ManifestFields;
}

/** Throws OwnerError, SealedModelError, or the file system's error (ENOSPC); then nothing is left behind. */
export async function sealToFolder(request: SealToFolder): Promise<SealResult> {
  await expectSealable(request);
  const materials = await Promise.all(request.kmsKeys.map((key) => checkKmsKey(key, request.signal)));
  const recoveryFile = request.recoveryKey === undefined ? undefined : recoveryFileOf(request.out);
  if (recoveryFile !== undefined) {
    await clearKilledSeals(request.out, recoveryFile, request.onLeftover ?? (() => {}));
  }
  await using aside = await Aside.create(
    request.out,
    recoveryFile === undefined ? [] : [recoveryFile],
    request.onLeftover,
  );
  await using payload = await aside.openFile('payload');
  await using plaintext = await gatherPlaintext(request, payload);
  expectSomething(plaintext);
  const dataKey = dataKeyFor(request);
  try {
    // Who the model is and where its files lie is final here, so KMS can answer before the long part begins.
    const salt = randomFillSync(new Uint8Array(SALT_BYTES));
    const plan = planSeal(request.identity, plaintext.files, salt, request.sizes);
    const encryptionContext = encryptionContextOf(plan);
    const wraps = await Promise.all(
      request.kmsKeys.map(async (kmsKey, index) => {
        const wrap = await wrapWithKms(kmsKey, dataKey, encryptionContext, request.signal);
        const { now } = request;
        return now === undefined ? wrap : { ...wrap, label: noteWrap(undefined, now(), materials[index]) };
      }),
    );

    const payloadSizeBytes = plan.geometry.payloadSizeBytes;
    const sealed = await sealModel({
      plan,
      inputs: plaintext.inputs,
      dataKey,
      sink: fileSink(payload),
      ...(request.signal === undefined ? {} : { signal: request.signal }),
      onProgress: (doneBytes) => request.onProgress?.('sealing', doneBytes, payloadSizeBytes),
    });
    await plaintext.expectUnchanged();
    await payload.sync();

    const { contentId, files } = sealed;
    const manifest: ManifestFields = { ...request.identity, contentId, files };
    request.expectSealed?.(manifest);
    await aside.writeFile('head', sealed.head);
    if (wraps.length > 0) await aside.writeFile('key.json', encodeKeyFile({ context: plan.context, wraps }));
    await aside.writeFile('manifest.json', manifestBytes(manifest, request.signer));
    if (request.recoveryKey !== undefined && recoveryFile !== undefined) {
      await aside.writeCompanion(recoveryFile, wrapForRecovery(dataKey, plan, request.recoveryKey));
    }
    expectNotAborted(request.signal);
    await aside.publish();
    return { folder: request.out, recoveryFile, encryptionContext, payloadSizeBytes, manifest };
  } finally {
    dataKey.fill(0);
  }
}

/** Everything that can be known before the first byte is read: a training job may take days to end. */
async function expectSealable(request: SealToFolder): Promise<void> {
  const { identity, input, kmsKeys, signer, out } = request;
  expectKeptKey(request);
  const fault = faultOfIdentity(identity) ?? ('path' in input ? faultOfPaths([input.path]) : undefined);
  if (fault !== undefined) {
    throw new SealedModelError('SEALED_INPUT_INVALID', `This cannot be sealed: ${fault}.`);
  }
  if (signer !== undefined) signatureAlgorithmOf(signer);
  expectWrappable(kmsKeys.map(({ keyArn }) => keyArn));
  if (input.kind === 'paths') await expectOutside(out, input.paths);
}

/** Under a generated policy KMS never gives the owner the key back: someone must keep it beside KMS. */
function expectKeptKey({ kmsKeys, recoveryKey, dataKey }: SealToFolder): void {
  if (recoveryKey !== undefined) expectRecoveryKey(recoveryKey);
  if (dataKey === undefined && recoveryKey === undefined) {
    throw new OwnerError('OWNER_NO_SECOND_WRAP', 'A seal needs a recovery key, or a data key that you keep.');
  }
  if (dataKey === undefined && kmsKeys.length === 0) {
    throw new OwnerError('OWNER_NO_SECOND_WRAP', 'A seal needs a KMS key, or a data key that you keep.');
  }
}

/** A pipe without a byte is a training job that failed. */
function expectSomething({ files }: Plaintext): void {
  if (files.length === 0 || files.some(({ sizeBytes }) => sizeBytes > 0)) return;
  throw new OwnerError(
    'OWNER_INPUT_UNUSABLE',
    `The input cannot be sealed: expected a model, found 0 bytes in ${files.map(({ path }) => path).join(', ')}.`,
  );
}

async function gatherPlaintext(request: SealToFolder, payload: FileHandle): Promise<Plaintext> {
  const { input, signal, onProgress } = request;
  if (input.kind === 'paths') return plaintextOf(input.paths);
  if (input.kind === 'opened') return input.open();
  if (input.kind === 'source') {
    const source = await input.open((doneBytes, totalBytes) =>
      onProgress?.('reading', doneBytes, totalBytes),
    );
    return plaintextFrom(input.path, source);
  }
  const chunkBytes = 2 ** (request.sizes ?? PRODUCTION_SIZES).chunkLog2;
  const spooled = await spoolPipe(input.pipe, payload, chunkBytes, {
    signal,
    onBytes: (bytes) => onProgress?.('reading', bytes),
  });
  return plaintextFrom(input.path, spooled);
}

/** A source that answers for its own bytes. */
function plaintextFrom(path: string, source: PayloadSource): Plaintext {
  return {
    files: [{ path, sizeBytes: source.sizeBytes }],
    inputs: [source],
    async expectUnchanged() {},
    async [Symbol.asyncDispose]() {},
  };
}

/** A copy of the owner's, or fresh: either way in an ArrayBuffer of its own that is wiped at the end. */
function dataKeyFor({ dataKey }: SealToFolder): Uint8Array {
  const own = new Uint8Array(new ArrayBuffer(KEY_BYTES));
  if (dataKey === undefined) return randomFillSync(own);
  if (dataKey.length !== KEY_BYTES) {
    throw new OwnerError('OWNER_KEY_UNUSABLE', `A data key has ${KEY_BYTES} bytes, not ${dataKey.length}.`);
  }
  own.set(dataKey);
  return own;
}

function manifestBytes(manifest: ManifestFields, signer: KeyObject | undefined): Uint8Array {
  return signer === undefined ? encodeUnsignedManifest(manifest) : signManifest(manifest, signer);
}

function fileSink(file: FileHandle): PayloadSink {
  return {
    async write(offsetBytes, bytes) {
      for (let done = 0; done < bytes.length; ) {
        done += (await file.write(bytes, done, bytes.length - done, offsetBytes + done)).bytesWritten;
      }
    },
  };
}
