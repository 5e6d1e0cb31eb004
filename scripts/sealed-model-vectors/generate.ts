/**
 * Writes test/vectors-sealed-model/: one folder a case with head, payload and case.json, for any implementation
 * of docs/sealed-model.md. Deterministic; run `node scripts/sealed-model-vectors/generate.ts` after changing a case.
 */
import { createDecipheriv, createHash } from 'node:crypto';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { sameTagCiphertext, twoKeyCiphertext } from './ghash.ts';
import { chunkInputs, type PlainSeal, type PlainSealed, plainHead, plainSeal } from './plain-seal.ts';

export const SEALED_MODEL_VECTORS = join(import.meta.dirname, '../../test/vectors-sealed-model');

export interface VectorCase {
  readonly says: string;
  /** Hex. */
  readonly dataKey: string;
  /** Either the SHA-256 (hex) of the opened payload, or the code of the refusal. */
  readonly opens?: string;
  readonly refused?: string;
  readonly contentId: string;
  /** For cases that only the digest table refuses: the tags alone accept them. */
  readonly tagsAccept?: true;
}

const SIZES = [8, 10, 12] as const; // chunks of 256 bytes, segments of 1 KiB, epochs of 4 KiB
const CHUNK = 256;
const SALT = pattern('salt', 32);
const DATA_KEY = pattern('data key', 32);
const OTHER_KEY = pattern('other data key', 32);

/** Reproducible bytes that look random. */
function pattern(seed: string, length: number): Buffer {
  const blocks = Array.from({ length: Math.ceil(length / 32) }, (_, index) =>
    createHash('sha256').update(`${seed} ${index}`).digest(),
  );
  return Buffer.concat(blocks).subarray(0, length);
}

interface Members {
  files?: string;
  format?: string;
  name?: string;
  version?: string;
  extra?: string;
}

/** The core header's text, member by member, so that single cases can get one wrong. */
function core({ files = '[]', format = 'onnx', name = 'iris', version = '3', extra = '' }: Members): string {
  const salt = SALT.toString('base64');
  return `{"files":${files},"format":"${format}","name":"${name}","salt":"${salt}","version":${version}${extra}}`;
}

function file(path: string, offset: number, size: number): string {
  return `{"offset":${offset},"path":"${path}","size":${size}}`;
}

function oneFile(size: number): PlainSeal {
  const text = core({ files: `[${file('model.onnx', 0, size)}]` });
  return { sizes: SIZES, core: text, salt: SALT, dataKey: DATA_KEY, image: pattern(`image ${size}`, size) };
}

/** Two files with a gap between them, across an epoch edge. */
function twoFiles(gapByte = 0): PlainSeal {
  const image = Buffer.alloc(1024 + 4000);
  pattern('config', 700).copy(image, 0);
  pattern('weights', 4000).copy(image, 1024);
  image[1000] = gapByte;
  const text = core({
    files: `[${file('config.json', 0, 700)},${file('weights/model.onnx', 1024, 4000)}]`,
    extra: ',"versionLabel":"third, after review"',
  });
  return { sizes: SIZES, core: text, salt: SALT, dataKey: DATA_KEY, image };
}

type Write = (
  name: string,
  fields: Omit<VectorCase, 'contentId'>,
  head: Uint8Array,
  payload: Uint8Array,
) => void;

export function writeSealedModelVectors(folder: string): void {
  const write: Write = (name, fields, head, payload) => {
    mkdirSync(join(folder, name), { recursive: true });
    writeFileSync(join(folder, name, 'head'), head);
    writeFileSync(join(folder, name, 'payload'), payload);
    const contentId = createHash('sha256').update(head).digest('hex');
    writeFileSync(join(folder, name, 'case.json'), `${JSON.stringify({ ...fields, contentId }, null, 2)}\n`);
  };
  writePositives(write);
  writeHeadRefusals(write);
  writePayloadRefusals(write);
  writeForgeries(write);
}

const key = DATA_KEY.toString('hex');

function writePositives(write: Write): void {
  for (const size of [0, 1, 255, 256, 257, 1023, 1024, 1025, 4096, 4097]) {
    const seal = oneFile(size);
    const { head, payload } = plainSeal(seal);
    const says = `one file of ${size} bytes`;
    write(`size-${size}`, { says, dataKey: key, opens: sha256(seal.image) }, head, payload);
  }
  const { head, payload } = plainSeal(twoFiles());
  const says = 'two files, a gap of zeros, two epochs';
  write('two-files', { says, dataKey: key, opens: sha256(twoFiles().image) }, head, payload);
}

function writeHeadRefusals(write: Write): void {
  const good = plainSeal(oneFile(1025));
  const change = (name: string, says: string, refused: string, edit: (head: Buffer) => Uint8Array): void =>
    write(name, { says, dataKey: key, refused }, edit(Buffer.from(good.head)), good.payload);
  const set = (offset: number, value: number) => (head: Buffer) => {
    head[offset] = value;
    return head;
  };
  const malformed = 'SEALED_HEAD_MALFORMED';
  const macAt = good.head.indexOf(good.tags) - 32;
  change('magic', 'another magic number', malformed, set(0, 0x88));
  change('text-mode', 'CR LF of the magic turned into LF', malformed, (head) =>
    Buffer.concat([head.subarray(0, 4), head.subarray(5)]),
  );
  change('version-2', 'an unknown format version', 'SEALED_VERSION_UNKNOWN', set(9, 2));
  change('suite-2', 'an unknown suite', 'SEALED_VERSION_UNKNOWN', set(11, 2));
  change('flags', 'an unknown flag', 'SEALED_VERSION_UNKNOWN', set(15, 1));
  change('chunk-too-small', 'chunks of 128 bytes', malformed, set(16, 7));
  change('segment-below-chunk', 'segments smaller than chunks', malformed, set(17, 7));
  change('epoch-below-segment', 'epochs smaller than segments', malformed, set(18, 9));
  change('zero-byte', 'the byte after the sizes is not zero', malformed, set(19, 1));
  change('reserved', 'a reserved byte is not zero', malformed, set(63, 1));
  change('chunk-count', 'one chunk more than the payload has', malformed, set(31, 6));
  change('payload-size', 'a payload size that the files do not have', malformed, set(39, 2));
  change('core-length', 'a core header one byte longer', malformed, set(23, (good.head[23] as number) + 1));
  change('head-truncated', 'the last byte of the head is missing', malformed, (head) => head.subarray(0, -1));
  change('head-extended', 'one byte after the head', malformed, (head) =>
    Buffer.concat([head, Buffer.alloc(1)]),
  );
  change('head-empty', 'an empty head', malformed, () => new Uint8Array(0));
  change('renamed', 'the name in the core header was changed', 'SEALED_KEY_MISMATCH', (head) => {
    head.write('iriz', head.indexOf('"iris"') + 1);
    return head;
  });
  change('newer', 'the version in the core header was raised', 'SEALED_KEY_MISMATCH', (head) => {
    head.write('4', head.indexOf('"version":3') + 10);
    return head;
  });
  change('commitment', 'one bit of the commitment', 'SEALED_KEY_MISMATCH', (head) => flip(head, macAt - 32));
  change('mac', 'one bit of the MAC', 'SEALED_HEAD_FORGED', (head) => flip(head, macAt));
  change('tag', 'one bit of the tag table', 'SEALED_HEAD_FORGED', (head) => flip(head, macAt + 32));
  change('tags-swapped', 'two tags swapped', 'SEALED_HEAD_FORGED', (head) => swap(head, macAt + 32, 16));
  change('digest', 'one bit of the digest table', 'SEALED_HEAD_FORGED', (head) =>
    flip(head, head.length - 1),
  );
  write(
    'wrong-key',
    { says: 'another data key', dataKey: OTHER_KEY.toString('hex'), refused: 'SEALED_KEY_MISMATCH' },
    good.head,
    good.payload,
  );
  writeCoreRefusals(write);
}

/** Heads that hold together under their data key, so only the rules for core headers refuse them. */
function writeCoreRefusals(write: Write): void {
  const files = `[${file('model.onnx', 0, 300)}]`;
  const cases: Record<string, readonly [says: string, text: string]> = {
    'core-spaces': ['not canonical: a space', core({ files }).replace(':', ': ')],
    'core-order': [
      'not canonical: order of members',
      core({ files })
        .replace(/("format":"onnx",)(.*)}$/, '$2,$1}')
        .replace(',}', '}'),
    ],
    'core-number': ['not canonical: 3.0', core({ files, version: '3.0' })],
    'core-duplicate': ['a member twice', core({ files, extra: ',"version":3' })],
    'core-unknown': ['an unknown member', core({ files, extra: ',"zero":0' })],
    'core-version-zero': ['version 0', core({ files, version: '0' })],
    'core-version-text': ['version is a string', core({ files, version: '"3"' })],
    'core-name': ['a name with a slash', core({ files, name: 'a/b' })],
    'core-format': ['an upper-case format', core({ files, format: 'ONNX' })],
    'core-no-files': ['no files', core({ files: '[]' })],
    'core-path-up': ['a path that climbs', core({ files: `[${file('../model.onnx', 0, 300)}]` })],
    'core-path-absolute': ['an absolute path', core({ files: `[${file('/model.onnx', 0, 300)}]` })],
    'core-offset': [
      'a file off its boundary',
      core({ files: `[${file('a', 0, 10)},${file('b', 256, 44)}]` }),
    ],
    'core-overlap': [
      'two files at one place',
      core({ files: `[${file('a', 0, 300)},${file('b', 0, 300)}]` }),
    ],
    'core-unsorted': ['files out of order', core({ files: `[${file('b', 0, 0)},${file('a', 0, 300)}]` })],
    'core-same-path': ['one path twice', core({ files: `[${file('a', 0, 0)},${file('a', 0, 300)}]` })],
    'core-file-is-folder': [
      'a file that is a folder too',
      core({ files: `[${file('a', 0, 0)},${file('a/b', 0, 300)}]` }),
    ],
    'core-not-json': ['not JSON', core({ files }).slice(0, -1)],
  };
  for (const [name, [says, text]] of Object.entries(cases)) {
    const { head, payload } = plainSeal({ ...oneFile(300), core: text });
    write(name, { says, dataKey: key, refused: 'SEALED_HEAD_MALFORMED' }, head, payload);
  }
}

function writePayloadRefusals(write: Write): void {
  const good = plainSeal(twoFiles());
  const foreign = plainSeal({ ...twoFiles(), core: twoFiles().core.replace('iris', 'rose') });
  const change = (name: string, says: string, refused: string, edit: (payload: Buffer) => Uint8Array): void =>
    write(name, { says, dataKey: key, refused }, good.head, edit(Buffer.from(good.payload)));
  const chunk = 'SEALED_CHUNK_REFUSED';
  change('payload-bit', 'one bit of the payload', chunk, (payload) => flip(payload, 2000));
  change('payload-last-bit', 'the last bit', chunk, (payload) => flip(payload, payload.length - 1));
  change('payload-swapped', 'two chunks swapped', chunk, (payload) => swap(payload, CHUNK * 4, CHUNK));
  change('payload-duplicated', 'a chunk in the place of the next', chunk, (payload) => {
    payload.copy(payload, CHUNK * 5, CHUNK * 4, CHUNK * 5);
    return payload;
  });
  change('payload-foreign', 'a chunk of another model under the same data key', chunk, (payload) => {
    foreign.payload.copy(payload, CHUNK * 6, CHUNK * 6, CHUNK * 7);
    return payload;
  });
  const size = 'SEALED_PAYLOAD_SIZE';
  change('payload-truncated', 'the last byte is missing', size, (payload) => payload.subarray(0, -1));
  change('payload-short', 'the last chunk is missing', size, (payload) => payload.subarray(0, CHUNK * 19));
  change('payload-extended', 'one byte too many', size, (payload) =>
    Buffer.concat([payload, Buffer.alloc(1)]),
  );
  change('payload-empty', 'an empty payload', size, () => new Uint8Array(0));
}

/** What someone can make who knows the data key, or two of them. */
function writeForgeries(write: Write): void {
  const gap = plainSeal(twoFiles(7));
  const says = 'a byte between two files, sealed with the right key';
  write('gap', { says, dataKey: key, refused: 'SEALED_GAP_NOT_ZERO' }, gap.head, gap.payload);

  const seal = twoFiles();
  const good = plainSeal(seal);
  const first = chunkInputs(seal, good.context, 4, CHUNK);
  const payload = Buffer.from(good.payload);
  payload.set(sameTagCiphertext(first.key, first.nonce, payload.subarray(CHUNK * 4, CHUNK * 5)), CHUNK * 4);
  write(
    'same-tag',
    {
      says: 'another ciphertext under the same tags, made with the data key: only the digest table tells',
      dataKey: key,
      refused: 'SEALED_SEGMENT_REFUSED',
      tagsAccept: true,
    },
    good.head,
    payload,
  );
  writeTwoKeys(write);
}

/** One chunk that AES-256-GCM accepts under the payload keys of two data keys (an "invisible salamander"). The head commits to one. */
function writeTwoKeys(write: Write): void {
  const seal = oneFile(80);
  const other = { ...seal, dataKey: OTHER_KEY };
  const { context }: Pick<PlainSealed, 'context'> = plainSeal(seal);
  const [a, b] = [chunkInputs(seal, context, 0, 80), chunkInputs(other, context, 0, 80)];
  const start = pattern('two keys', 64);
  const { ciphertext, tag } = twoKeyCiphertext([a.key, b.key], a.nonce, a.associatedData, start);
  const { head } = plainHead(seal, ciphertext, Buffer.from(tag));
  const decipher = createDecipheriv('aes-256-gcm', a.key, a.nonce).setAAD(a.associatedData).setAuthTag(tag);
  const opened = Buffer.concat([decipher.update(ciphertext), decipher.final()]);
  const says = 'a ciphertext that two keys accept, with the';
  const cipherKey = { says: `${says} key that the head commits to`, dataKey: key };
  write('two-keys-first', { ...cipherKey, opens: sha256(opened) }, head, ciphertext);
  write(
    'two-keys-second',
    { says: `${says} other key`, dataKey: OTHER_KEY.toString('hex'), refused: 'SEALED_KEY_MISMATCH' },
    head,
    ciphertext,
  );
}

function flip(bytes: Buffer, offset: number): Buffer {
  bytes[offset] = (bytes[offset] as number) ^ 1;
  return bytes;
}

/** Swaps two neighbours of this length. */
function swap(bytes: Buffer, offset: number, length: number): Buffer {
  const first = Buffer.from(bytes.subarray(offset, offset + length));
  bytes.copy(bytes, offset, offset + length, offset + 2 * length);
  first.copy(bytes, offset + length);
  return bytes;
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

if (import.meta.main) {
  rmSync(SEALED_MODEL_VECTORS, { recursive: true, force: true });
  writeSealedModelVectors(SEALED_MODEL_VECTORS);
}
