import { describe, expect, it } from 'vitest';
import type { Frame } from '../../../enclave/engine/frames.ts';
import { readFailure, readStart } from '../../../enclave/engine/messages.ts';
import type { ModelMetadata, Tensor } from '../../../enclave/engine/tensor.ts';
import {
  readInfer,
  readTensorAnswer,
  readTensorReady,
  requireWantedOutputs,
} from '../../../enclave/engine/tensor-messages.ts';

const frame = (header: unknown, body = new Uint8Array(0)): Frame => ({
  header: Buffer.from(typeof header === 'string' ? header : JSON.stringify(header)),
  body,
});
const head = { name: 'y', datatype: 'FP32', shape: [1, 2], sizeBytes: 8 };
const protocolError = expect.objectContaining({ code: 'ENGINE_PROTOCOL' });

describe('an answer of the engine', () => {
  it('is read', () => {
    expect(readTensorAnswer(frame({ kind: 'result', outputs: [head] }, new Uint8Array(8)))).toEqual({
      kind: 'result',
      outputs: [{ name: 'y', datatype: 'FP32', shape: [1, 2], data: new Uint8Array(8) }],
    });
    expect(
      readTensorReady(frame({ kind: 'ready', inputs: [], outputs: [{ ...head, shape: [-1] }] })),
    ).toEqual({
      inputs: [],
      outputs: [{ name: 'y', datatype: 'FP32', shape: [-1] }],
    });
    expect(readFailure(frame({ kind: 'failed', message: 'why\n' }))).toBe('why?');
    expect(readFailure(frame({ kind: 'ready' }))).toBeUndefined();
  });

  it('has its text bounded and made printable', () => {
    const answer = readTensorAnswer(frame({ kind: 'rejected', message: `\u001b[31m\n${'x'.repeat(5000)}` }));
    expect(answer).toMatchObject({ message: expect.stringMatching(/^\?\[31m\?x{994}$/) });
  });

  const result = (change: object, body = new Uint8Array(8)): Frame =>
    frame({ kind: 'result', outputs: [{ ...head, ...change }] }, body);
  it.each([
    ['that is not JSON', frame('{')],
    ['that is not UTF-8', { header: Uint8Array.of(0x22, 0xff, 0x22), body: new Uint8Array(0) }],
    ['that is no object', frame('[]')],
    ['of unknown kind', frame({ kind: 'root-shell' })],
    ['with a body where none belongs', frame({ kind: 'rejected', message: '' }, new Uint8Array(1))],
    ['with a message that is no text', frame({ kind: 'rejected', message: {} })],
    ['with outputs that are no list', frame({ kind: 'result', outputs: {} })],
    ['with too many outputs', frame({ kind: 'result', outputs: Array(1025).fill(head) })],
    ['with an output that is no object', frame({ kind: 'result', outputs: [1] })],
    ['with an unknown datatype', result({ datatype: 'FP8' })],
    ['with a datatype of the prototype', result({ datatype: 'constructor' })],
    ['with a shape that is no list', result({ shape: 2 })],
    ['with a shape of too many dimensions', result({ shape: Array(33).fill(1) })],
    ['with a negative dimension', result({ shape: [-2] })],
    ['with a fraction of a dimension', result({ shape: [1.5] })],
    ['with a tensor of unknown size', result({ shape: [-1] })],
    ['with no name', result({ name: '' })],
    ['with an endless name', result({ name: 'x'.repeat(513) })],
    ['with a tensor larger than the body', result({ sizeBytes: 9 })],
    ['with a negative size', result({ sizeBytes: -8 })],
    ['with bytes beyond the last tensor', result({}, new Uint8Array(9))],
    ['with data that does not fill the shape', result({ shape: [3] })],
    ['with a shape beyond counting', result({ shape: [2 ** 30, 2 ** 30] })],
    ['with a BOOL of 2', result({ datatype: 'BOOL', shape: [8] }, new Uint8Array(8).fill(2))],
    ['with BYTES that end early', result({ datatype: 'BYTES', shape: [1] }, new Uint8Array(8).fill(1))],
  ])('%s is refused', (_, bad) => {
    expect(() => readTensorAnswer(bad)).toThrow(protocolError);
    expect(() => readTensorReady(bad)).toThrow(protocolError);
  });
});

describe('the outputs of an answer', () => {
  const metadata: ModelMetadata = {
    inputs: [],
    outputs: [
      { name: 'y', datatype: 'FP32', shape: [-1, 2] },
      { name: 'z', datatype: 'INT8', shape: [1] },
    ],
  };
  const y: Tensor = { name: 'y', datatype: 'FP32', shape: [1, 2], data: new Uint8Array(8) };
  const z: Tensor = { name: 'z', datatype: 'INT8', shape: [1], data: new Uint8Array(1) };

  it('are the ones that were asked for', () => {
    expect(() => requireWantedOutputs([z, y], ['z', 'y'], metadata)).not.toThrow();
  });

  it.each([
    ['missing', [y], ['y', 'z']],
    ['one too many', [y, z], ['y']],
    ['in another order', [z, y], ['y', 'z']],
    ['of another datatype', [{ ...y, datatype: 'INT32' as const }], ['y']],
    ['of another shape', [{ ...y, shape: [2, 1] }], ['y']],
    ['of another rank', [{ ...y, shape: [2] }], ['y']],
  ])('are refused when %s', (_, outputs, wanted) => {
    expect(() => requireWantedOutputs(outputs, wanted, metadata)).toThrow(protocolError);
  });
});

describe('what the engine is told', () => {
  it('starts it', () => {
    const start = { kind: 'start', threads: 2, external: ['w.data'], tokenizer: ['tokenizer.json'] };
    expect(readStart(frame(start))).toEqual(start);
  });
  it('must be a start message first', () => {
    expect(() => readStart(frame({ kind: 'infer' }))).toThrow(protocolError);
    expect(() => readStart(frame({ kind: 'start', threads: 2 }))).toThrow(protocolError);
    expect(() => readInfer(frame({ kind: 'start' }))).toThrow(protocolError);
  });
});
