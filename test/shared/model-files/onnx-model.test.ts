import { describe, expect, it } from 'vitest';
import { checkOnnxModel, onnxFilesOf } from '../../../shared/model-files/onnx-model.ts';
import { bytes, externalTensor, fileOf, model } from './onnx-bytes.ts';

const DISAGREE = expect.objectContaining({ code: 'MODEL_FILES_DISAGREE' });
const withExternal = (...tensors: Uint8Array[]): ReturnType<typeof fileOf> =>
  fileOf(model({ graph: Buffer.concat(tensors.map((tensor) => bytes(5, tensor))) }));

describe('the files of a model', () => {
  it('are the ONNX file and others below its folder, by the names that it has for them', () => {
    expect(onnxFilesOf(['anything'])).toEqual({ main: 0, external: [], tokenizer: [] });
    expect(onnxFilesOf(['onnx/a/w.bin', 'onnx/model.onnx', 'onnx/model.onnx_data'])).toEqual({
      main: 1,
      external: [
        { index: 0, location: 'a/w.bin' },
        { index: 2, location: 'model.onnx_data' },
      ],
      tokenizer: [],
    });
  });

  it("are a tokenizer's too, by their names at the top, where there is a tokenizer.json", () => {
    const paths = ['1_Pooling/config.json', 'config.json', 'onnx/config.json', 'onnx/m.onnx'];
    expect(onnxFilesOf([...paths, 'tokenizer.json', 'tokenizer_config.json'])).toEqual({
      main: 3,
      external: [{ index: 2, location: 'config.json' }],
      tokenizer: [
        { index: 0, location: '1_Pooling/config.json' },
        { index: 1, location: 'config.json' },
        { index: 4, location: 'tokenizer.json' },
        { index: 5, location: 'tokenizer_config.json' },
      ],
    });
    expect(() => onnxFilesOf(paths)).toThrow(DISAGREE);
    expect(() => onnxFilesOf([...paths, 'tokenizer.json', 'vocab.txt'])).toThrow(DISAGREE);
  });

  it.each([
    ['no ONNX file among several', ['a.bin', 'b.bin']],
    ['two ONNX files', ['a.onnx', 'b.onnx']],
    ['a file outside the folder of the ONNX file', ['onnx/model.onnx', 'weights.bin']],
  ])('are refused: %s', (_, paths) => {
    expect(() => onnxFilesOf(paths)).toThrow(DISAGREE);
  });

  it('are accepted when the ONNX file refers to each of them and nowhere beyond', () => {
    const main = withExternal(externalTensor('a', '8'), externalTensor('b/c'));
    const files = [
      { location: 'a', sizeBytes: 16 },
      { location: 'b/c', sizeBytes: 8 },
    ];
    expect(checkOnnxModel(main, files)).toMatchObject({ tensors: 2 });
  });

  it.each([
    '/etc/passwd',
    '../secret',
    './w.data',
    'sub/../w.data',
    'W.data',
    '/proc/self/fd/3',
    '*/_ORT_MEM_ADDR_/*',
    'w.data\0',
    'file:w.data',
  ])('are refused when the ONNX file refers to %j', (location) => {
    const main = withExternal(externalTensor('w.data'), externalTensor(location));
    expect(() => checkOnnxModel(main, [{ location: 'w.data', sizeBytes: 8 }])).toThrow(DISAGREE);
    expect(() => checkOnnxModel(main, [])).toThrow(DISAGREE);
  });

  it('are refused when a tensor ends a byte beyond its file', () => {
    const main = withExternal(externalTensor('w.data', '1'));
    expect(() => checkOnnxModel(main, [{ location: 'w.data', sizeBytes: 8 }])).toThrow(DISAGREE);
    expect(checkOnnxModel(main, [{ location: 'w.data', sizeBytes: 9 }])).toMatchObject({ tensors: 1 });
  });

  it('are refused with one more than the ONNX file refers to', () => {
    const files = ['w.data', 'stowaway'].map((location) => ({ location, sizeBytes: 8 }));
    expect(() => checkOnnxModel(withExternal(externalTensor('w.data')), files)).toThrow(DISAGREE);
  });

  it('are refused when a tensor of a graph in the graph refers to another', () => {
    const inner = bytes(5, externalTensor('/etc/shadow'));
    const node = bytes(5, bytes(6, inner));
    expect(() => checkOnnxModel(fileOf(model({ node })), [])).toThrow(DISAGREE);
  });

  it('are refused when the constant of a node refers to another', () => {
    const node = bytes(5, bytes(5, externalTensor('/etc/shadow')));
    expect(() => checkOnnxModel(fileOf(model({ node })), [])).toThrow(DISAGREE);
  });
});
