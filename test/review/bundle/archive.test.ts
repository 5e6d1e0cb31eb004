/** The archive has one form: any tar opens it, and nothing that this did not write is read. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { decodeArchive, encodeArchive, type Member } from '../../../review/bundle/archive.ts';
import { EvidenceBundleError } from '../../../review/bundle/errors.ts';

const member = (name: string, content: string | Uint8Array = name): Member => ({
  name,
  bytes: Buffer.from(content),
});
const MEMBERS = [
  member('attestation.cbor', Buffer.alloc(512, 7)),
  member('deployment.json', ''),
  member('index.json', 'x'.repeat(513)),
  member('models/iris.json'),
];
const ARCHIVE = encodeArchive(MEMBERS);

function refusal(archive: Uint8Array): string {
  try {
    decodeArchive(archive);
  } catch (error) {
    if (error instanceof EvidenceBundleError) {
      expect(error.code).toBe('BUNDLE_MALFORMED');
      return error.message;
    }
    throw error;
  }
  throw new Error('the archive was accepted');
}

/** The archive with one member's header changed, and its checksum made right again. */
function withHeader(change: (header: Buffer) => void): Buffer {
  const archive = Buffer.from(ARCHIVE);
  const header = archive.subarray(0, 512);
  change(header);
  header.write('        ', 148, 'latin1');
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return archive;
}

describe('an archive', () => {
  it('gives its members back, in the order of their names', () => {
    const read = decodeArchive(encodeArchive(MEMBERS.toReversed()));
    expect(read.map(({ name, bytes }) => [name, Buffer.from(bytes)])).toEqual(
      MEMBERS.map(({ name, bytes }) => [name, Buffer.from(bytes)]),
    );
  });

  it('is the same bytes for the same members, in whatever order', () => {
    expect(encodeArchive(MEMBERS.toReversed())).toEqual(ARCHIVE);
  });

  it('is not made of what no bundle holds', () => {
    for (const name of [
      'other.json',
      '../index.json',
      '/index.json',
      'models/../x.json',
      'models/a/b.json',
      '',
    ]) {
      expect(() => encodeArchive([member(name)]), name).toThrow(TypeError);
    }
    expect(() => encodeArchive([member('index.json'), member('index.json')])).toThrow(TypeError);
  });
});

describe('another program', () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'strongroom-bundle-'));
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it('opens it: GNU tar has the same members', () => {
    writeFileSync(join(folder, 'bundle.tar'), ARCHIVE);
    const { status, stderr } = spawnSync('tar', ['xf', 'bundle.tar'], { cwd: folder, encoding: 'utf8' });
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    for (const { name, bytes } of MEMBERS)
      expect(readFileSync(join(folder, name))).toEqual(Buffer.from(bytes));
  });

  it('cannot pack one that is read here: GNU tar says who and when', () => {
    writeFileSync(join(folder, 'index.json'), 'x');
    const { stdout } = spawnSync('tar', ['cf', '-', '--format=ustar', 'index.json'], { cwd: folder });
    expect(refusal(stdout)).toContain('not the one that a bundle has');
  });
});

describe('refused', () => {
  it('cut short, at any byte', () => {
    for (let length = 0; length < ARCHIVE.length; length += 37) {
      expect(refusal(ARCHIVE.subarray(0, length))).toMatch(/cut short|no end/);
    }
    expect(refusal(ARCHIVE.subarray(0, -1))).toMatch(/no end/);
  });

  it('longer than it is', () => {
    expect(refusal(Buffer.concat([ARCHIVE, Buffer.alloc(512)]))).toContain('follows its end');
    expect(refusal(Buffer.concat([ARCHIVE, ARCHIVE]))).toContain('follows its end');
  });

  it.each<[string, (header: Buffer) => void]>([
    ['a path that leads out', (header) => void header.write('../../etc/passwd', 0)],
    ['an absolute path', (header) => void header.write('/etc/passwd\0\0\0\0\0\0', 0)],
    ['a path of a folder in a name', (header) => void header.write('models/../x.json\0', 0)],
    ['a name in two spellings', (header) => void header.write('./attestation.cbor\0', 0)],
    ['a prefix before the name', (header) => void header.write('/etc', 345)],
  ])('%s', (_what, change) => {
    expect(refusal(withHeader(change))).toMatch(/which no bundle does|not the one that a bundle has/);
  });

  it.each<[string, (header: Buffer) => void]>([
    ['a symbolic link', (header) => void header.write('2', 156)],
    ['a hard link', (header) => void header.write('1', 156)],
    ['a folder', (header) => void header.write('5', 156)],
    ['an extended header', (header) => void header.write('x', 156)],
    ['a long name of GNU tar', (header) => void header.write('L', 156)],
    ['a program', (header) => void header.write('0000755', 100)],
    ['an owner', (header) => void header.write('0001750', 108)],
    ['a time', (header) => void header.write('14000000000', 136)],
    ['text in the padding of a header', (header) => void header.write('hidden', 500)],
    ['text behind a name', (header) => void header.write('hidden', 60)],
    ['another magic', (header) => void header.write('ustar  \0', 257)],
  ])('%s', (_what, change) => {
    expect(refusal(withHeader(change))).toContain('not the one that a bundle has');
  });

  it('a wrong checksum', () => {
    const archive = Buffer.from(ARCHIVE);
    archive.write('000000', 148);
    expect(refusal(archive)).toContain('not the one that a bundle has');
  });

  it.each(['77777777777', '00000100000', '-0000000001', '           ', '\x80\0\0\0\0\0\0\0\0\0\x01'])(
    'a size of %j, before anything is read by it',
    (size) => {
      expect(refusal(withHeader((header) => void header.write(size, 124, 'latin1')))).toMatch(
        /no size, or one of/,
      );
    },
  );

  it('something in the padding behind a member', () => {
    const archive = Buffer.from(ARCHIVE);
    const at = archive.indexOf('x'.repeat(513)) + 513;
    archive[at] = 1;
    expect(refusal(archive)).toContain('something hides behind index.json');
  });

  it('a member twice, and members out of order', () => {
    const one = encodeArchive([member('index.json', 'a')]).subarray(0, 1024);
    const end = Buffer.alloc(1024);
    const earlier = encodeArchive([member('image.json', 'a')]).subarray(0, 1024);
    expect(refusal(Buffer.concat([one, one, end]))).toContain('twice');
    expect(refusal(Buffer.concat([one, earlier, end]))).toContain('out of order');
  });

  it('more members than a bundle can have', () => {
    const many = Array.from({ length: 40 }, (_, index) =>
      member(`models/m${String(index).padStart(2, '0')}.json`, 'x'),
    );
    expect(refusal(encodeArchive(many))).toContain('more than');
  });

  it('anything else, with a refusal and nothing but a refusal', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 2048 }), (bytes) => void refusal(bytes)));
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(ARCHIVE.length - 1), fc.integer({ min: 1, max: 255 })), {
          minLength: 1,
          maxLength: 4,
        }),
        (changes) => {
          const archive = Buffer.from(ARCHIVE);
          for (const [at, mask] of changes) archive[at] = (archive[at] as number) ^ mask;
          // A changed byte is a refusal, or is the content of a member, which digests are for.
          try {
            const read = decodeArchive(archive);
            expect(encodeArchive(read)).toEqual(archive);
          } catch (error) {
            expect(error).toBeInstanceOf(EvidenceBundleError);
          }
        },
      ),
    );
  });
});
