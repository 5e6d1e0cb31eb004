import { encodeOnnxModel, floatInitializer, type OnnxNode } from '../../model/onnx.ts';

/** A model of fully connected layers, `x` [n, first width] to `y` [n, last width], of weights that mean nothing. */
export function encodeMlp(widths: readonly number[]): Uint8Array {
  const layers = widths.slice(1).map((to, index) => ({ index, from: widths[index] as number, to }));
  const valueAt = (index: number): string =>
    index === 0 ? 'x' : index === layers.length ? 'y' : `layer${index}`;
  return encodeOnnxModel({
    inputs: [{ name: 'x', type: 'float', shape: ['batch', widths[0] as number] }],
    outputs: [{ name: 'y', type: 'float', shape: ['batch', widths.at(-1) as number] }],
    initializers: layers.map(({ index, from, to }) =>
      floatInitializer(`w${index}`, [from, to], weights(from * to, index)),
    ),
    nodes: layers.flatMap(({ index }): OnnxNode[] => [
      { op: 'MatMul', inputs: [valueAt(index), `w${index}`], outputs: [`sum${index}`] },
      { op: 'Relu', inputs: [`sum${index}`], outputs: [valueAt(index + 1)] },
    ]),
  });
}

/** Different in each layer: equal ones would be shared. Small, so that values stay in range. */
function weights(count: number, layer: number): Float32Array {
  return Float32Array.from({ length: count }, (_, index) => (((index * 7 + layer * 13) % 101) - 50) / 5000);
}
