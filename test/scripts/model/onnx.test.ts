import { describe, expect, it } from 'vitest';
import { encodeOnnxModel, floatInitializer, type OnnxGraph } from '../../../scripts/model/onnx.ts';

const graph: OnnxGraph = {
  inputs: [{ name: 'x', type: 'float', shape: ['batch', 2] }],
  outputs: [{ name: 'y', type: 'float', shape: ['batch', 1] }],
  initializers: [floatInitializer('w', [2, 1], [1, 2])],
  nodes: [{ op: 'MatMul', inputs: ['x', 'w'], outputs: ['y'] }],
};

describe('an ONNX file', () => {
  it('is the same bytes for the same model', () => {
    expect(Buffer.from(encodeOnnxModel(graph))).toEqual(Buffer.from(encodeOnnxModel(structuredClone(graph))));
  });

  it('is protobuf as onnx.proto lays it out', () => {
    const bytes = Buffer.from(encodeOnnxModel({ inputs: [], outputs: [], nodes: [] }));
    // ir_version 8; producer_name; graph with its name alone; opset_import with domain '' and version 17
    expect(bytes.toString('hex')).toBe(
      `0808${'120a'}${Buffer.from('strongroom').toString('hex')}3a07${'1205'}${Buffer.from('graph').toString('hex')}42040a001011`,
    );
  });

  it('writes negative attributes in ten bytes and large ones in groups of seven bits', () => {
    const node = (attributes: OnnxGraph['nodes'][number]['attributes']): string =>
      Buffer.from(
        encodeOnnxModel({
          inputs: [],
          outputs: [],
          nodes: [{ op: 'N', inputs: [], outputs: [], ...(attributes ? { attributes } : {}) }],
        }),
      ).toString('hex');
    expect(node({ a: { int: -1 } })).toContain(`18${'ff'.repeat(9)}01a00102`);
    expect(node({ a: { int: 300 } })).toContain('18ac02a00102');
    expect(node({ a: { float: 0.5 } })).toContain('150000003fa00101');
    expect(node({ a: { ints: [1, 2] } })).toContain('40014002a00107');
  });

  it('refuses values that do not fill the shape', () => {
    expect(() => floatInitializer('w', [2, 2], [1, 2, 3])).toThrow(RangeError);
  });
});
