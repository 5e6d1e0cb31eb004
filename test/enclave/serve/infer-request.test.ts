import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type Datatype,
  ELEMENT_BYTES,
  type ModelMetadata,
  type Tensor,
  writeBytesElements,
} from '../../../enclave/engine/tensor.ts';
import {
  type ApiInferRequest,
  parseInferRequest,
  readHeaderLength,
} from '../../../enclave/serve/infer-request.ts';
import { encodeInferResponse } from '../../../enclave/serve/infer-response.ts';
import { JSON_MAX_ELEMENTS } from '../../../enclave/serve/json-tensor.ts';

const metadata: ModelMetadata = {
  inputs: [
    { name: 'x', datatype: 'FP32', shape: [-1, 2] },
    { name: 'n', datatype: 'INT64', shape: [1] },
  ],
  outputs: [
    { name: 'y', datatype: 'FP32', shape: [-1] },
    { name: 'z', datatype: 'BYTES', shape: [1] },
  ],
};
const x = { name: 'x', datatype: 'FP32', shape: [2, 2], data: [1, 2, 3, 4] };
const n = { name: 'n', datatype: 'INT64', shape: [1], data: [7] };
const only = (datatype: Datatype, shape: number[] = [-1]): ModelMetadata => ({
  inputs: [{ name: 'x', datatype, shape }],
  outputs: [{ name: 'y', datatype, shape }],
});

const parse = (body: unknown, model = metadata, headerLength?: number): ApiInferRequest =>
  parseInferRequest(Buffer.from(typeof body === 'string' ? body : JSON.stringify(body)), headerLength, model);
const parseBinary = (json: object, tail: Uint8Array, model = metadata): ApiInferRequest => {
  const head = Buffer.from(JSON.stringify(json));
  return parseInferRequest(Buffer.concat([head, tail]), head.length, model);
};
const bytes = (tensor: Tensor | undefined): Buffer => Buffer.from(tensor?.data ?? []);
const floats = (...values: number[]): Buffer => Buffer.from(Float32Array.from(values).buffer);
const naming = (field: string) =>
  expect.objectContaining({ code: 'API_INVALID', message: expect.stringContaining(`${field}: `) });

describe('an inference request in JSON', () => {
  it('is read', () => {
    const request = parse({ id: 'a', inputs: [n, x] });
    expect(request.id).toBe('a');
    expect(request.inputs.map(({ name }) => name)).toEqual(['n', 'x']);
    expect(bytes(request.inputs[0])).toEqual(Buffer.from(BigInt64Array.of(7n).buffer));
    expect(bytes(request.inputs[1])).toEqual(floats(1, 2, 3, 4));
    expect(request.outputs).toEqual([
      { name: 'y', binary: false },
      { name: 'z', binary: false },
    ]);
  });

  it('takes data nested as the shape says', () => {
    const nested = parse({ inputs: [n, { ...x, data: [[1, 2], [3, 4]] }] }); // biome-ignore format: a matrix
    expect(bytes(nested.inputs[1])).toEqual(floats(1, 2, 3, 4));
  });

  it('gives the outputs asked for, in their order', () => {
    expect(parse({ inputs: [n, x], outputs: [{ name: 'z' }] }).outputs).toEqual([
      { name: 'z', binary: false },
    ]);
    const request = {
      inputs: [n, x],
      parameters: { binary_data_output: true },
      outputs: [{ name: 'z', parameters: { binary_data: false } }, { name: 'y' }],
    };
    expect(parse(request).outputs).toEqual([
      { name: 'z', binary: false },
      { name: 'y', binary: true },
    ]);
  });

  it.each([
    ['INT8', [-128, 127]],
    ['UINT8', [0, 255]],
    ['INT16', [-32768, 32767]],
    ['UINT16', [0, 65535]],
    ['INT32', [-(2 ** 31), 2 ** 31 - 1]],
    ['UINT32', [0, 2 ** 32 - 1]],
    ['INT64', ['-9223372036854775808', '9223372036854775807']],
    ['UINT64', ['0', '18446744073709551615']],
    ['FP32', [-0.1, 3.4e38]],
    ['FP64', [-1.7e308, 5e-324]],
    ['BOOL', [true, false]],
    ['BYTES', ['"é"', '""']],
  ] as const)('carries %s to its limits, and back', (datatype, values) => {
    const text = `{"inputs":[{"name":"x","datatype":"${datatype}","shape":[2],"data":[${values.join(',')}]}]}`;
    const [tensor] = parse(text, only(datatype)).inputs;
    const response = encodeInferResponse(
      { name: 'm', version: 1 },
      undefined,
      [{ name: 'x', binary: false }],
      [tensor as Tensor],
    );
    const answer = Buffer.from(response.body[0] ?? []).toString();
    if (datatype === 'FP32') {
      expect(JSON.parse(answer).outputs[0].data).toEqual(values.map((value) => Math.fround(value)));
    } else {
      expect(answer).toContain(`"data":[${values.join(',')}]`);
    }
  });

  it.each([
    ['INT8', ['-129', '128', '1.5', '1e400']],
    ['UINT8', ['-1', '256', 'true']],
    ['INT16', ['-32769', '32768']],
    ['UINT16', ['-1', '65536']],
    ['INT32', ['-2147483649', '2147483648', '"1"']],
    ['UINT32', ['-1', '4294967296']],
    ['INT64', ['-9223372036854775809', '9223372036854775808', '1e19', '9007199254740993.5']],
    ['UINT64', ['-1', '18446744073709551616']],
    ['FP32', ['3.5e38', 'null', '"1"', '[1]']],
    ['FP64', ['null', 'false']],
    ['BOOL', ['1', '0', '"true"', 'null']],
    ['BYTES', ['1', 'null']],
    ['FP16', ['1']],
  ] as const)('refuses what %s cannot hold', (datatype, values) => {
    for (const value of values) {
      const text = `{"inputs":[{"name":"x","datatype":"${datatype}","shape":[1],"data":[${value}]}]}`;
      expect(() => parse(text, only(datatype)), value).toThrow(
        expect.objectContaining({ code: 'API_INVALID' }),
      );
    }
  });

  it('refuses so many elements that their values would fill the memory', () => {
    const ones = (count: number) =>
      `{"inputs":[{"name":"x","datatype":"UINT8","shape":[${count}],"data":[${'1,'.repeat(count - 1)}1]}]}`;
    expect(parse(ones(JSON_MAX_ELEMENTS), only('UINT8')).inputs[0]?.data).toHaveLength(JSON_MAX_ELEMENTS);
    expect(() => parse(ones(JSON_MAX_ELEMENTS + 1), only('UINT8'))).toThrow(
      expect.objectContaining({ code: 'API_INVALID' }),
    );
  });

  it.each([
    ['no object', [], 'body'],
    ['an unknown member', { inputs: [n, x], model: 'm' }, 'body'],
    ['an id that is no text', { id: 7, inputs: [n, x] }, 'id'],
    ['an id without end', { id: 'x'.repeat(257), inputs: [n, x] }, 'id'],
    ['parameters that are no object', { inputs: [n, x], parameters: [] }, 'parameters'],
    ['an unknown parameter', { inputs: [n, x], parameters: { sequence_id: 1 } }, 'parameters'],
    [
      'a parameter of another type',
      { inputs: [n, x], parameters: { binary_data_output: 1 } },
      'parameters.binary_data_output',
    ],
    ['no inputs', {}, 'inputs'],
    ['inputs that are no list', { inputs: { x } }, 'inputs'],
    ['an input too few', { inputs: [x] }, 'inputs'],
    ['an input that is no object', { inputs: [x, null] }, 'inputs[1]'],
    ['an input twice', { inputs: [x, n, x] }, 'inputs[2].name'],
    ['an unknown input', { inputs: [x, { ...n, name: 'm' }] }, 'inputs[1].name'],
    ['an input without a name', { inputs: [x, { ...n, name: undefined }] }, 'inputs[1].name'],
    ['an unknown member of an input', { inputs: [{ ...x, dtype: 'FP32' }, n] }, 'inputs[0]'],
    ['another datatype', { inputs: [{ ...x, datatype: 'FP64' }, n] }, 'inputs[0].datatype'],
    ['no datatype', { inputs: [{ ...x, datatype: undefined }, n] }, 'inputs[0].datatype'],
    ['no shape', { inputs: [{ ...x, shape: undefined }, n] }, 'inputs[0].shape'],
    ['another rank', { inputs: [{ ...x, shape: [4] }, n] }, 'inputs[0].shape'],
    ['another fixed dimension', { inputs: [{ ...x, shape: [1, 4] }, n] }, 'inputs[0].shape'],
    ['an empty dimension', { inputs: [{ ...x, shape: [0, 2], data: [] }, n] }, 'inputs[0].shape'],
    ['a negative dimension', { inputs: [{ ...x, shape: [-1, 2] }, n] }, 'inputs[0].shape'],
    ['a fraction of a dimension', { inputs: [{ ...x, shape: [1.5, 2] }, n] }, 'inputs[0].shape'],
    ['a dimension beyond counting', { inputs: [{ ...x, shape: [2 ** 53 - 1, 2] }, n] }, 'inputs[0].shape'],
    ['no data', { inputs: [{ ...x, data: undefined }, n] }, 'inputs[0].data'],
    ['data that is no list', { inputs: [{ ...x, data: 'AAAA' }, n] }, 'inputs[0].data'],
    ['an element too few', { inputs: [{ ...x, data: [1, 2, 3] }, n] }, 'inputs[0].data'],
    ['an element too many', { inputs: [{ ...x, data: [1, 2, 3, 4, 5] }, n] }, 'inputs[0].data'],
    ['a list too few', { inputs: [{ ...x, data: [[1, 2]] }, n] }, 'inputs[0].data'],
    ['a list of another length', { inputs: [{ ...x, data: [[1, 2], [3]] }, n] }, 'inputs[0].data'],
    [
      'lists too deep',
      {
        inputs: [
          {
            ...x,
            data: [
              [[1], [2]],
              [[3], [4]],
            ],
          },
          n,
        ],
      },
      'inputs[0].data',
    ],
    ['lists and elements', { inputs: [{ ...x, data: [[1, 2], 3] }, n] }, 'inputs[0].data'],
    ['elements and lists', { inputs: [{ ...x, data: [1, 2, 3, [4]] }, n] }, 'inputs[0].data'],
    ['a bad element', { inputs: [{ ...x, data: [1, 2, 3, 'four'] }, n] }, 'inputs[0].data[3]'],
    [
      'a bad nested element',
      {
        inputs: [
          {
            ...x,
            data: [
              [1, 2],
              [3, null],
            ],
          },
          n,
        ],
      },
      'inputs[0].data[3]',
    ],
    ['outputs that are no list', { inputs: [x, n], outputs: { name: 'y' } }, 'outputs'],
    ['no output', { inputs: [x, n], outputs: [] }, 'outputs'],
    ['an unknown output', { inputs: [x, n], outputs: [{ name: 'weights' }] }, 'outputs[0].name'],
    ['an output twice', { inputs: [x, n], outputs: [{ name: 'y' }, { name: 'y' }] }, 'outputs[1].name'],
    [
      'an unknown member of an output',
      { inputs: [x, n], outputs: [{ name: 'y', shape: [1] }] },
      'outputs[0]',
    ],
    [
      'an unknown parameter of an output',
      { inputs: [x, n], outputs: [{ name: 'y', parameters: { classification: 3 } }] },
      'outputs[0].parameters',
    ],
    [
      'binary data without the header',
      { inputs: [{ ...x, data: undefined, parameters: { binary_data_size: 16 } }, n] },
      'inputs[0].parameters.binary_data_size',
    ],
  ])('is refused with %s, and the field is named', (_, body, field) => {
    expect(() => parse(body)).toThrow(naming(field));
  });

  it('gets nothing of its values back in an error', () => {
    expect(() => parse({ inputs: [{ ...x, data: ['hunter2', 2, 3, 4] }, n] })).toThrow(/^(?!.*hunter2)/);
  });
});

describe('an inference request with binary tensors', () => {
  const binary = (tensor: object, sizeBytes: unknown): object => ({
    ...tensor,
    data: undefined,
    parameters: { binary_data_size: sizeBytes },
  });

  it('takes them in the order of the inputs, beside JSON ones', () => {
    const tail = Buffer.concat([Buffer.from(BigInt64Array.of(-1n).buffer), floats(4, 3, 2, 1)]);
    const request = parseBinary({ inputs: [binary(n, 8), binary(x, 16)] }, tail);
    expect(bytes(request.inputs[0])).toEqual(tail.subarray(0, 8));
    expect(bytes(request.inputs[1])).toEqual(tail.subarray(8));
    expect(bytes(parseBinary({ inputs: [n, binary(x, 16)] }, floats(1, 1, 1, 1)).inputs[1])).toHaveLength(16);
    expect(parseBinary({ inputs: [n, x] }, Buffer.alloc(0)).inputs).toHaveLength(2);
  });

  it('carries every datatype, for which the sizes must agree', () => {
    for (const [datatype, size] of Object.entries(ELEMENT_BYTES) as [Datatype, number | null][]) {
      const data =
        size === null
          ? writeBytesElements([Buffer.from('a'), Buffer.from([0xff])])
          : new Uint8Array(2 * size);
      const input = { name: 'x', datatype, shape: [2] };
      const request = parseBinary({ inputs: [binary(input, data.length)] }, data, only(datatype));
      expect(bytes(request.inputs[0])).toEqual(Buffer.from(data));
      const short = data.subarray(0, data.length - 1);
      expect(() => parseBinary({ inputs: [binary(input, short.length)] }, short, only(datatype))).toThrow(
        naming('inputs[0].data'),
      );
    }
  });

  it.each([
    ['bytes are left over', { inputs: [n, binary(x, 16)] }, Buffer.alloc(17), 'body'],
    [
      'bytes are missing',
      { inputs: [n, binary(x, 16)] },
      Buffer.alloc(15),
      'inputs[1].parameters.binary_data_size',
    ],
    [
      'a size is negative',
      { inputs: [n, binary(x, -1)] },
      Buffer.alloc(16),
      'inputs[1].parameters.binary_data_size',
    ],
    [
      'a size is a fraction',
      { inputs: [n, binary(x, 15.5)] },
      Buffer.alloc(16),
      'inputs[1].parameters.binary_data_size',
    ],
    [
      'a size is text',
      { inputs: [n, binary(x, '16')] },
      Buffer.alloc(16),
      'inputs[1].parameters.binary_data_size',
    ],
    [
      'a size is beyond a double',
      { inputs: [n, binary(x, 2 ** 60)] },
      Buffer.alloc(16),
      'inputs[1].parameters.binary_data_size',
    ],
    ['a size is not that of the shape', { inputs: [n, binary(x, 12)] }, Buffer.alloc(12), 'inputs[1].data'],
    [
      'data is given as well',
      { inputs: [n, { ...x, parameters: { binary_data_size: 16 } }] },
      Buffer.alloc(16),
      'inputs[1].data',
    ],
  ])('is refused when %s', (_, json, tail, field) => {
    expect(() => parseBinary(json, tail)).toThrow(naming(field));
  });

  it('is refused when a BOOL is neither 0 nor 1', () => {
    const input = binary({ name: 'x', datatype: 'BOOL', shape: [1] }, 1);
    expect(() => parseBinary({ inputs: [input] }, Buffer.of(2), only('BOOL'))).toThrow(
      naming('inputs[0].data'),
    );
  });

  it.each([
    ['cut off in a length', [1, 0, 0]],
    ['longer than the data', [5, 0, 0, 0, 1]],
    ['fewer than the shape says', []],
    ['more than the shape says', [0, 0, 0, 0, 0, 0, 0, 0]],
    ['of the largest length there is', [255, 255, 255, 255]],
  ])('is refused when BYTES elements are %s', (_, data) => {
    const input = binary({ name: 'x', datatype: 'BYTES', shape: [1] }, data.length);
    expect(() => parseBinary({ inputs: [input] }, Buffer.from(data), only('BYTES'))).toThrow(
      naming('inputs[0].data'),
    );
  });

  it('is refused when the header is longer than the body', () => {
    expect(() => parseInferRequest(Buffer.from('{}'), 3, metadata)).toThrow(
      naming('Inference-Header-Content-Length'),
    );
  });

  it('never fails otherwise than by refusing', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), fc.nat(40), (tail, headerLength) => {
        for (const attempt of [
          () => parseInferRequest(tail, headerLength, metadata),
          () => parseBinary({ inputs: [binary(n, 8), binary(x, headerLength)] }, tail),
          () => parseInferRequest(tail, 0, only('BYTES', [1])),
        ]) {
          try {
            attempt();
          } catch (error) {
            expect(error).toEqual(expect.objectContaining({ code: 'API_INVALID' }));
          }
        }
      }),
      { numRuns: 200 },
    );
  });
});

describe('a raw request', () => {
  it('is the data of the only input, whose varying dimension follows', () => {
    const request = parseInferRequest(floats(1, 2, 3, 4, 5, 6), 0, only('FP32', [-1, 2]));
    expect(request.inputs).toMatchObject([{ name: 'x', datatype: 'FP32', shape: [3, 2] }]);
    expect(request.outputs).toEqual([{ name: 'y', binary: true }]);
  });

  it('is one BYTES element without its length', () => {
    const request = parseInferRequest(Buffer.from('raw'), 0, only('BYTES', [-1, 1]));
    expect(request.inputs).toMatchObject([{ shape: [1, 1] }]);
    expect(bytes(request.inputs[0])).toEqual(Buffer.from([3, 0, 0, 0, ...Buffer.from('raw')]));
  });

  it.each([
    ['a model with two inputs', floats(1, 2), metadata, 'Inference-Header-Content-Length'],
    ['two dimensions that vary', floats(1, 2), only('FP32', [-1, -1]), 'body'],
    ['bytes that fill no whole row', floats(1, 2, 3), only('FP32', [-1, 2]), 'body'],
    ['no bytes', Buffer.alloc(0), only('FP32', [-1, 2]), 'body'],
    ['bytes that do not fill a fixed shape', floats(1), only('FP32', [2]), 'body'],
    ['a model that takes several BYTES elements', Buffer.from('a'), only('BYTES', [2]), 'body'],
    ['a BOOL that is neither 0 nor 1', Buffer.of(7), only('BOOL', [1]), 'body'],
  ])('is refused with %s', (_, body, model, field) => {
    expect(() => parseInferRequest(body, 0, model)).toThrow(naming(field));
  });
});

describe('the header Inference-Header-Content-Length', () => {
  it('is a number of bytes', () => {
    expect([undefined, '0', '1', '9999999999'].map(readHeaderLength)).toEqual([undefined, 0, 1, 9999999999]);
  });

  it.each(['', '-1', '+1', '1.0', '0x10', '01', '1, 1', ' 1', '99999999999', 'NaN'])('is not %j', (value) => {
    expect(() => readHeaderLength(value)).toThrow(naming('Inference-Header-Content-Length'));
  });
});

describe('an inference response', () => {
  const model = { name: 'm', version: 3 };
  const y: Tensor = { name: 'y', datatype: 'FP32', shape: [2], data: floats(0.5, -0) };
  const z: Tensor = {
    name: 'z',
    datatype: 'INT64',
    shape: [1],
    data: new Uint8Array(BigInt64Array.of(2n ** 53n + 1n).buffer),
  };
  const text = (response: { body: readonly Uint8Array[] }): string =>
    Buffer.from(response.body[0] ?? []).toString();

  it('is JSON', () => {
    const response = encodeInferResponse(
      model,
      'id',
      [
        { name: 'y', binary: false },
        { name: 'z', binary: false },
      ],
      [y, z],
    );
    expect(response.headers).toEqual({ 'content-type': 'application/json' });
    expect(text(response)).toBe(
      '{"model_name":"m","model_version":"3","id":"id","outputs":[' +
        '{"name":"y","shape":[2],"datatype":"FP32","data":[0.5,-0]},' +
        '{"name":"z","shape":[1],"datatype":"INT64","data":[9007199254740993]}]}',
    );
  });

  it('has no id if none was given', () => {
    expect(JSON.parse(text(encodeInferResponse(model, undefined, [], [])))).toEqual({
      model_name: 'm',
      model_version: '3',
      outputs: [],
    });
  });

  it('is JSON followed by binary tensors', () => {
    const response = encodeInferResponse(
      model,
      undefined,
      [
        { name: 'y', binary: true },
        { name: 'z', binary: false },
      ],
      [y, z],
    );
    const json = text(response);
    expect(response.headers).toEqual({
      'content-type': 'application/octet-stream',
      'inference-header-content-length': String(json.length),
    });
    expect(JSON.parse(json).outputs[0]).toEqual({
      name: 'y',
      shape: [2],
      datatype: 'FP32',
      parameters: { binary_data_size: 8 },
    });
    expect(Buffer.concat(response.body.slice(1))).toEqual(bytes(y));
  });

  it.each([
    ['NaN', { ...y, data: floats(Number.NaN, 0) }],
    ['an infinity', { ...y, data: floats(0, Infinity) }],
    ['FP16', { ...y, datatype: 'FP16' as const, data: new Uint8Array(4) }],
    [
      'BYTES that are no text',
      { ...y, datatype: 'BYTES' as const, shape: [1], data: Buffer.of(1, 0, 0, 0, 0xff) },
    ],
    [
      'so many elements that their texts would fill the memory',
      {
        ...y,
        datatype: 'UINT8' as const,
        shape: [JSON_MAX_ELEMENTS + 1],
        data: new Uint8Array(JSON_MAX_ELEMENTS + 1),
      },
    ],
  ])('says that JSON cannot hold %s, and binary data can', (_, tensor) => {
    expect(() => encodeInferResponse(model, undefined, [{ name: 'y', binary: false }], [tensor])).toThrow(
      expect.objectContaining({ code: 'API_NOT_REPRESENTABLE' }),
    );
    expect(() =>
      encodeInferResponse(model, undefined, [{ name: 'y', binary: true }], [tensor]),
    ).not.toThrow();
  });
});
