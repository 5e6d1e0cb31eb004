import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { RECORD_MAX_BYTES, RecordScanner } from '../../../review/trail/record-scanner.ts';
import { scan } from './records.ts';

const RECORDS = [
  '{"a":1}',
  '{ "b" : "}]{[" , "c" : [ { "d" : "\\"}" } ] }',
  '{"e":"\\\\","f":{"g":{"h":null}}}',
  '{"i":"x:y","é":"😀"}',
  '{}',
];
const MEMBERS = [1, 3, 4, 2, 0];
const LAYOUTS: [string, string][] = [
  ['as S3 has them', `{"Records":[${RECORDS.join(',')}]}`],
  ['with white space', ` {\n "Records" :\t[ ${RECORDS.join(' ,\r\n ')} ] }\n`],
  ['of lookup-events', `{"Events":[${RECORDS.join(',')}], "NextToken": "AbC+/="}`],
  ['as a list', `[${RECORDS.join(', ')}]`],
  ['as lines', `${RECORDS.join('\n')}\n`],
  ['as lines without an end', RECORDS.join('\n')],
  [
    'of several files joined',
    `{"Records":[${RECORDS.slice(0, 2).join(',')}]}{"Records":[]}\n${RECORDS.slice(2).join('')}`,
  ],
];

describe('records', () => {
  describe.each(LAYOUTS)('%s', (_, text) => {
    it.each([Number.POSITIVE_INFINITY, 1, 2, 3, 7, 64])('are found in pieces of %d bytes', (pieceBytes) => {
      expect(scan(text, pieceBytes)).toEqual({ texts: RECORDS, members: MEMBERS, errors: [] });
    });
  });

  it('are found whatever they hold and wherever the pieces end', () => {
    const layouts = [
      (records: string[]) => `{"Records":[${records.join(',')}]}`,
      (records: string[]) => records.join('\n'),
    ];
    const count = (value: unknown): number =>
      typeof value !== 'object' || value === null
        ? 0
        : Object.values(value).reduce(
            (sum: number, one) => sum + count(one),
            Array.isArray(value) ? 0 : Object.keys(value).length,
          );
    fc.assert(
      fc.property(
        fc.array(fc.dictionary(fc.string({ unit: 'binary' }), fc.jsonValue({ depthSize: 'small' }))),
        fc.constantFrom(...layouts),
        fc.integer({ min: 1, max: 50 }),
        (values, layout, pieceBytes) => {
          const records = values.map((value) => JSON.stringify(value));
          // The one record that begins as a list of records does.
          fc.pre(records.every((one) => !/^\{"(Records|Events)":\[/.test(one)));
          const found = scan(layout(records), pieceBytes);
          expect(found.texts).toEqual(records);
          expect(found.members).toEqual(records.map((one) => count(JSON.parse(one))));
        },
      ),
    );
  });

  it('are none in an empty file, an empty list, and white space', () => {
    for (const text of ['', ' \n\t', '{"Records":[]}', '[]', '[ ]\n[]']) expect(scan(text).texts).toEqual([]);
  });

  it('are not taken when larger or deeper than any of CloudTrail, and those behind them are', () => {
    const large = `{"a":"${'x'.repeat(RECORD_MAX_BYTES)}"}`;
    const deep = `{"a":${'['.repeat(100)}${']'.repeat(100)}}`;
    for (const pieceBytes of [Number.POSITIVE_INFINITY, 65_536]) {
      const { texts, errors } = scan(`{"Records":[${large},{"b":1},${deep},{"c":1}]}`, pieceBytes);
      expect(texts).toEqual(['{"b":1}', '{"c":1}']);
      expect(errors.map(({ code }) => code)).toEqual(['TRAIL_RECORD', 'TRAIL_RECORD']);
    }
  });

  it('cost no memory while one is too large', () => {
    const before = process.memoryUsage().arrayBuffers;
    let most = 0;
    const piece = Buffer.alloc(1 << 20, 0x78);
    const scanner = (function* () {
      yield Buffer.from('{"a":"');
      for (let count = 0; count < 64; count++) {
        most = Math.max(most, process.memoryUsage().arrayBuffers - before);
        yield piece;
      }
      yield Buffer.from('"}');
    })();
    const found = scanPieces(scanner);
    expect(found.errors).toHaveLength(1);
    expect(most).toBeLessThan(16 << 20);
  });
});

function scanPieces(pieces: Iterable<Uint8Array>) {
  const errors: unknown[] = [];
  const scanner = new RecordScanner({ record() {}, unreadable: (error) => void errors.push(error) });
  for (const piece of pieces) scanner.push(piece);
  scanner.end();
  return { errors };
}

describe('a file is refused', () => {
  it.each([
    ['{"Records":[{"a":1}', 'TRAIL_TRUNCATED'],
    ['{"Records":[{"a":1}]', 'TRAIL_TRUNCATED'],
    ['{"Records":[{"a":1},', 'TRAIL_TRUNCATED'],
    ['{"Records":[{"a":"', 'TRAIL_TRUNCATED'],
    ['{"Rec', 'TRAIL_TRUNCATED'],
    ['{"a":1', 'TRAIL_TRUNCATED'],
    ['{"Records":[1]}', 'TRAIL_FORMAT'],
    ['{"Records":[{"a":1}{"b":1}]}', 'TRAIL_FORMAT'],
    ['{"Records":[{"a":1},]}', 'TRAIL_FORMAT'],
    ['{"Records":[,{"a":1}]}', 'TRAIL_FORMAT'],
    ['{"Records":[{"a":1}],"Records":[]}', 'TRAIL_FORMAT'],
    ['{"Records":[{"a":1}],"More":1}', 'TRAIL_FORMAT'],
    ['{"Records":[{"a":1}]]', 'TRAIL_FORMAT'],
    ['"text"', 'TRAIL_FORMAT'],
    ['PK\u0003\u0004', 'TRAIL_FORMAT'],
    ['\ufeff{"a":1}', 'TRAIL_FORMAT'],
    ['{"a":1}]', 'TRAIL_FORMAT'],
  ])('%j: %s', (text, code) => {
    for (const pieceBytes of [Number.POSITIVE_INFINITY, 1]) {
      expect(() => scan(text, pieceBytes)).toThrow(expect.objectContaining({ code }));
    }
  });

  it('for bytes of any kind with its own error, and no other', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.integer({ min: 1, max: 20 }), (bytes, pieceBytes) => {
        try {
          scan(bytes, pieceBytes);
        } catch (error) {
          expect(error).toMatchObject({ code: expect.stringMatching(/^TRAIL_/) });
        }
      }),
    );
  });
});
