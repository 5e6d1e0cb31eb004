/**
 * A model on its way from the parent's hands to an engine (docs/flow.md, steps 4 to 8): checked before any key
 * is asked for, opened with the key that KMS released, loaded by a confined engine.
 */
import type { ModelPin } from '../shared/deployment/deployment.ts';
import { ggufFilesOf } from '../shared/model-files/gguf-model.ts';
import { type ModelFiles, onnxFilesOf } from '../shared/model-files/onnx-model.ts';
import { encryptionContextOf, HEAD_MAX_BYTES, type Head, parseHead } from '../shared/sealed-model/head.ts';
import {
  expectKeyFileOf,
  KEY_FILE_MAX_BYTES,
  type KeyFile,
  parseKeyFile,
} from '../shared/sealed-model/key-file.ts';
import { expectHeadOf, MANIFEST_MAX_BYTES, verifyManifest } from '../shared/sealed-model/manifest.ts';
import { openSealedModel } from '../shared/sealed-model/open.ts';
import type { OpeningThreads } from '../shared/sealed-model/opening-threads.ts';
import { unlockHead } from '../shared/sealed-model/unlock.ts';
import { BootError } from './errors.ts';
import type { HostService } from './host/host-service.ts';
import { MemoryFile } from './memory-file.ts';

/** One descriptor each, in the enclave and in its engine. */
const MAX_FILES = 128;
/** Formats that an engine of this image loads, and which of their files is which. */
const FORMATS = { onnx: onnxFilesOf, gguf: ggufFilesOf } as const;

export type ModelFormat = keyof typeof FORMATS;

/** A model whose identity the deployment's pin vouches for; nothing of it is decrypted yet. */
export class CheckedModel {
  readonly name: string;
  readonly version: number;
  readonly head: Head;
  readonly keyFile: KeyFile;
  /** SHA-256 of manifest.json, lower-case hex; null where the deployment pins the content and no manifest was read. */
  readonly manifestSha256: string | null;
  /** Which of the head's files is which. */
  readonly files: ModelFiles;
  readonly format: ModelFormat;

  constructor(maker: typeof MAKER, fields: Omit<CheckedModel, 'contentId' | 'encryptionContext'>) {
    if (maker !== MAKER) throw new TypeError('a CheckedModel is made by checkModel alone');
    this.name = fields.name;
    this.version = fields.version;
    this.head = fields.head;
    this.keyFile = fields.keyFile;
    this.manifestSha256 = fields.manifestSha256;
    this.files = fields.files;
    this.format = fields.format;
  }

  /** SHA-256 of the head, lower-case hex: the one value that names these weights. */
  get contentId(): string {
    return Buffer.from(this.head.contentId).toString('hex');
  }

  /** For KMS. Computed from the head that was checked, never read from the host's key file. */
  get encryptionContext(): Readonly<Record<string, string>> {
    return encryptionContextOf(this.head);
  }
}

const MAKER = Symbol('checkModel');

/** Fetches head, key file and manifest once, bounded, holds them, and compares them with the deployment's pin. */
export async function checkModel(
  pin: ModelPin,
  host: Pick<HostService, 'fetchModelFile'>,
): Promise<CheckedModel> {
  const head = parseHead(await host.fetchModelFile(pin.name, 'head', HEAD_MAX_BYTES));
  const manifestSha256 = await expectPinned(pin, head, host);
  const keyFile = parseKeyFile(await host.fetchModelFile(pin.name, 'key.json', KEY_FILE_MAX_BYTES));
  expectKeyFileOf(head, keyFile);
  const { name, version, format } = head.identity;
  if (name !== pin.name) throw notExpected(`a model named ${pin.name}`, `one named ${name}`);
  if (pin.kind === 'signer' && version < pin.minimumVersion) {
    throw notExpected(`version ${pin.minimumVersion} or newer of ${name}`, `version ${version}`);
  }
  if (!isServed(format) || head.files.length > MAX_FILES) {
    throw new BootError(
      'MODEL_UNSUPPORTED',
      `Expected at most ${MAX_FILES} files of format "onnx" or "gguf", found ${head.files.length} of format ${JSON.stringify(format)}.`,
    );
  }
  const files = FORMATS[format](head.files.map(({ path }) => path));
  return new CheckedModel(MAKER, { name, version, head, keyFile, manifestSha256, files, format });
}

function isServed(format: string): format is ModelFormat {
  return Object.hasOwn(FORMATS, format);
}

/** The head is the one that the deployment's signer signed, or the very one that the deployment names. */
async function expectPinned(
  pin: ModelPin,
  head: Head,
  host: Pick<HostService, 'fetchModelFile'>,
): Promise<string | null> {
  if (pin.kind === 'signer') {
    const bytes = await host.fetchModelFile(pin.name, 'manifest.json', MANIFEST_MAX_BYTES);
    const manifest = verifyManifest(bytes, pin.signer);
    expectHeadOf(manifest, head);
    return manifest.sha256;
  }
  const offered = Buffer.from(head.contentId).toString('hex');
  if (offered !== pin.contentId) throw notExpected(`content id ${pin.contentId}`, `content id ${offered}`);
  return null;
}

function notExpected(expected: string, found: string): BootError {
  return new BootError(
    'MODEL_NOT_EXPECTED',
    `The deployment expects ${expected}; the parent offers ${found}.`,
  );
}

export interface OpenWeightsOptions {
  readonly host: Pick<HostService, 'payloadSource'>;
  readonly memoryFolder: string;
  readonly workers: number | OpeningThreads;
}

/** A model's files in memory, read-only and without names, as engines take them. */
export class Weights implements Disposable {
  readonly modelFd: number;
  readonly external: readonly { readonly location: string; readonly fd: number }[];
  readonly tokenizer: readonly { readonly location: string; readonly fd: number }[];
  readonly #files: readonly MemoryFile[];

  /** In the order of the head. */
  constructor(files: readonly MemoryFile[], { main, external, tokenizer }: ModelFiles) {
    const fdOf = (index: number): number => {
      const file = files[index];
      if (file === undefined) throw new TypeError('expected a file for each of the model');
      return file.fd;
    };
    this.#files = files;
    this.modelFd = fdOf(main);
    const named = ({ index, location }: ModelFiles['external'][number]) => ({ location, fd: fdOf(index) });
    this.external = external.map(named);
    this.tokenizer = tokenizer.map(named);
  }

  [Symbol.dispose](): void {
    for (const file of this.#files) file.close();
  }
}

/**
 * Decrypts the model's files into memory, every chunk and every segment authenticated, and returns them
 * read-only. `dataKey` stays the caller's to wipe. Refuses, and leaves nothing behind, on the first bad byte
 * that fetching again does not mend.
 */
export async function openWeights(
  model: CheckedModel,
  dataKey: Uint8Array,
  options: OpenWeightsOptions,
): Promise<Weights> {
  using unlocked = unlockHead(model.head, dataKey);
  using opened = new DisposableStack();
  const sizes = model.head.files.map(({ sizeBytes }) => sizeBytes);
  const writable = MemoryFile.createAll(options.memoryFolder, sizes);
  for (const file of writable) opened.use(file);
  const source = options.host.payloadSource(model.name, model.head.payloadSizeBytes);
  await openSealedModel(
    unlocked,
    source,
    { kind: 'files', fds: writable.map(({ fd }) => fd) },
    { workers: options.workers },
  );
  const readOnly = writable.map((file) => opened.use(file.intoReadOnly()));
  const weights = new Weights(readOnly, model.files);
  opened.move();
  return weights;
}
