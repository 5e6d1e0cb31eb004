import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join as joinPath } from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { trainIris } from '../../../scripts/model/iris.ts';
import { encodeIrisModel } from '../../../scripts/model/iris-onnx.ts';
import { ModelFileError } from '../../../shared/model-files/errors.ts';
import { checkOnnxFile, type OnnxFile } from '../../../shared/model-files/onnx-file.ts';
import { addModel, classifierModel, identityModel } from '../../support/onnx-models.ts';
import {
  bytes,
  entry,
  externalTensor,
  fileOf,
  int,
  join,
  key,
  model,
  opset,
  tensorHead,
  varint,
} from './onnx-bytes.ts';

const check = (content: Uint8Array): OnnxFile => checkOnnxFile(fileOf(content));
const MALFORMED = 'MODEL_FILE_MALFORMED';
const UNSUPPORTED = 'MODEL_FILE_UNSUPPORTED';
const eight = new Uint8Array(8);
const floats = bytes(9, eight);

describe('an ONNX file', () => {
  it('of the repository’s writer is accepted, and its parts are counted', () => {
    expect(check(classifierModel())).toMatchObject({
      irVersion: 8,
      nodes: 5,
      tensors: 3,
      inputs: 1,
      outputs: 1,
    });
    expect(check(identityModel(['int64', 'string', 'float16']))).toMatchObject({
      nodes: 3,
      inputs: 3,
      outputs: 3,
    });
    expect(check(addModel()).opsets).toEqual(new Map([['', 17]]));
    const flowers = [
      { measurements: [1, 2, 3, 4], species: 'setosa' as const },
      { measurements: [4, 3, 2, 2], species: 'virginica' as const },
    ];
    expect(check(encodeIrisModel(trainIris(flowers))).tensors).toBe(4);
  });

  it('says which other files its tensors are in, and how far', () => {
    const graph = bytes(5, externalTensor('b.data', '4096'));
    const { externalEnds } = check(model({ tensor: externalTensor('a/w.data'), graph }));
    expect(externalEnds).toEqual(
      new Map([
        ['a/w.data', 8],
        ['b.data', 4104],
      ]),
    );
  });

  it.each([
    ['raw bytes', join(tensorHead, floats)],
    ['packed floats', join(tensorHead, bytes(4, eight))],
    ['floats one by one', join(tensorHead, key(4, 5), eight.subarray(4), key(4, 5), eight.subarray(4))],
    ['packed integers', join(int(1, 3), int(2, 7), bytes(7, join(varint(1), varint(-1), varint(300))))],
    ['texts', join(int(1, 2), int(2, 8), bytes(6, 'one'), bytes(6, ''))],
    ['packed dimensions', join(bytes(1, join(varint(2), varint(1))), int(2, 1), floats)],
    ['half bytes', join(int(1, 3), int(2, 22), bytes(9, eight.subarray(6)))],
    ['no element at all', join(int(1, 0), int(2, 1))],
  ])('may hold its tensors’ data as %s', (_, tensor) => {
    expect(check(model({ tensor })).tensors).toBe(1);
  });

  it('is read without its weights, in pieces of at most 64 KiB', () => {
    const rawBytes = 2 ** 30;
    const tensor = join(int(1, rawBytes / 4), int(2, 1), bytes(8, 'w'), key(9, 2), varint(rawBytes));
    // graph, its initializer and the weights that only its length tells of
    const rest = join(bytes(1, bytes(4, 'Relu')), bytes(12, bytes(1, 'y')));
    const initializer = join(key(5, 2), varint(tensor.length + rawBytes), tensor);
    const head = join(
      int(1, 8),
      opset('', 17),
      key(7, 2),
      varint(rest.length + initializer.length + rawBytes),
      rest,
      initializer,
    );
    let read = 0;
    const file = {
      sizeBytes: head.length + rawBytes,
      read: (offset: number, target: Uint8Array): void => {
        expect(target.length).toBeLessThanOrEqual(64 * 1024);
        read += target.length;
        target.set(head.subarray(offset, offset + target.length));
      },
    };
    expect(checkOnnxFile(file)).toMatchObject({ nodes: 1, tensors: 1 });
    expect(read).toBeLessThan(256 * 1024);
  });
});

const nested = (depth: number): Uint8Array => {
  let graph: Uint8Array = bytes(2, 'innermost');
  for (let level = 0; level < depth; level += 1) {
    graph = bytes(1, join(bytes(4, 'If'), bytes(5, bytes(6, graph))));
  }
  return graph;
};
const deepType = (depth: number): Uint8Array => {
  let type: Uint8Array = bytes(1, int(1, 1));
  for (let level = 0; level < depth; level += 1) type = bytes(4, bytes(1, type));
  return type;
};

describe('an ONNX file is refused', () => {
  const good = model({ tensor: join(tensorHead, floats) });

  it.each<[string, Uint8Array, string]>([
    ['when it is empty', new Uint8Array(0), MALFORMED],
    ['when it is text', Buffer.from('GGUF and nothing else'), MALFORMED],
    ['without a graph', join(int(1, 8), opset('', 17)), MALFORMED],
    ['with two graphs, which parsers would merge', join(good, bytes(7, bytes(2, 'g'))), MALFORMED],
    ['without outputs', join(int(1, 8), bytes(7, bytes(11, bytes(1, 'x'))), opset('', 17)), MALFORMED],
    ['without an IR version', good.subarray(2), MALFORMED],
    ['of an IR version before all', join(int(1, 2), good.subarray(2)), MALFORMED],
    ['with its IR version twice', join(int(1, 8), good), MALFORMED],
    ['with operators of a set that it does not import', model({ opsets: opset('ai.onnx.ml', 3) }), MALFORMED],
    ['with an operator set twice, once under its alias', join(good, opset('ai.onnx', 16)), MALFORMED],
    ['with an operator set of version 0', model({ opsets: opset('', 0) }), MALFORMED],
    [
      'with operators that the runtime has not',
      join(model({ node: bytes(7, 'ai.onnx.contrib') }), opset('ai.onnx.contrib', 1)),
      UNSUPPORTED,
    ],
    ['with functions', join(good, bytes(25, bytes(1, 'f'))), UNSUPPORTED],
    ['with training information', join(good, bytes(20, new Uint8Array(0))), UNSUPPORTED],
    ['with a field that nobody knows', join(good, int(99, 1)), UNSUPPORTED],
    ['with field number 0', join(good, key(0, 0), varint(1)), MALFORMED],
    ['with a group', join(good, key(7, 3)), MALFORMED],
    ['with wire type 7', join(good, key(2, 7)), MALFORMED],
    ['with a text where a number belongs', join(good, bytes(5, 'five')), MALFORMED],
    ['with a number where a message belongs', model({ graph: int(1, 1) }), MALFORMED],
    [
      'with a varint of eleven bytes',
      join(good, key(5, 0), new Uint8Array(10).fill(255), varint(1)),
      MALFORMED,
    ],
    ['with a varint of 65 bits', join(good, key(5, 0), new Uint8Array(9).fill(255), varint(2)), MALFORMED],
    ['with a length beyond the message', join(good, key(6, 2), varint(2 ** 40)), MALFORMED],
    ['with a length beyond 64 bits’ half', join(good, key(6, 2), varint(-1)), MALFORMED],
    [
      'with a length inside the file and outside its message',
      model({ graph: join(key(2, 2), varint(8)) }),
      MALFORMED,
    ],
    ['with a name of 5 KB', model({ node: bytes(3, 'n'.repeat(5000)) }), MALFORMED],
    ['with graphs in graphs', model({ graph: nested(20) }), MALFORMED],
    ['with types in types', model({ graph: bytes(13, bytes(2, deepType(40))) }), MALFORMED],
    [
      'with more inputs than any model',
      model({ graph: join(...Array.from({ length: 1030 }, () => bytes(11, bytes(1, 'x')))) }),
      MALFORMED,
    ],
  ])('%s', (_, content, code) => {
    expect(() => check(content)).toThrow(expect.objectContaining({ code }));
  });

  it.each<[string, Uint8Array, string?]>([
    ['fewer bytes than its dimensions say', join(tensorHead, bytes(9, eight.subarray(1)))],
    ['more bytes than its dimensions say', join(tensorHead, bytes(9, new Uint8Array(9)))],
    ['no data', tensorHead],
    ['data in two places', join(tensorHead, floats, bytes(4, eight))],
    ['data here and elsewhere', join(externalTensor('w'), floats)],
    ['a negative dimension', join(int(1, -1), int(2, 1), floats)],
    [
      'dimensions whose product wraps to 0',
      join(int(1, 2n ** 32n), int(1, 2n ** 32n), int(2, 1), bytes(9, '')),
    ],
    ['dimensions beyond memory', join(int(1, 2 ** 52), int(2, 11), floats)],
    ['33 dimensions', join(...Array.from({ length: 33 }, () => int(1, 1)), int(2, 1), floats)],
    ['packed dimensions without end', join(bytes(1, new Uint8Array(40).fill(1)), int(2, 1), floats)],
    ['no data type', join(int(1, 2), floats), UNSUPPORTED],
    ['a data type that is none', join(int(1, 2), int(2, 99), floats), UNSUPPORTED],
    ['floats in the field of integers', join(tensorHead, bytes(7, join(varint(1), varint(2))))],
    ['half a float', join(tensorHead, bytes(4, new Uint8Array(7)))],
    ['a packed integer cut off', join(int(1, 1), int(2, 7), bytes(7, Uint8Array.of(128)))],
    ['texts as raw bytes', join(int(1, 1), int(2, 8), floats)],
    ['texts elsewhere', join(int(1, 1), int(2, 8), entry('location', 'w'), int(14, 1))],
    ['a place elsewhere and no word that it is there', join(tensorHead, entry('location', 'w'))],
    ['the word that it is elsewhere and no place', join(tensorHead, floats, int(14, 1))],
    ['no place elsewhere', join(tensorHead, entry('offset', '0'), int(14, 1))],
    ['an unknown place', join(tensorHead, floats, int(14, 2))],
    ['two places elsewhere', join(externalTensor('w'), entry('location', 'v'))],
    ['an unknown word about elsewhere', join(externalTensor('w'), entry('command', 'v'))],
    ['a length elsewhere that is not its own', externalTensor('w', '0', '9')],
    ['a negative offset', externalTensor('w', '-8')],
    ['an offset in another notation', externalTensor('w', '0x10')],
    ['an offset beyond all numbers', externalTensor('w', '18446744073709551608')],
    ['a segment', join(tensorHead, bytes(3, int(1, 0)), floats), UNSUPPORTED],
    ['a name that is not UTF-8', join(int(1, 2), int(2, 1), bytes(8, Uint8Array.of(255)), floats)],
  ])('with a tensor that has %s', (_, tensor, code = MALFORMED) => {
    expect(() => check(model({ tensor }))).toThrow(expect.objectContaining({ code }));
  });

  it('cut off anywhere', () => {
    for (let length = 0; length < good.length; length += 1) {
      // Cut after the graph, before the operator sets, it lacks what its operators need.
      expect(() => check(good.subarray(0, length))).toThrow(ModelFileError);
    }
  });

  it('larger than protobuf allows, before a byte is read', () => {
    const file = { sizeBytes: 2 ** 31, read: () => expect.unreachable() };
    expect(() => checkOnnxFile(file)).toThrow(expect.objectContaining({ code: MALFORMED }));
  });
});

describe('whatever the bytes', () => {
  const settles = (content: Uint8Array): void => {
    try {
      check(content);
    } catch (error) {
      expect(error).toBeInstanceOf(ModelFileError);
    }
  };

  it('noise is refused in our own words, and nothing beyond the end is read', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 400 }), settles), { numRuns: 300 });
  });

  it('a model with some bytes changed is accepted or refused, and never anything else', () => {
    const good = model({ tensor: externalTensor('w.data'), graph: nested(3) });
    const changes = fc.array(fc.tuple(fc.nat(good.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(changes, (changed) => {
        const content = Uint8Array.from(good);
        for (const [at, byte] of changed) content[at] = byte;
        settles(content);
      }),
      { numRuns: 500 },
    );
  });

  it('fields of any number, wire type and length are accepted or refused', () => {
    const field = fc
      .tuple(fc.nat(30), fc.nat(7), fc.uint8Array({ maxLength: 20 }))
      .map(([number, wire, payload]) =>
        join(key(number, wire), wire === 2 ? varint(payload.length) : new Uint8Array(0), payload),
      );
    fc.assert(
      fc.property(
        fc.array(field, { maxLength: 8 }),
        fc.constantFrom('tensor', 'node', 'graph', 'model'),
        (fields, where) => settles(model({ [where]: join(...fields) })),
      ),
      { numRuns: 500 },
    );
  });
});

/** Debian's python3-onnx, where there is one: what the standard's own library writes and says. */
const PYTHON = '/usr/bin/python3';
const hasOnnx = spawnSync(PYTHON, ['-c', 'import onnx']).status === 0;
if (!hasOnnx) console.warn('python3-onnx is not installed: nothing is compared with the onnx library');

describe.skipIf(!hasOnnx)('held against the onnx library', () => {
  const folder = mkdtempSync(joinPath(tmpdir(), 'strongroom-onnx-'));
  afterAll(() => rmSync(folder, { recursive: true }));
  const python = (script: string): string => {
    const { status, stdout, stderr } = spawnSync(PYTHON, ['-c', script], { cwd: folder, encoding: 'utf8' });
    expect(stderr.replace(/.*Warning.*\n.*\n/g, '')).toBe('');
    expect(status).toBe(0);
    return stdout;
  };

  it('every kind of tensor, attribute, type and graph in a graph that it writes is accepted', () => {
    python(`
import numpy as np, onnx
from onnx import helper as h, numpy_helper as n, TensorProto as T
f = lambda name, t=T.FLOAT, s=[2]: h.make_tensor_value_info(name, t, s)
tensors = [n.from_array(np.zeros((2, 3), dtype), str(dtype)) for dtype in
  ['float32','float64','float16','int8','int16','int32','int64','uint8','uint16','uint32','uint64','bool','complex64','complex128']]
tensors += [n.from_array(np.array(['a', 'b'], dtype=object), 'texts')]
tensors += [h.make_tensor('typed' + str(t), t, [3], [1, 0, 1]) for t in
  [T.FLOAT,T.DOUBLE,T.FLOAT16,T.INT8,T.INT16,T.INT32,T.INT64,T.UINT8,T.UINT16,T.UINT32,T.UINT64,T.BOOL,T.BFLOAT16,T.COMPLEX64,T.COMPLEX128]]
body = h.make_graph([h.make_node('Identity', ['x'], ['z'])], 'body', [], [f('z')], doc_string='inner')
nodes = [h.make_node('If', ['c'], ['y'], then_branch=body, else_branch=body),
  h.make_node('Constant', [], ['k'], value=tensors[0]), h.make_node('Constant', [], ['s'], value_strings=['a', 'b']),
  h.make_node('Constant', [], ['i'], value_ints=[1, -2, 3]), h.make_node('Constant', [], ['g'], value_floats=[1.5, 2.5]),
  h.make_node('Scaler', ['x'], ['v'], domain='ai.onnx.ml', offset=[1.0], scale=[2.0])]
sparse = h.make_sparse_tensor(h.make_tensor('v', T.FLOAT, [2], [1, 2]), h.make_tensor('', T.INT64, [2], [0, 3]), [5])
graph = h.make_graph(nodes, 'g', [f('x'), f('c', T.BOOL, [])], [f('y', s=['n', None, 3])], tensors, 'words', [f('z')], [sparse])
graph.value_info.append(h.make_tensor_sequence_value_info('q', T.FLOAT, ['a']))
model = h.make_model(graph, producer_name='test', doc_string='d' * 100000, opset_imports=[h.make_opsetid('', 15), h.make_opsetid('ai.onnx.ml', 2)])
h.set_model_props(model, {'author': 'somebody'})
onnx.save(model, 'all.onnx')
`);
    const found = check(readFileSync(joinPath(folder, 'all.onnx')));
    expect(found).toMatchObject({ nodes: 8, tensors: 33, inputs: 2, outputs: 1 });
    expect(found.opsets).toEqual(
      new Map([
        ['', 15],
        ['ai.onnx.ml', 2],
      ]),
    );
  });

  it('external data are found where it puts them', () => {
    python(`
import numpy as np, onnx
from onnx import helper as h, numpy_helper as n, TensorProto as T
w = [n.from_array(np.ones((32, 32), 'float32'), name) for name in 'ab']
v = lambda name: h.make_tensor_value_info(name, T.FLOAT, [32, 32])
graph = h.make_graph([h.make_node('Add', ['a', 'b'], ['y'])], 'g', [], [v('y')], w)
onnx.save_model(h.make_model(graph), 'ext.onnx', save_as_external_data=True, all_tensors_to_one_file=True, location='ext.data', size_threshold=0)
`);
    const { externalEnds } = check(readFileSync(joinPath(folder, 'ext.onnx')));
    expect(externalEnds).toEqual(new Map([['ext.data', readFileSync(joinPath(folder, 'ext.data')).length]]));
  });
});
