/** Protobuf by hand, so that a test can write what no honest exporter does. */
import type { FileBytes } from '../../../shared/model-files/protobuf.ts';

export const join = (...parts: readonly Uint8Array[]): Uint8Array => new Uint8Array(Buffer.concat(parts));
export function varint(value: number | bigint): Uint8Array {
  const groups: number[] = [];
  for (let rest = BigInt.asUintN(64, BigInt(value)); ; rest >>= 7n) {
    if (rest < 128n) return Uint8Array.from([...groups, Number(rest)]);
    groups.push(Number(rest & 127n) | 128);
  }
}
export const key = (field: number, wire: number): Uint8Array => varint(field * 8 + wire);
export const int = (field: number, value: number | bigint): Uint8Array => join(key(field, 0), varint(value));
export const bytes = (field: number, value: Uint8Array | string): Uint8Array => {
  const payload = Buffer.from(value as string);
  return join(key(field, 2), varint(payload.length), payload);
};

/** One node, one output, whatever else a test puts in. */
export interface Parts {
  readonly tensor?: Uint8Array;
  readonly node?: Uint8Array;
  readonly graph?: Uint8Array;
  readonly model?: Uint8Array;
  readonly opsets?: Uint8Array;
}
const none = new Uint8Array(0);
export const value = (name: string): Uint8Array =>
  join(bytes(1, name), bytes(2, bytes(1, join(int(1, 1), bytes(2, bytes(1, int(1, 2)))))));
export const opset = (domain: string, version: number): Uint8Array =>
  bytes(8, join(bytes(1, domain), int(2, version)));
export function model(parts: Parts = {}): Uint8Array {
  const node = join(bytes(1, 'x'), bytes(1, 'w'), bytes(2, 'y'), bytes(4, 'Add'), parts.node ?? none);
  const graph = join(
    bytes(1, node),
    bytes(2, 'g'),
    ...(parts.tensor === undefined ? [] : [bytes(5, parts.tensor)]),
    bytes(11, value('x')),
    bytes(12, value('y')),
    parts.graph ?? none,
  );
  return join(int(1, 8), bytes(7, graph), parts.opsets ?? opset('', 17), parts.model ?? none);
}

/** A float tensor of shape [2] without data. */
export const tensorHead = join(int(1, 2), int(2, 1), bytes(8, 'w'));
export const entry = (name: string, text: string): Uint8Array =>
  bytes(13, join(bytes(1, name), bytes(2, text)));
export const externalTensor = (location: string, offset = '0', length = '8'): Uint8Array =>
  join(tensorHead, entry('location', location), entry('offset', offset), entry('length', length), int(14, 1));

export function fileOf(content: Uint8Array): FileBytes {
  return {
    sizeBytes: content.length,
    read: (offset, target) => {
      if (offset + target.length > content.length) throw new RangeError('read beyond the end of the file');
      target.set(content.subarray(offset, offset + target.length));
    },
  };
}
