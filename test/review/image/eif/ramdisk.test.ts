import { createHash } from 'node:crypto';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { cpioArchive } from '../../../../review/image/cpio.ts';
import { CpioReader } from '../../../../review/image/eif/cpio-read.ts';
import { EifError } from '../../../../review/image/eif/errors.ts';
import { RamdiskLister } from '../../../../review/image/eif/ramdisk.ts';
import type { ImageEntry } from '../../../../review/image/entries.ts';

interface Spoiled {
  readonly magic?: string;
  readonly mode?: number;
  readonly name?: string | Buffer;
  readonly nameBytes?: number;
  readonly content?: string | Uint8Array;
  readonly contentBytes?: number;
  readonly check?: number;
  readonly padding?: string;
}

/** One entry of an archive, by hand. */
function entry(name: string, spoiled: Spoiled = {}): Buffer {
  const nameBuffer = Buffer.concat([Buffer.from(spoiled.name ?? name), Buffer.of(0)]);
  const content = Buffer.from(spoiled.content ?? '');
  const fields = [
    1,
    spoiled.mode ?? 0o100644,
    0,
    0,
    1,
    0,
    spoiled.contentBytes ?? content.length,
    0,
    0,
    0,
    0,
    spoiled.nameBytes ?? nameBuffer.length,
    spoiled.check ?? 0,
  ];
  const digits = fields.map((field) => field.toString(16).padStart(8, '0')).join('');
  const pad = (size: number) => (spoiled.padding ?? '\0').repeat((4 - (size % 4)) % 4);
  return Buffer.concat([
    Buffer.from((spoiled.magic ?? '070701') + digits),
    nameBuffer,
    Buffer.from(pad(110 + nameBuffer.length)),
    content,
    Buffer.from(pad(content.length)),
  ]);
}
const TRAILER = entry('TRAILER!!!', { mode: 0 });
const archive = (...entries: Buffer[]) => Buffer.concat([...entries, TRAILER]);

function read(bytes: Uint8Array, pieceBytes = bytes.length) {
  const reader = new CpioReader();
  for (let at = 0; at < bytes.length; at += pieceBytes) reader.push(bytes.subarray(at, at + pieceBytes));
  return reader.end();
}

async function list(pieces: Iterable<Uint8Array>, expandedMaxBytes?: number) {
  const lister = new RamdiskLister(expandedMaxBytes);
  for (const piece of pieces) await lister.piece(1, piece);
  await lister.end(1);
  return lister.outcomes.map(({ list, refused }) => {
    if (list === undefined) throw refused;
    return list;
  });
}

describe('the list of an archive', () => {
  const bytes = archive(
    entry('rootfs', { mode: 0o040755 }),
    entry('rootfs/a', { content: 'hello', mode: 0o104755 }),
    entry('rootfs/link', { content: '/etc/passwd', mode: 0o120777 }),
    entry('rootfs/null', { mode: 0o020666 }),
    entry('rootfs/a', { content: 'other' }),
    entry('../outside'),
  );

  it('shows kinds, modes, contents and targets, and no name is made nicer', () => {
    const sha256 = createHash('sha256').update('hello').digest('hex');
    expect(read(bytes)).toMatchObject([
      { path: 'rootfs', kind: 'folder', mode: 0o755 },
      { path: 'rootfs/a', kind: 'file', mode: 0o4755, sizeBytes: 5, sha256 },
      { path: 'rootfs/link', kind: 'link', target: '/etc/passwd' },
      { path: 'rootfs/null', kind: 'character-device' },
      { path: 'rootfs/a', kind: 'file', sizeBytes: 5 },
      { path: '../outside', kind: 'file', sizeBytes: 0 },
    ]);
  });

  it('is the same whole, in pieces and byte by byte', () => {
    const whole = read(bytes);
    for (const size of [1, 3, 109, 110, 111]) expect(read(bytes, size)).toEqual(whole);
  });

  it('is what was written into it', async () => {
    const plain = fc.stringMatching(/^[a-z]{1,12}$/);
    await fc.assert(
      fc.asyncProperty(fc.dictionary(plain, fc.uint8Array({ maxLength: 70 })), async (files) => {
        const entries: ImageEntry[] = Object.entries(files).map(([path, content]) => ({
          kind: 'file',
          path,
          mode: 0o444,
          sizeBytes: content.length,
          content,
        }));
        const pieces: Uint8Array[] = [];
        for await (const piece of cpioArchive(entries)) pieces.push(Uint8Array.from(piece));
        const found = read(Buffer.concat(pieces)).map(({ path, sha256 }) => [path, sha256]);
        const sha256 = (content: Uint8Array) => createHash('sha256').update(content).digest('hex');
        expect(Object.fromEntries(found)).toEqual(
          Object.fromEntries(Object.entries(files).map(([path, content]) => [path, sha256(content)])),
        );
      }),
      { numRuns: 100 },
    );
  });

  it('of a compressed ramdisk is that of what it expands to', async () => {
    const [plain] = await list([bytes]);
    expect(plain?.compression).toBe('none');
    const zipped = gzipSync(bytes);
    for (const size of [1, 1000]) {
      const pieces = [];
      for (let at = 0; at < zipped.length; at += size) pieces.push(zipped.subarray(at, at + size));
      const [listed] = await list(pieces);
      expect(listed).toEqual({ ...plain, compression: 'gzip' });
    }
  });

  it('allows zeros behind the trailer', () => {
    expect(read(Buffer.concat([bytes, Buffer.alloc(512)]))).toHaveLength(6);
  });
});

describe('an archive is refused', () => {
  const good = archive(entry('a', { content: 'abc' }));
  const cases: readonly (readonly [string, Buffer])[] = [
    ['of another format', archive(entry('a', { magic: '070702' }))],
    [
      'with a sign in a number',
      Buffer.from(good.toString('latin1').replace('00000003', '+0000003'), 'latin1'),
    ],
    ['with a checksum', archive(entry('a', { check: 1 }))],
    ['with an empty name', archive(entry('', {}))],
    ['with a name longer than a path', archive(entry('x'.repeat(4096)))],
    ['with a NUL in a name', archive(entry('a\0b'))],
    ['with a name that does not end', archive(entry('abc', { nameBytes: 3 }))],
    ['with a name that is not UTF-8', archive(entry('', { name: Buffer.of(0xff, 0xfe) }))],
    ['with text in its padding', archive(entry('ab', { content: 'x', padding: 'y' }))],
    ['with an entry of no kind', archive(entry('a', { mode: 0o644 }))],
    ['with a mode of more bits', archive(entry('a', { mode: 0o1100644 }))],
    ['with a folder that has content', archive(entry('a', { mode: 0o040755, content: 'x' }))],
    ['with a device that has content', archive(entry('a', { mode: 0o060600, content: 'x' }))],
    ['with a link to nothing', archive(entry('a', { mode: 0o120777 }))],
    ['with a link longer than a path', archive(entry('a', { mode: 0o120777, content: 'x'.repeat(4097) }))],
    ['with a NUL in a target', archive(entry('a', { mode: 0o120777, content: 'x\0y' }))],
    ['with a trailer that has content', Buffer.concat([entry('TRAILER!!!', { mode: 0, content: 'x' })])],
    ['without a trailer', entry('a', { content: 'abc' })],
    ['with a second archive behind it', Buffer.concat([good, good])],
    ['with a second archive behind zeros', Buffer.concat([good, Buffer.alloc(512), good])],
    ['that claims four gigabytes', archive(entry('a', { contentBytes: 0xffffffff }))],
    ['of nothing', Buffer.alloc(0)],
  ];
  it.each(cases)('%s', (_, bytes) => {
    expect(() => read(bytes)).toThrow(expect.objectContaining({ code: 'CPIO_MALFORMED', exitCode: 2 }));
  });

  it('with more entries than any image has', () => {
    const reader = new CpioReader();
    const many = Buffer.concat(Array(1000).fill(entry('a')));
    expect(() => {
      for (let count = 0; count < 201; count++) reader.push(many);
    }).toThrow(expect.objectContaining({ code: 'CPIO_LIMIT' }));
  });

  it('at any length shorter than its own', () => {
    for (let length = 0; length < good.length; length++) {
      if (length >= good.length - 3) continue; // padding of the trailer's name
      expect(() => read(good.subarray(0, length))).toThrow(EifError);
    }
  });

  it('with nothing but an EifError, whatever it holds', () => {
    fc.assert(
      fc.property(fc.nat({ max: good.length - 1 }), fc.nat({ max: 255 }), (at, value) => {
        const changed = Buffer.from(good);
        changed.writeUInt8(value, at);
        try {
          read(changed);
        } catch (error) {
          expect(error).toBeInstanceOf(EifError);
        }
      }),
      { numRuns: 300 },
    );
  });
});

describe('a compressed ramdisk is refused', () => {
  const zipped = gzipSync(archive(entry('a')));
  it.each([
    ['with another archive behind it', Buffer.concat([zipped, archive(entry('b'))])],
    ['with another archive behind a zero', Buffer.concat([zipped, Buffer.of(0), archive(entry('b'))])],
    ['with another compressed part', Buffer.concat([zipped, zipped])],
    ['cut short', zipped.subarray(0, zipped.length - 1)],
    ['that is damaged', Buffer.concat([zipped.subarray(0, 20), Buffer.of(0xff), zipped.subarray(21)])],
    ['of something else', gzipSync('no archive')],
    ['that is compressed twice', gzipSync(zipped)],
    ['too short to say what it is', Buffer.of(0x1f)],
  ])('%s', async (_, bytes) => {
    await expect(list([bytes])).rejects.toMatchObject({ code: 'CPIO_MALFORMED' });
    const byBytes = [...bytes].map((byte) => Uint8Array.of(byte));
    await expect(list(byBytes)).rejects.toMatchObject({ code: 'CPIO_MALFORMED' });
  });

  it('that expands beyond the bound, soon after it did', async () => {
    const bomb = gzipSync(archive(entry('zeros', { content: new Uint8Array(8 << 20) })));
    await expect(list([bomb], 1 << 20)).rejects.toMatchObject({ code: 'CPIO_LIMIT' });
    expect((await list([bomb], 9 << 20))[0]?.entries).toHaveLength(1);
  });
});
