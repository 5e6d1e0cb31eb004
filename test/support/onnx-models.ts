/** Small ONNX models for tests, and descriptors that hand them over as the enclave does. */
import { closeSync, constants, fchmodSync, openSync, writeSync } from 'node:fs';
import { encodeOnnxModel, floatInitializer, type OnnxType } from '../../scripts/model/onnx.ts';

/** probabilities = softmax(relu(x W1 + b1) W2), x: [batch, 4], probabilities: [batch, 3]. */
export function classifierModel(): Uint8Array {
  const weights = (count: number): number[] => Array.from({ length: count }, (_, index) => Math.sin(index));
  return encodeOnnxModel({
    inputs: [{ name: 'x', type: 'float', shape: ['batch', 4] }],
    outputs: [{ name: 'probabilities', type: 'float', shape: ['batch', 3] }],
    initializers: [
      floatInitializer('w1', [4, 8], weights(32)),
      floatInitializer('b1', [8], weights(8)),
      floatInitializer('w2', [8, 3], weights(24)),
    ],
    nodes: [
      { op: 'MatMul', inputs: ['x', 'w1'], outputs: ['xw1'] },
      { op: 'Add', inputs: ['xw1', 'b1'], outputs: ['sum'] },
      { op: 'Relu', inputs: ['sum'], outputs: ['hidden'] },
      { op: 'MatMul', inputs: ['hidden', 'w2'], outputs: ['logits'] },
      { op: 'Softmax', inputs: ['logits'], outputs: ['probabilities'], attributes: { axis: { int: -1 } } },
    ],
  });
}

/** What goes in comes out, for one tensor of each given type: inputs `in_TYPE`, outputs `out_TYPE`, shape [n]. */
export function identityModel(types: readonly OnnxType[]): Uint8Array {
  return encodeOnnxModel({
    inputs: types.map((type) => ({ name: `in_${type}`, type, shape: ['n'] })),
    outputs: types.map((type) => ({ name: `out_${type}`, type, shape: ['n'] })),
    nodes: types.map((type) => ({ op: 'Identity', inputs: [`in_${type}`], outputs: [`out_${type}`] })),
  });
}

/** y = a + b for two float vectors whose lengths must agree, which only the engine finds out. */
export function addModel(): Uint8Array {
  return encodeOnnxModel({
    inputs: [
      { name: 'a', type: 'float', shape: ['n'] },
      { name: 'b', type: 'float', shape: ['m'] },
    ],
    outputs: [{ name: 'y', type: 'float', shape: ['k'] }],
    nodes: [{ op: 'Add', inputs: ['a', 'b'], outputs: ['y'] }],
  });
}

/** y = x W + b, x: [batch, 64], with W in `weights/w.data` behind a kilobyte of other things and b in `b.data`. */
export function externalModel(): { model: Uint8Array; files: Readonly<Record<string, Uint8Array>> } {
  const floats = (count: number): Uint8Array =>
    new Uint8Array(Float32Array.from({ length: count }, (_, index) => Math.sin(index)).buffer);
  const w = new Uint8Array(1024 + 64 * 64 * 4);
  w.set(floats(64 * 64), 1024);
  const at = (location: string, offsetBytes: number, sizeBytes: number) => ({
    location,
    offsetBytes,
    sizeBytes,
  });
  const model = encodeOnnxModel({
    inputs: [{ name: 'x', type: 'float', shape: ['batch', 64] }],
    outputs: [{ name: 'y', type: 'float', shape: ['batch', 64] }],
    initializers: [
      { name: 'w', type: 'float', shape: [64, 64], raw: at('weights/w.data', 1024, 64 * 64 * 4) },
      { name: 'b', type: 'float', shape: [64], raw: at('b.data', 0, 64 * 4) },
    ],
    nodes: [
      { op: 'MatMul', inputs: ['x', 'w'], outputs: ['xw'] },
      { op: 'Add', inputs: ['xw', 'b'], outputs: ['y'] },
    ],
  });
  return { model, files: { 'b.data': floats(64), 'weights/w.data': w } };
}

/** What `externalModel` answers to the x that is 1 at `index` and 0 elsewhere. */
export function externalModelAnswer(index: number): readonly number[] {
  return Array.from({ length: 64 }, (_, column) => Math.sin(index * 64 + column) + Math.sin(column));
}

const O_TMPFILE = 0o20200000;

/** A fresh read-only descriptor of an unlinked file on tmpfs, mode 0444. The caller closes it. */
export function modelDescriptor(model: Uint8Array): number {
  const writable = openSync('/dev/shm', constants.O_RDWR | O_TMPFILE, 0o600);
  try {
    for (let offset = 0; offset < model.length; ) offset += writeSync(writable, model, offset);
    fchmodSync(writable, 0o444);
    return openSync(`/proc/self/fd/${writable}`, constants.O_RDONLY);
  } finally {
    closeSync(writable);
  }
}

/** A user id for engines in tests: root must give one, nobody else can. */
export const ENGINE_UID: { readonly uid?: number } = process.getuid?.() === 0 ? { uid: 61_234 } : {};
