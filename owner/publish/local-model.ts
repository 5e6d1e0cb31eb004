/** A sealed model that is about to be published: its four files, as far as they can be known to belong together. */
import { createHash } from 'node:crypto';
import { constants, type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { type Head, parseHead } from '../../shared/sealed-model/head.ts';
import { expectKeyFileOf, parseKeyFile } from '../../shared/sealed-model/key-file.ts';
import { expectStatementOf, parseEnvelope, parseStatement } from '../../shared/sealed-model/manifest.ts';
import { readSealedPart, readSealedPartIfThere } from '../sealed-folder.ts';
import { PublishError } from './errors.ts';
import type { Segment } from './segments.ts';

/** In the order in which they are published: a reader begins with the head, and needs the manifest. */
export const SMALL_PARTS = ['key.json', 'head', 'manifest.json'] as const;
export type SmallPart = (typeof SMALL_PARTS)[number];

export interface LocalModel extends AsyncDisposable {
  readonly head: Head;
  /** Lower-case hex. */
  readonly contentId: string;
  readonly payload: FileHandle;
  /** key.json is absent from a model whose data key its owner keeps. */
  readonly parts: ReadonlyMap<SmallPart, Uint8Array>;
  /** Whether anybody signed the manifest; whose signature it is nobody asked. */
  readonly signed: boolean;
}

/** Throws PUBLISH_INPUT_UNUSABLE, OwnerError, SealedModelError. */
export async function openLocalModel(folder: string): Promise<LocalModel> {
  const head = await readSealedPart(folder, 'head');
  const manifest = await readSealedPart(folder, 'manifest.json');
  const keyFile = await readSealedPartIfThere(folder, 'key.json');
  const parsed = parseHead(head);
  const { payload: statement, signatures } = parseEnvelope(manifest);
  expectStatementOf(parseStatement(statement), parsed);
  if (keyFile !== undefined) expectKeyFileOf(parsed, parseKeyFile(keyFile));

  const payload = await openPayload(join(folder, 'payload'), parsed.payloadSizeBytes);
  return {
    head: parsed,
    contentId: Buffer.from(parsed.contentId).toString('hex'),
    payload,
    parts: new Map<SmallPart, Uint8Array>([
      ...(keyFile === undefined ? [] : [['key.json', keyFile] as const]),
      ['head', head],
      ['manifest.json', manifest],
    ]),
    signed: signatures.length > 0,
    [Symbol.asyncDispose]: () => payload.close(),
  };
}

async function openPayload(path: string, sizeBytes: number): Promise<FileHandle> {
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK).catch(
    (cause: NodeJS.ErrnoException) => {
      if (cause.code !== 'ENOENT') throw cause;
      throw new PublishError('PUBLISH_INPUT_UNUSABLE', `Expected ${path}, found no such file.`, cause);
    },
  );
  const status = await file.stat();
  if (status.isFile() && status.size === sizeBytes) return file;
  await file.close();
  throw new PublishError(
    'PUBLISH_INPUT_UNUSABLE',
    `Expected ${path} to be a file of ${sizeBytes} bytes, found ${status.size}.`,
  );
}

/** Fills `target` whole from this offset. */
export async function readWhole(file: FileHandle, offsetBytes: number, target: Uint8Array): Promise<void> {
  for (let done = 0; done < target.length; ) {
    const { bytesRead } = await file.read(target, done, target.length - done, offsetBytes + done);
    if (bytesRead === 0) throw altered(`it ends at byte ${offsetBytes + done}`);
    done += bytesRead;
  }
}

/** So many bytes are hashed before others get their turn. */
const HASH_SLICE_BYTES = 4 << 20;

export async function sha256(bytes: Uint8Array): Promise<Uint8Array> {
  const hash = createHash('sha256');
  for (let at = 0; at < bytes.length; at += HASH_SLICE_BYTES) {
    hash.update(bytes.subarray(at, at + HASH_SLICE_BYTES));
    await new Promise((resolve) => setImmediate(resolve));
  }
  return new Uint8Array(hash.digest());
}

export function altered(why: string): PublishError {
  return new PublishError(
    'PUBLISH_INPUT_UNUSABLE',
    `The payload is not the one that its head describes: ${why}.`,
  );
}

/** Throws PUBLISH_INPUT_UNUSABLE if the bytes on the disk are not those that the head describes. */
export async function readPart(
  payload: FileHandle,
  part: Segment | undefined,
  index: number,
  target: Uint8Array,
): Promise<void> {
  if (part === undefined) return;
  await readWhole(payload, part.offsetBytes, target);
  if (Buffer.compare(await sha256(target), part.sha256) !== 0)
    throw altered(`part ${index + 1} has another digest`);
}
