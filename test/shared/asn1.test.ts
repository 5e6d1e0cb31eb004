import { execFileSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type Asn1,
  type Asn1Input,
  oidFromBytes,
  oidToBytes,
  readBer,
  readDer,
  writeDer,
} from '../../shared/asn1.ts';
import { codeOf } from '../../shared/errors.ts';
import { describeWithVectors } from '../vectors.ts';

const hex = (text: string) => new Uint8Array(Buffer.from(text.replaceAll(' ', ''), 'hex'));
const codeFor = (action: () => unknown): string | undefined => {
  try {
    action();
    return undefined;
  } catch (error) {
    return codeOf(error) ?? `not ours: ${String(error)}`;
  }
};
const derCode = (text: string) => codeFor(() => readDer(hex(text)));
const berCode = (text: string) => codeFor(() => readBer(hex(text)));

/** A value that keeps everything that encoding must keep. */
const shape = (node: Asn1): unknown =>
  node.constructed
    ? [node.tagClass, node.tag, node.children.map(shape)]
    : [node.tagClass, node.tag, Buffer.from(node.content).toString('hex')];

describe('reading DER', () => {
  it('keeps the octets of every value as received', () => {
    const value = readDer(hex('30 06 02 01 05 04 01 aa'));
    expect(Buffer.from(value.raw).toString('hex')).toBe('30060201050401aa');
    expect(value.children.map((child) => Buffer.from(child.raw).toString('hex'))).toEqual([
      '020105',
      '0401aa',
    ]);
    expect(value.children.map((child) => Buffer.from(child.content).toString('hex'))).toEqual(['05', 'aa']);
  });

  it('gives views of the input and plain Uint8Arrays, whatever it was handed', () => {
    const input = Buffer.from('30060201050401aa', 'hex');
    const [first] = readDer(input).children;
    expect(first?.content.buffer).toBe(input.buffer);
    expect(Buffer.isBuffer(first?.content)).toBe(false);
  });

  it.each([
    ['an empty input', '', 'ASN1_MALFORMED'],
    ['a tag alone', '30', 'ASN1_MALFORMED'],
    ['a length that reaches past the end', '04 05 aa', 'ASN1_MALFORMED'],
    ['a child that reaches over its parent', '30 03 04 05 aa', 'ASN1_MALFORMED'],
    ['trailing bytes', '05 00 00', 'ASN1_TRAILING_BYTES'],
    ['trailing bytes after a constructed value', '30 00 05 00', 'ASN1_TRAILING_BYTES'],
    ['an indefinite length', '30 80 05 00 00 00', 'ASN1_REFUSED'],
    ['a length in more octets than needed', '04 81 01 aa', 'ASN1_REFUSED'],
    ['a length with a leading zero octet', `04 82 00 80 ${'00'.repeat(128)}`, 'ASN1_REFUSED'],
    ['a length of four octets', '04 84 00 00 00 01 aa', 'ASN1_REFUSED'],
    ['a length of five octets', '04 85 00 00 00 00 01 aa', 'ASN1_LIMIT'],
    ['the reserved length FF', '04 ff', 'ASN1_LIMIT'],
    ['a tag number of two octets', '1f 81 01 00', 'ASN1_REFUSED'],
    ['tag number 30', '9e 01 41', 'ASN1_REFUSED'],
    ['end-of-contents with nothing open', '00 00', 'ASN1_MALFORMED'],
    ['end-of-contents inside a definite value', '30 02 00 00', 'ASN1_MALFORMED'],
    ['a constructed end-of-contents', '30 02 20 00', 'ASN1_MALFORMED'],
    ['a primitive SEQUENCE', '10 00', 'ASN1_MALFORMED'],
    ['a primitive SET', '11 00', 'ASN1_MALFORMED'],
    ['a constructed OCTET STRING', '24 03 04 01 aa', 'ASN1_REFUSED'],
    ['a constructed INTEGER', '22 03 02 01 01', 'ASN1_REFUSED'],
    ['an INTEGER without content', '02 00', 'ASN1_MALFORMED'],
    ['an INTEGER with a superfluous 00', '02 02 00 7f', 'ASN1_MALFORMED'],
    ['an INTEGER with a superfluous FF', '02 02 ff 80', 'ASN1_MALFORMED'],
    ['a BOOLEAN that is neither 00 nor FF', '01 01 01', 'ASN1_MALFORMED'],
    ['a BOOLEAN of two octets', '01 02 ff ff', 'ASN1_MALFORMED'],
    ['NULL with content', '05 01 00', 'ASN1_MALFORMED'],
    ['a BIT STRING without a count of unused bits', '03 00', 'ASN1_MALFORMED'],
    ['a BIT STRING with 8 unused bits', '03 02 08 00', 'ASN1_MALFORMED'],
    ['a BIT STRING whose unused bits are set', '03 02 01 01', 'ASN1_MALFORMED'],
    ['a BIT STRING with unused bits of nothing', '03 01 01', 'ASN1_MALFORMED'],
    ['an empty OBJECT IDENTIFIER', '06 00', 'ASN1_MALFORMED'],
    ['an OBJECT IDENTIFIER that is cut off', '06 02 2a 86', 'ASN1_MALFORMED'],
    ['an OBJECT IDENTIFIER with a padded part', '06 03 2a 80 01', 'ASN1_MALFORMED'],
  ])('refuses %s', (_what, bytes, code) => {
    expect(derCode(bytes)).toBe(code);
  });

  it.each([
    ['size', { maxBytes: 7 }],
    ['depth', { maxDepth: 1 }],
    ['number of values', { maxValues: 3 }],
  ])('bounds the %s', (_what, limits) => {
    const bytes = hex('30 06 30 04 05 00 05 00');
    expect(codeFor(() => readDer(bytes, limits))).toBe('ASN1_LIMIT');
    expect(codeFor(() => readDer(bytes, { maxBytes: 8, maxDepth: 2, maxValues: 4 }))).toBeUndefined();
  });
});

describe('reading BER', () => {
  it.each(['04 81 01 aa', '04 82 00 01 aa', '04 84 00 00 00 01 aa', '24 83 00 00 03 04 01 aa'])(
    'accepts a length in more octets than needed: %s',
    (text) => {
      const value = readBer(hex(text));
      expect((value.children[0] ?? value).content).toEqual(hex('aa'));
      expect(value.raw).toEqual(hex(text));
    },
  );

  it('accepts indefinite lengths, nested in one another and in definite ones', () => {
    const value = readBer(hex('30 80 30 09 24 80 04 01 aa 04 00 00 00 a0 80 00 00 00 00'));
    expect(value.indefinite).toBe(true);
    expect(value.children.map((child) => [child.tag, child.indefinite])).toEqual([
      [16, false],
      [0, true],
    ]);
    expect(Buffer.from(value.children[1]?.raw ?? []).toString('hex')).toBe('a0800000');
  });

  it.each([
    ['a missing end-of-contents', '30 80 05 00', 'ASN1_MALFORMED'],
    ['half an end-of-contents', '30 80 05 00 00', 'ASN1_MALFORMED'],
    ['an end-of-contents that reaches over the enclosing value', '30 03 30 80 00 00', 'ASN1_MALFORMED'],
    ['an indefinite length on a primitive value', '04 80 00 00', 'ASN1_MALFORMED'],
    ['a length of five octets', '04 85 00 00 00 00 01 aa', 'ASN1_LIMIT'],
    ['a long length that reaches past the end', '04 84 ff ff ff ff aa', 'ASN1_MALFORMED'],
    ['a constructed INTEGER', '22 03 02 01 01', 'ASN1_REFUSED'],
    ['trailing bytes', '30 80 00 00 00', 'ASN1_TRAILING_BYTES'],
  ])('refuses %s', (_what, bytes, code) => {
    expect(berCode(bytes)).toBe(code);
  });

  it('stops at the depth bound however deep the nesting goes, without recursing', () => {
    const bomb = Buffer.from('3080'.repeat(30_000), 'hex');
    expect(codeFor(() => readBer(bomb))).toBe('ASN1_LIMIT');
  });
});

const primitive: fc.Arbitrary<Asn1Input> = fc.oneof(
  fc.uint8Array({ maxLength: 300 }).map((content) => ({ tag: 4, content })),
  fc.record({
    tagClass: fc.constantFrom('context' as const, 'application' as const, 'private' as const),
    tag: fc.integer({ min: 0, max: 29 }),
    content: fc.uint8Array({ maxLength: 40 }),
  }),
  fc.constant({ tag: 5, content: new Uint8Array(0) }),
  fc.boolean().map((value) => ({ tag: 1, content: Uint8Array.of(value ? 0xff : 0) })),
);
const { node } = fc.letrec<{ node: Asn1Input }>((tie) => ({
  node: fc.oneof(
    { maxDepth: 5 },
    primitive,
    fc.array(tie('node'), { maxLength: 5 }).map((children) => ({ tag: 16, children })),
    fc
      .array(tie('node'), { maxLength: 5 })
      .map((children) => ({ tagClass: 'context' as const, tag: 0, children })),
  ),
}));

describe('writing DER', () => {
  it('reads back what was written, in DER and as BER', () => {
    fc.assert(
      fc.property(node, (input) => {
        const der = writeDer(input);
        expect(shape(readBer(der))).toEqual(shape(readDer(der)));
        expect(Buffer.from(writeDer(rewritten(readDer(der)))).equals(der)).toBe(true);
      }),
      { numRuns: 200 },
    );
  });

  it('puts values that are already encoded where they belong', () => {
    const inner = writeDer({ tag: 2, content: Uint8Array.of(5) });
    expect(Buffer.from(writeDer({ tag: 16, children: [{ der: inner }] })).toString('hex')).toBe('3003020105');
  });

  it.each([127, 128, 255, 256, 65_535])('uses the fewest length octets for %i bytes', (length) => {
    const der = writeDer({ tag: 4, content: new Uint8Array(length) });
    expect(readDer(der, { maxBytes: 70_000 }).content.length).toBe(length);
  });

  it('refuses tag numbers that do not fit one octet', () => {
    expect(codeFor(() => writeDer({ tag: 30, content: new Uint8Array(0) }))).toBe('ASN1_REFUSED');
  });
});

const rewritten = (value: Asn1): Asn1Input =>
  value.constructed
    ? { tagClass: value.tagClass, tag: value.tag, children: value.children.map(rewritten) }
    : { tagClass: value.tagClass, tag: value.tag, content: value.content };

describe('object identifiers', () => {
  it.each([
    ['1.2.840.10045.4.3.3', '2a8648ce3d040303'],
    ['2.5.29.19', '551d13'],
    ['2.999.3', '883703'],
    ['0.39', '27'],
  ])('%s', (dotted, bytes) => {
    expect(Buffer.from(oidToBytes(dotted)).toString('hex')).toBe(bytes);
    expect(oidFromBytes(hex(bytes))).toBe(dotted);
  });

  it.each(['', '1', '3.1', '1.40', '1.2.', '1.02', 'a.b'])('refuses to write "%s"', (dotted) => {
    expect(codeFor(() => oidToBytes(dotted))).toBe('ASN1_REFUSED');
  });

  it('refuses to read what is cut off or too large to hold exactly', () => {
    expect(codeFor(() => oidFromBytes(hex('2a86')))).toBe('ASN1_MALFORMED');
    expect(codeFor(() => oidFromBytes(hex('2affffffffffffffff7f')))).toBe('ASN1_REFUSED');
  });
});

/** `openssl asn1parse` prints "offset:d=depth hl=header l=length prim|cons: type" for every value. */
function opensslOutline(der: Uint8Array): string[] {
  const text = execFileSync('openssl', ['asn1parse', '-inform', 'DER'], { input: der, encoding: 'utf8' });
  return text
    .trimEnd()
    .split('\n')
    .filter((line) => !line.includes(': EOC'))
    .map((line) => {
      const [, offset, depth, , , form] =
        /^\s*(\d+):d=(\d+)\s+hl=(\d+)\s+l=\s*(\d+|inf)\s+(prim|cons):/.exec(line) ?? [];
      return `${offset} ${depth} ${form}`;
    });
}

function ourOutline(value: Asn1, root = value, depth = 0): string[] {
  const line = `${value.raw.byteOffset - root.raw.byteOffset} ${depth} ${value.constructed ? 'cons' : 'prim'}`;
  return [line, ...value.children.flatMap((child) => ourOutline(child, root, depth + 1))];
}

const openssl = (() => {
  try {
    execFileSync('openssl', ['version']);
    return true;
  } catch {
    return false;
  }
})();

describeWithVectors('against independent readers', (folder) => {
  const root = readFileSync(join(folder, 'attestation', 'AWS_NitroEnclaves_Root-G1.der'));

  it('sees the public key that node:crypto sees in the AWS root', () => {
    const theirs = new X509Certificate(root).publicKey.export({ type: 'spki', format: 'der' });
    const fields = readDer(root).children[0]?.children ?? [];
    expect(fields.some((field) => Buffer.from(field.raw).equals(theirs))).toBe(true);
  });

  it.skipIf(!openssl)('sees the tree that openssl asn1parse sees, in DER and in BER', () => {
    expect(ourOutline(readDer(root))).toEqual(opensslOutline(root));
    for (const name of readdirSync(join(folder, 'cms')).filter((file) => file.endsWith('.ber'))) {
      const ber = readFileSync(join(folder, 'cms', name));
      expect(ourOutline(readBer(ber)), name).toEqual(opensslOutline(ber));
    }
  });

  it.skipIf(!openssl)('never accepts a damaged certificate that openssl cannot walk', () => {
    for (let at = 0; at < 64; at++) {
      const damaged = Buffer.from(root);
      damaged[at] = (damaged[at] as number) ^ 0x01;
      if (codeFor(() => readDer(damaged)) === undefined) {
        expect(ourOutline(readDer(damaged)), `offset ${at}`).toEqual(opensslOutline(damaged));
      }
    }
  });
});
