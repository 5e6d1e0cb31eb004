import { HIDDEN, INPUTS, type IrisNetwork, OUTPUTS } from './iris.ts';
import { encodeOnnxModel, floatInitializer } from './onnx.ts';

/** The network as an ONNX file: `measurements` [n, 4] in centimetres to `probabilities` [n, 3]. */
export function encodeIrisModel(network: IrisNetwork): Uint8Array {
  return encodeOnnxModel({
    name: 'iris',
    inputs: [{ name: 'measurements', type: 'float', shape: ['batch', INPUTS] }],
    outputs: [{ name: 'probabilities', type: 'float', shape: ['batch', OUTPUTS] }],
    initializers: [
      floatInitializer('hidden_weights', [INPUTS, HIDDEN], network.hiddenWeights),
      floatInitializer('hidden_bias', [HIDDEN], network.hiddenBias),
      floatInitializer('output_weights', [HIDDEN, OUTPUTS], network.outputWeights),
      floatInitializer('output_bias', [OUTPUTS], network.outputBias),
    ],
    nodes: [
      { op: 'MatMul', inputs: ['measurements', 'hidden_weights'], outputs: ['hidden_sum'] },
      { op: 'Add', inputs: ['hidden_sum', 'hidden_bias'], outputs: ['hidden_input'] },
      { op: 'Relu', inputs: ['hidden_input'], outputs: ['hidden'] },
      { op: 'MatMul', inputs: ['hidden', 'output_weights'], outputs: ['output_sum'] },
      { op: 'Add', inputs: ['output_sum', 'output_bias'], outputs: ['scores'] },
      { op: 'Softmax', inputs: ['scores'], outputs: ['probabilities'], attributes: { axis: { int: 1 } } },
    ],
  });
}
