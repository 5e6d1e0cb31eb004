import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ClientError } from '../../client/errors.ts';
import { HEAD_MAX_BYTES, ResponseReader } from '../../client/response-reader.ts';

const BODY = '{"hello":"world"}';
const response = (head: readonly string[], body = BODY): string => `${head.join('\r\n')}\r\n\r\n${body}`;
const GOOD_HEAD = [
  'HTTP/1.1 200 OK',
  'Content-Type: application/json',
  `Content-Length: ${BODY.length}`,
  'Date: Thu, 01 Jan 2026 00:00:00 GMT',
  'Connection: keep-alive',
];
const GOOD = response(GOOD_HEAD);
const withHead = (...lines: string[]): string => response([...GOOD_HEAD, ...lines]);
const replacing = (from: string, to: string): string => GOOD.replace(from, to);

/** The body, undefined while more is needed; throws what the reader throws. */
function read(text: string, pieceBytes: number): string | undefined {
  const bytes = Buffer.from(text, 'latin1');
  const reader = new ResponseReader();
  let whole = false;
  for (let at = 0; at < bytes.length; at += pieceBytes)
    whole = reader.push(bytes.subarray(at, at + pieceBytes));
  return whole ? Buffer.from(reader.body).toString('latin1') : undefined;
}

describe.each([
  ['whole', 1e6],
  ['in pieces', 7],
  ['byte by byte', 1],
])('%s', (_how, pieceBytes) => {
  test('one plain response is read', () => {
    expect(read(GOOD, pieceBytes)).toBe(BODY);
  });

  test('every beginning of it is waited on', () => {
    for (let end = 0; end < GOOD.length; end += 5)
      expect(read(GOOD.slice(0, end), pieceBytes)).toBeUndefined();
  });

  test.each([
    ['one byte more', `${GOOD}x`],
    ['a second response', `${GOOD}${GOOD}`],
    ['an empty line more', `${GOOD}\r\n`],
  ])('%s after the body is refused', (_what, text) => {
    expect(() => read(text, pieceBytes)).toThrow(expect.objectContaining({ code: 'CLIENT_RESPONSE_EXTRA' }));
  });

  test.each([
    ['HTTP/1.0', replacing('HTTP/1.1', 'HTTP/1.0')],
    ['HTTP/2', replacing('HTTP/1.1', 'HTTP/2')],
    ['another protocol', 'SSH-2.0-OpenSSH_9.2\r\n\r\n'],
    ['a status line without its spaces', replacing('HTTP/1.1 200 OK', 'HTTP/1.1 200')],
    ['a status of four digits', replacing('200 OK', '2000 OK')],
    ['chunks', withHead('Transfer-Encoding: chunked')],
    ['chunks instead of a length', response(['HTTP/1.1 200 OK', 'Transfer-Encoding: chunked'], '0\r\n\r\n')],
    ['identity as a transfer encoding', withHead('Transfer-Encoding: identity')],
    ['a content encoding', withHead('Content-Encoding: gzip')],
    ['an upgrade', withHead('Upgrade: h2c')],
    ['a trailer', withHead('Trailer: x')],
    ['no length', response(['HTTP/1.1 200 OK', 'Content-Type: application/json'])],
    ['the same length twice', withHead(`Content-Length: ${BODY.length}`)],
    ['two lengths', withHead('content-length: 1')],
    [
      'two lengths in one line',
      replacing(`Length: ${BODY.length}`, `Length: ${BODY.length}, ${BODY.length}`),
    ],
    ['length zero', replacing(`Length: ${BODY.length}`, 'Length: 0')],
    ['a signed length', replacing(`Length: ${BODY.length}`, `Length: +${BODY.length}`)],
    ['a length with a leading zero', replacing(`Length: ${BODY.length}`, `Length: 0${BODY.length}`)],
    ['a hexadecimal length', replacing(`Length: ${BODY.length}`, 'Length: 0x11')],
    ['a length beyond the limit', replacing(`Length: ${BODY.length}`, 'Length: 65537')],
    ['an endless length', replacing(`Length: ${BODY.length}`, `Length: ${'9'.repeat(30)}`)],
    ['another type', replacing('application/json', 'text/html')],
    ['two types', withHead('Content-Type: text/html')],
    ['a folded line', withHead('X-Long: a', ' b')],
    ['a space before the colon', withHead('Content-Length : 1')],
    ['a line without a colon', withHead('nonsense')],
    ['an empty name', withHead(': x')],
    ['a control character', withHead('X: a\x00b')],
    ['a bare line feed', withHead('X: a\nContent-Length: 1')],
    ['a bare carriage return', withHead('X: a\rb')],
    ['more than 64 fields', withHead(...Array.from({ length: 70 }, (_, i) => `X-${i}: 1`))],
    ['a huge field', withHead(`X: ${'a'.repeat(HEAD_MAX_BYTES)}`)],
    ['a head without end', `HTTP/1.1 200 OK\r\nX: ${'a'.repeat(HEAD_MAX_BYTES * 3)}`],
  ])('%s is refused', (_what, text) => {
    expect(() => read(text, pieceBytes)).toThrow(
      expect.objectContaining({ code: 'CLIENT_RESPONSE_MALFORMED' }),
    );
  });

  test.each([
    ['100 Continue', `HTTP/1.1 100 Continue\r\n\r\n${GOOD}`],
    ['103 Early Hints', `HTTP/1.1 103 Early Hints\r\n\r\n${GOOD}`],
    ['101 Switching Protocols', 'HTTP/1.1 101 Switching Protocols\r\n\r\n'],
    ['204', replacing('200 OK', '204 No Content')],
    ['206', replacing('200 OK', '206 Partial Content')],
    ['a redirect', `HTTP/1.1 302 Found\r\nLocation: https://example.org/\r\nContent-Length: 0\r\n\r\n`],
    ['404', replacing('200 OK', '404 Not Found')],
    ['500', replacing('200 OK', '500 Internal Server Error')],
  ])('%s is no evidence', (_what, text) => {
    expect(() => read(text, pieceBytes)).toThrow(expect.objectContaining({ code: 'CLIENT_NO_EVIDENCE' }));
  });

  test.each([
    [
      '429 with its time',
      `HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\n\r\n`,
      /429; try again in 7 s/,
      7,
    ],
    ['503 without one', `HTTP/1.1 503 Service Unavailable\r\n\r\n`, /503; try again in a while/],
    ['503 with nonsense', `HTTP/1.1 503 X\r\nRetry-After: <script>\r\n\r\n`, /try again in a while/],
    ['a connection about to close', replacing('keep-alive', 'close'), /about to close/],
  ] as const)(
    '%s means try again',
    (_what, text, message, retryAfterSeconds: number | undefined = undefined) => {
      expect(() => read(text, pieceBytes)).toThrow(
        expect.objectContaining({ code: 'CLIENT_BUSY', retryAfterSeconds }),
      );
      expect(() => read(text, pieceBytes)).toThrow(message);
    },
  );
});

test('any bytes, cut anywhere, are either waited on or refused with a code', () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.uint8Array({ maxLength: 300 }),
        fc.tuple(fc.nat(GOOD.length - 1), fc.nat(255)).map(([at, byte]) => {
          const bytes = Buffer.from(GOOD, 'latin1');
          bytes[at] = byte;
          return bytes;
        }),
      ),
      fc.integer({ min: 1, max: 40 }),
      (bytes, pieceBytes) => {
        try {
          const body = read(Buffer.from(bytes).toString('latin1'), pieceBytes);
          if (body !== undefined) expect(body.length).toBeLessThanOrEqual(BODY.length);
        } catch (error) {
          expect(error).toBeInstanceOf(ClientError);
        }
      },
    ),
    { numRuns: 300 },
  );
});

test('how it is cut changes nothing', () => {
  fc.assert(
    fc.property(fc.nat(GOOD.length - 1), fc.nat(255), (at, byte) => {
      const changed = Buffer.from(GOOD, 'latin1');
      changed[at] = byte;
      const outcomes = [1, 3, 1e6].map((pieceBytes) => {
        try {
          return read(changed.toString('latin1'), pieceBytes);
        } catch (error) {
          return (error as ClientError).code;
        }
      });
      expect(new Set(outcomes).size).toBe(1);
    }),
    { numRuns: 200 },
  );
});
