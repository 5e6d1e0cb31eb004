/**
 * A model whose weights are random, and a question that is: 16 MiB in one matrix, applied so often that an answer
 * takes long enough to be watched, and a text that goes through as it is.
 */
import { randomBytes, randomFillSync } from 'node:crypto';
import { encodeOnnxModel, floatInitializer } from '../../../scripts/model/onnx.ts';
import { type Canary, canary, textCanary } from '../../support/canaries.ts';

const SIZE = 2048;
const LAYERS = 300;
const SLICE_BYTES = 48;
const SLICES = 8;

export interface CanaryModel {
  readonly onnx: Uint8Array;
  /** Slices from the first byte of the weights to the last. */
  readonly canaries: readonly Canary[];
}

export function canaryModel(): CanaryModel {
  const weights = randomFloats(SIZE * SIZE, 0.05);
  const raw = new Uint8Array(weights.buffer);
  const layers = Array.from({ length: LAYERS }, (_, layer) => [
    { op: 'MatMul', inputs: [layer === 0 ? 'x' : `h${layer}`, 'w'], outputs: [`s${layer}`] },
    { op: 'Tanh', inputs: [`s${layer}`], outputs: [layer === LAYERS - 1 ? 'y' : `h${layer + 1}`] },
  ]);
  const onnx = encodeOnnxModel({
    inputs: [
      { name: 'x', type: 'float', shape: ['batch', SIZE] },
      { name: 'note', type: 'string', shape: ['batch'] },
    ],
    outputs: [
      { name: 'y', type: 'float', shape: ['batch', SIZE] },
      { name: 'echo', type: 'string', shape: ['batch'] },
    ],
    initializers: [floatInitializer('w', [SIZE, SIZE], weights)],
    nodes: [...layers.flat(), { op: 'Identity', inputs: ['note'], outputs: ['echo'] }],
  });
  const canaries = Array.from({ length: SLICES }, (_, index) => {
    const at = Math.floor((index * (raw.length - SLICE_BYTES)) / (SLICES - 1));
    return canary('weights', raw.subarray(at, at + SLICE_BYTES));
  });
  return { onnx, canaries };
}

export interface CanaryQuestion {
  /** An Open Inference Protocol v2 request. */
  readonly body: string;
  readonly canaries: readonly Canary[];
}

export function canaryQuestion(): CanaryQuestion {
  const text = `prompt ${randomBytes(24).toString('base64url')}`;
  const floats = randomFloats(SIZE, 1);
  const numbers = [...floats];
  const body = JSON.stringify({
    inputs: [
      { name: 'x', datatype: 'FP32', shape: [1, SIZE], data: numbers },
      { name: 'note', datatype: 'BYTES', shape: [1], data: [text] },
    ],
  });
  return {
    body,
    canaries: [
      textCanary('prompt', text),
      textCanary('prompt', numbers.slice(100, 104).join(',')),
      canary('prompt', new Uint8Array(floats.buffer, 100 * 4, SLICE_BYTES)),
    ],
  };
}

/** What the answer says, once it is there. */
export function answerCanaries(
  outputs: readonly { readonly name: string; readonly data: number[] }[],
): Canary[] {
  const data = outputs.find(({ name }) => name === 'y')?.data ?? [];
  const floats = Float32Array.from(data);
  return [
    textCanary('answer', data.slice(100, 104).join(',')),
    canary('answer', new Uint8Array(floats.buffer, 100 * 4, SLICE_BYTES)),
  ];
}

/** Multiples of 2^-24 below `limit`, evenly spread around zero. */
function randomFloats(count: number, limit: number): Float32Array<ArrayBuffer> {
  const random = randomFillSync(new Uint32Array(count));
  return Float32Array.from(random, (value) => ((value >>> 7) / 2 ** 24 - 1) * limit);
}
