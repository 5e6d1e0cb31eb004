import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import {
  encodeFrame,
  type Frame,
  FrameReader,
  MAX_BODY_BYTES,
  MAX_HEADER_BYTES,
  readFrameSync,
} from '../../../enclave/engine/frames.ts';

function read(chunks: readonly Uint8Array[]): Frame[] {
  const frames: Frame[] = [];
  const reader = new FrameReader((frame) => frames.push(frame));
  for (const chunk of chunks) reader.push(chunk);
  return frames;
}

function prefix(headerLength: number, bodyLength: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeUInt32BE(headerLength, 0);
  bytes.writeUInt32BE(bodyLength, 4);
  return bytes;
}

const folder = mkdtempSync(join(tmpdir(), 'strongroom-frames-'));
const path = join(folder, 'stream');
afterAll(() => rmSync(folder, { recursive: true }));

const stream = Buffer.concat([
  ...encodeFrame({ kind: 'one' }, [Uint8Array.of(1, 2, 3), Uint8Array.of(4)]),
  ...encodeFrame({ kind: 'two' }, []),
  ...encodeFrame({ kind: 'three' }, [new Uint8Array(1000).fill(9)]),
]);

describe('frames between supervisor and engine', () => {
  const summary = (frames: readonly Frame[]): string[] =>
    frames.map(({ header, body }) => `${Buffer.from(header).toString()} ${body.length}`);
  const expected = ['{"kind":"one"} 4', '{"kind":"two"} 0', '{"kind":"three"} 1000'];

  it('arrive whole', () => expect(summary(read([stream]))).toEqual(expected));

  it('arrive byte by byte', () => {
    expect(summary(read(Array.from(stream, (byte) => Uint8Array.of(byte))))).toEqual(expected);
  });

  it('arrive in any pieces', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: stream.length }), { maxLength: 12 }), (cuts) => {
        const at = [0, ...cuts.toSorted((a, b) => a - b), stream.length];
        const chunks = at.slice(1).map((end, index) => stream.subarray(at[index], end));
        expect(summary(read(chunks))).toEqual(expected);
      }),
      { numRuns: 100 },
    );
  });

  it('are not given before they are whole', () => {
    expect(read([stream.subarray(0, stream.length - 1)])).toHaveLength(2);
  });

  it.each([
    ['a header of more than its limit', prefix(MAX_HEADER_BYTES + 1, 0)],
    ['a body of more than its limit', prefix(2, MAX_BODY_BYTES + 1)],
    ['the largest lengths there are', prefix(0xffffffff, 0xffffffff)],
    ['no header', prefix(0, 4)],
  ])('are refused with %s, before anything is allocated', (_, bytes) => {
    expect(() => read([bytes])).toThrow(expect.objectContaining({ code: 'ENGINE_PROTOCOL' }));
  });

  it('are refused by their sender when they are too large', () => {
    expect(() => encodeFrame({ text: 'x'.repeat(MAX_HEADER_BYTES) }, [])).toThrow(
      expect.objectContaining({ code: 'ENGINE_REJECTED' }),
    );
  });

  it('have bodies that any typed array may begin with, of any length of header, and that are not written to again', () => {
    const body = new Uint8Array(Float64Array.of(1, 2).buffer);
    for (let length = 1; length <= 9; length += 1) {
      const bytes = Buffer.concat(encodeFrame({ text: 'x'.repeat(length) }, [body]));
      writeFileSync(path, bytes);
      const fd = openSync(path, 'r');
      const frames = [readFrameSync(fd), ...read([bytes])];
      closeSync(fd);
      bytes.fill(0);
      for (const frame of frames) {
        const { buffer, byteOffset } = (frame as Frame).body;
        expect([...new Float64Array(buffer, byteOffset, 2)]).toEqual([1, 2]);
      }
    }
  });

  it('are one piece when they are small, and copy nothing of a large body', () => {
    const large = new Uint8Array(100_000);
    expect(encodeFrame({ kind: 'one' }, [Uint8Array.of(1), Uint8Array.of(2)])).toHaveLength(1);
    expect(encodeFrame({ kind: 'one' }, [large, new Uint8Array(0)])[1]).toBe(large);
  });

  it('end where the other side has closed', () => {
    for (const [size, found] of [
      [0, undefined],
      [5, undefined],
      [10, undefined],
      [stream.length, 4],
    ] as const) {
      writeFileSync(path, stream.subarray(0, size));
      const fd = openSync(path, 'r');
      expect(readFrameSync(fd)?.body.length).toBe(found);
      closeSync(fd);
    }
  });
});
