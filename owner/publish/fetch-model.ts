/**
 * Fetching a published model into a folder. Everything comes from a store that nobody trusts: the small parts are
 * held against one another (and the manifest against its signer), each segment of the payload against the digest
 * that the head holds, before anything has the final name. What was fetched when the command stopped or was killed
 * is taken up by the next one; what of it counts, the digests say.
 */
import type { KeyObject } from 'node:crypto';
import { mkdir, rm } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { HEAD_MAX_BYTES, type Head, parseHead } from '../../shared/sealed-model/head.ts';
import { expectKeyFileOf, KEY_FILE_MAX_BYTES, parseKeyFile } from '../../shared/sealed-model/key-file.ts';
import {
  expectHeadOf,
  expectStatementOf,
  MANIFEST_MAX_BYTES,
  parseEnvelope,
  parseStatement,
  verifyManifest,
} from '../../shared/sealed-model/manifest.ts';
import { removeMadeFolders, syncFolder } from '../aside.ts';
import { adoptLeftover, asideOf, type Leftover, removeLeftovers } from '../leftovers.ts';
import { expectAbsent, renameNew } from '../rename.ts';
import { writeNewFile } from '../secret-files.ts';
import { expectNotStopped, PublishError } from './errors.ts';
import { fetchPayload } from './fetch-payload.ts';
import { type FetchSource, failing } from './fetch-source.ts';
import type { SmallPart } from './local-model.ts';

export interface FetchModel {
  readonly source: FetchSource;
  /** `NAME` of `NAME.sealed`. */
  readonly model: string;
  readonly out: string;
  /** Whose signature the manifest must have. */
  readonly signer?: KeyObject;
  /** Lower-case hex. */
  readonly contentId?: string;
  readonly lanes: number;
  readonly signal: AbortSignal;
  readonly onProgress?: (phase: 'checking' | 'fetching', doneBytes: number, totalBytes: number) => void;
  readonly onLeftover?: (leftover: Leftover) => void;
}

export interface FetchResult {
  readonly folder: string;
  readonly name: string;
  readonly version: number;
  readonly contentId: string;
  readonly signatureChecked: boolean;
  readonly payloadSizeBytes: number;
  readonly resumedBytes: number;
}

/** Throws PublishError, OWNER_WOULD_OVERWRITE, SealedModelError. */
export async function fetchModel(request: FetchModel): Promise<FetchResult> {
  const out = resolve(request.out);
  await expectAbsent(out);
  const parts = await fetchSmallParts(request);
  const made = await mkdir(dirname(out), { recursive: true });
  const adopted = await adoptLeftover(out);
  for (const leftover of await removeLeftovers(out)) {
    if (leftover.path !== adopted) request.onLeftover?.(leftover);
  }
  const aside = adopted ?? asideOf(out);
  if (adopted === undefined) await mkdir(aside);
  try {
    const resumedBytes = await fetchPayload(request, parts.head, aside);
    for (const [part, bytes] of parts.bytes) {
      await rm(join(aside, part), { force: true });
      await writeNewFile(join(aside, part), bytes, 0o644);
    }
    if (!parts.bytes.has('key.json')) await rm(join(aside, 'key.json'), { force: true });
    await syncFolder(aside);
    expectNotStopped(request.signal);
    await renameNew(aside, out);
    await syncFolder(dirname(out));
    const { identity, contentId, payloadSizeBytes } = parts.head;
    return {
      folder: request.out,
      name: identity.name,
      version: identity.version,
      contentId: hex(contentId),
      signatureChecked: request.signer !== undefined,
      payloadSizeBytes,
      resumedBytes,
    };
  } catch (error) {
    // What may pass later keeps what was fetched so far for the next run.
    if (!(error instanceof PublishError && error.exitCode === 3)) {
      await rm(aside, { recursive: true, force: true });
      await removeMadeFolders(made, out);
    }
    throw error;
  }
}

interface SmallParts {
  readonly head: Head;
  readonly bytes: ReadonlyMap<SmallPart, Uint8Array>;
}

async function fetchSmallParts(request: FetchModel): Promise<SmallParts> {
  const { signer, contentId, model } = request;
  const headBytes = await readSmall(request, 'head', HEAD_MAX_BYTES);
  const manifest = await readSmall(request, 'manifest.json', MANIFEST_MAX_BYTES);
  if (headBytes === undefined || manifest === undefined) {
    throw new PublishError('FETCH_NOT_FOUND', `There is no head and manifest.json in ${model}.sealed.`);
  }
  const keyFile = await readSmall(request, 'key.json', KEY_FILE_MAX_BYTES);
  const head = parseHead(headBytes);
  if (contentId !== undefined && contentId !== hex(head.contentId)) {
    throw new PublishError(
      'FETCH_OTHER_MODEL',
      `Expected content id ${contentId}, found ${hex(head.contentId)}.`,
    );
  }
  if (signer !== undefined) expectHeadOf(verifyManifest(manifest, signer), head);
  else expectStatementOf(parseStatement(parseEnvelope(manifest).payload), head);
  if (keyFile !== undefined) expectKeyFileOf(head, parseKeyFile(keyFile));
  return {
    head,
    bytes: new Map<SmallPart, Uint8Array>([
      ['head', headBytes],
      ...(keyFile === undefined ? [] : [['key.json', keyFile] as const]),
      ['manifest.json', manifest],
    ]),
  };
}

async function readSmall(
  { source, model, signal }: FetchModel,
  part: SmallPart,
  maxBytes: number,
): Promise<Uint8Array | undefined> {
  const file = await failing(signal, () => source.open(model, part, signal));
  if (file === undefined) return undefined;
  await using _file = file;
  if (file.sizeBytes > maxBytes) {
    throw new PublishError(
      'FETCH_OTHER_MODEL',
      `${part} has ${file.sizeBytes} bytes, at most ${maxBytes} are read.`,
    );
  }
  const bytes = new Uint8Array(file.sizeBytes);
  if (bytes.length === 0) return bytes;
  return await failing(signal, async () => {
    let at = 0;
    for await (const chunk of await file.read({ first: 0, last: bytes.length - 1 })) {
      bytes.set(chunk, at);
      at += chunk.length;
    }
    if (at !== bytes.length) throw new RangeError(`${part} ended after ${at} bytes`);
    return bytes;
  });
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}
