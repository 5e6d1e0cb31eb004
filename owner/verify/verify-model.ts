/**
 * Everything that can be said about a sealed model from its four files and what its owner knows, without releasing a
 * byte of it. Where trust begins is the point: the digest table is part of the head, and the content id is the head's
 * SHA-256, so whoever vouches for the content id vouches for every byte of the payload, and no key is needed to check it.
 */
import type { KeyObject } from 'node:crypto';
import { join } from 'node:path';
import { keyIdOf } from '../../shared/dsse.ts';
import { codeOf, type StrongroomError } from '../../shared/errors.ts';
import { SealedModelError } from '../../shared/sealed-model/errors.ts';
import type { Head } from '../../shared/sealed-model/head.ts';
import { expectKeyFileOf, parseKeyFile } from '../../shared/sealed-model/key-file.ts';
import {
  expectStatementOf,
  type ManifestFields,
  parseEnvelope,
  parseStatement,
  verifyManifest,
} from '../../shared/sealed-model/manifest.ts';
import { type FileSource, fileSource } from '../../shared/sealed-model/source.ts';
import { OwnerError } from '../errors.ts';
import { type ModelKey, withModelKey } from '../model-key.ts';
import { verifyOmsBundle, verifyOmsFiles } from '../oms/sealed.ts';
import { readHead, readSealedPart, readSealedPartIfThere } from '../sealed-folder.ts';
import { type CheckId, type CheckResult, type ModelTicks, ticksOf } from './checks.ts';
import { conclude } from './conclude.ts';
import { checkDigests, checkStrictly, drawSegments, type Observe, type SegmentReport } from './segments.ts';

export interface VerifySealed extends Observe {
  /** NAME.sealed. */
  readonly sealed: string;
  /** Public key that must have signed the manifest, or the Model Signing bundle if one is given. */
  readonly signer?: KeyObject | undefined;
  /** Lower-case hex, from a source that the caller trusts. */
  readonly contentId?: string | undefined;
  /** An OpenSSF Model Signing bundle; needs `signer`. */
  readonly oms?: Uint8Array | undefined;
  readonly key?: ModelKey | undefined;
  /** How many segments of so many to look at, drawn at random; all if left out. */
  readonly sample?: ((segmentCount: number) => number) | undefined;
  /** A whole number from 0 to below - 1, each as likely. */
  readonly random: (below: number) => number;
}

export interface Verification {
  readonly checks: readonly CheckResult[];
  /** The first failure, or OWNER_NOBODY_VOUCHES; undefined if all that was asked is in order. */
  readonly error: StrongroomError | undefined;
  /** What the head says of itself, whether or not anybody vouches for it. */
  readonly model: { readonly name: string; readonly version: number; readonly contentId: string } | undefined;
  readonly proven: readonly string[];
  readonly notProven: readonly string[];
}

/** Faults of the model are in the result; folders that cannot be read and the owner's own mistakes are thrown. */
export async function verifySealed(request: VerifySealed): Promise<Verification> {
  const { sealed, signer, contentId, oms, signal } = request;
  const hasKeyFile = (await readSealedPartIfThere(sealed, 'key.json')) !== undefined;
  const ticks = ticksOf('sealed', checksAsked(request, hasKeyFile));
  const head = await ticks.makeAsync('head', () => readHead(sealed), describeHead);
  if (head === undefined) return { ...conclude(ticks, request), model: undefined };

  const id = Buffer.from(head.contentId).toString('hex');
  const manifest = await checkManifest(ticks, head, request);
  if (hasKeyFile) await checkKeyFile(ticks, head, sealed);
  if (contentId !== undefined) {
    await ticks.makeAsync(
      'content-id',
      () => expectContentId(id, contentId),
      () => id,
    );
  }
  const bundle =
    oms === undefined || signer === undefined
      ? undefined
      : await ticks.makeAsync(
          'oms',
          () => verifyOmsBundle(oms, signer),
          ({ resources, serialization }) =>
            `${resources.length} ${serialization.method}, ${describeKey(signer)}`,
        );

  await using source = await fileSource(join(sealed, 'payload'));
  const segments = segmentsOf(head, request);
  const whole = segments.length === head.geometry.segmentCount;
  const sizeRight = await ticks.makeAsync(
    'payload-size',
    () => expectSize(head, source),
    () => `${source.sizeBytes} bytes`,
  );
  const checked = { head, source, segments, whole, manifest };
  if (sizeRight) await checkPayload(ticks, request, checked);
  else if (request.key !== undefined) await unlockOnly(ticks, request, head, request.key);
  if (bundle !== undefined && sizeRight) {
    const payloadMatchesHead = whole && ticks.has('digests');
    await ticks.makeAsync(
      'oms-files',
      () => verifyOmsFiles(sealed, bundle, { head, payloadMatchesHead, signal }),
      (paths) => paths.join(', '),
    );
  }
  const { name, version } = head.identity;
  return {
    ...conclude(ticks, request, { segmentCount: head.geometry.segmentCount, looked: segments.length }),
    model: { name, version, contentId: id },
  };
}

function checksAsked({ signer, contentId, oms, key, sample }: VerifySealed, hasKeyFile: boolean): CheckId[] {
  const asked: CheckId[] = ['head', 'payload-size', 'manifest', 'same-model', 'digests'];
  if (hasKeyFile) asked.push('key-file');
  if (contentId !== undefined) asked.push('content-id');
  if (oms !== undefined) asked.push('oms', 'oms-files');
  else if (signer !== undefined) asked.push('signature');
  if (key !== undefined) asked.push('key', 'commitment', 'mac', 'tags', 'gaps');
  if (key !== undefined && sample === undefined) asked.push('files');
  return asked;
}

async function checkManifest(
  ticks: ModelTicks,
  head: Head,
  { sealed, signer, oms }: VerifySealed,
): Promise<ManifestFields | undefined> {
  let signatures = 0;
  let bytes = new Uint8Array(0);
  const manifest = await ticks.makeAsync(
    'manifest',
    async () => {
      bytes = new Uint8Array(await readSealedPart(sealed, 'manifest.json'));
      const envelope = parseEnvelope(bytes);
      signatures = envelope.signatures.length;
      return parseStatement(envelope.payload);
    },
    () => (signatures === 0 ? 'not signed yet' : `${signatures} signature${signatures === 1 ? '' : 's'}`),
  );
  if (manifest === undefined) return undefined;
  const same = await ticks.makeAsync(
    'same-model',
    () => {
      expectStatementOf(manifest, head);
      return manifest;
    },
    ({ name, version }) => `${name} version ${version}`,
  );
  if (signer !== undefined && oms === undefined) {
    await ticks.makeAsync(
      'signature',
      () => verifyManifest(bytes, signer),
      () => describeKey(signer),
    );
  }
  return same;
}

async function checkKeyFile(ticks: ModelTicks, head: Head, sealed: string): Promise<void> {
  await ticks.makeAsync(
    'key-file',
    async () => {
      const keyFile = parseKeyFile(await readSealedPart(sealed, 'key.json'));
      expectKeyFileOf(head, keyFile);
      return keyFile;
    },
    ({ wraps }) => `${wraps.length} KMS key${wraps.length === 1 ? '' : 's'}`,
  );
}

interface Checked {
  readonly head: Head;
  readonly source: FileSource;
  readonly segments: readonly number[];
  readonly whole: boolean;
  readonly manifest: ManifestFields | undefined;
}

/** With a key that fits, tags and digests in one pass; otherwise the digests alone. */
async function checkPayload(ticks: ModelTicks, request: VerifySealed, checked: Checked): Promise<void> {
  const { sealed, key, signal } = request;
  const { head, source, segments } = checked;
  const withoutKey = async (): Promise<void> =>
    noteDigests(ticks, checked, await checkDigests(head, source, segments, request));
  if (key === undefined) {
    await withoutKey();
    return;
  }
  let unlockedHead = false;
  try {
    await withModelKey(sealed, head, key, signal, async (unlocked) => {
      unlockedHead = true;
      noteUnlocked(ticks);
      const report = await checkStrictly(unlocked, source, segments, request);
      noteDigests(ticks, checked, report);
      noteTags(ticks, checked, report);
      noteFiles(ticks, checked, report.files);
    });
  } catch (error) {
    if (unlockedHead) throw error;
    noteLocked(ticks, error);
    await withoutKey();
  }
}

/** For a payload that is not worth reading. */
async function unlockOnly(
  ticks: ModelTicks,
  { sealed, signal }: VerifySealed,
  head: Head,
  key: ModelKey,
): Promise<void> {
  await withModelKey(sealed, head, key, signal, async () => noteUnlocked(ticks)).catch((error: unknown) =>
    noteLocked(ticks, error),
  );
}

function noteUnlocked(ticks: ModelTicks): void {
  ticks.passed('key', '');
  ticks.passed('commitment', '');
  ticks.passed('mac', '');
}

/** Which of the three steps an error came from (docs/sealed-model.md section 6). */
function noteLocked(ticks: ModelTicks, error: unknown): void {
  const code = codeOf(error);
  const step = code === 'SEALED_KEY_MISMATCH' ? 'commitment' : code === 'SEALED_HEAD_FORGED' ? 'mac' : 'key';
  if (step !== 'key') ticks.passed('key', '');
  if (step === 'mac') ticks.passed('commitment', '');
  ticks.failed(step, error);
}

function noteDigests(ticks: ModelTicks, { segments, whole }: Checked, { faults }: SegmentReport): void {
  const wrong = faults.filter(({ fault }) => fault === 'digest').map(({ segment }) => segment);
  if (wrong.length === 0) ticks.passed('digests', describeSegments(segments, whole));
  else {
    ticks.failed(
      'digests',
      new OwnerError(
        'OWNER_PAYLOAD_ALTERED',
        `${wrong.length} of ${segments.length} segments are not those that the head states: ${listed(wrong)}.`,
      ),
    );
  }
}

function noteTags(ticks: ModelTicks, { segments, whole }: Checked, { faults }: SegmentReport): void {
  const segmentsWith = (fault: 'tag' | 'gap'): number[] =>
    faults.filter((found) => found.fault === fault).map(({ segment }) => segment);
  const [tags, gaps] = [segmentsWith('tag'), segmentsWith('gap')];
  if (tags.length === 0) ticks.passed('tags', describeSegments(segments, whole));
  else {
    ticks.failed(
      'tags',
      new SealedModelError('SEALED_CHUNK_REFUSED', `Chunks are refused in segments ${listed(tags)}.`),
    );
  }
  if (gaps.length > 0) {
    ticks.failed(
      'gaps',
      new SealedModelError(
        'SEALED_GAP_NOT_ZERO',
        `Something lies between two files in segments ${listed(gaps)}.`,
      ),
    );
  } else if (tags.length === 0) ticks.passed('gaps', describeSegments(segments, whole));
}

function noteFiles(
  ticks: ModelTicks,
  { whole, manifest }: Checked,
  digests: ReadonlyMap<string, string>,
): void {
  if (!whole || manifest === undefined) return;
  const wrong = manifest.files.filter(({ path, sha256 }) => {
    const found = digests.get(path);
    return found !== undefined && found !== sha256;
  });
  if (wrong.length > 0) {
    ticks.failed(
      'files',
      new OwnerError(
        'OWNER_MANIFEST_FALSE',
        `These files have another SHA-256 than the manifest states: ${wrong.map(({ path }) => path).join(', ')}.`,
      ),
    );
  } else if (manifest.files.every(({ path }) => digests.has(path))) {
    ticks.passed('files', `${manifest.files.length}`);
  }
}

function segmentsOf({ geometry }: Head, { sample, random }: VerifySealed): readonly number[] {
  const { segmentCount } = geometry;
  const looked =
    sample === undefined ? segmentCount : Math.min(Math.max(0, sample(segmentCount)), segmentCount);
  return drawSegments(segmentCount, looked, random);
}

function expectContentId(found: string, expected: string): void {
  if (found === expected) return;
  throw new OwnerError('OWNER_CONTENT_FOREIGN', `The content id is ${found}, not ${expected}.`);
}

function expectSize(head: Head, source: FileSource): true {
  if (source.sizeBytes === head.payloadSizeBytes) return true;
  throw new SealedModelError(
    'SEALED_PAYLOAD_SIZE',
    `The payload has ${source.sizeBytes} bytes, the head says ${head.payloadSizeBytes}.`,
  );
}

function describeHead({ files, geometry }: Head): string {
  return `${files.length} file${files.length === 1 ? '' : 's'}, ${geometry.chunkCount} chunks, ${geometry.segmentCount} segments`;
}

function describeKey(key: KeyObject): string {
  return `by key ${keyIdOf(key)}`;
}

function describeSegments(segments: readonly number[], whole: boolean): string {
  return whole ? `all ${segments.length} segments` : `${segments.length} segments, drawn at random`;
}

const LISTED_MAX = 20;

function listed(numbers: readonly number[]): string {
  const shown = numbers.slice(0, LISTED_MAX).join(', ');
  return numbers.length > LISTED_MAX ? `${shown} and ${numbers.length - LISTED_MAX} more` : shown;
}
