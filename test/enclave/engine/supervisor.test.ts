import { spawnSync } from 'node:child_process';
import { closeSync, constants, fchmodSync, openSync, readdirSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import type { TensorEngine as Engine } from '../../../enclave/engine/engine.ts';
import { restartDelayMs, startTimeoutMs } from '../../../enclave/engine/supervisor.ts';
import { readBytesElements, type Tensor, writeBytesElements } from '../../../enclave/engine/tensor.ts';
import { startTensorEngine, type TensorEngineOptions } from '../../../enclave/engine/tensor-engine.ts';
import { encodeOnnxModel } from '../../../scripts/model/onnx.ts';
import { childrenOf } from '../../support/children.ts';
import { eventually } from '../../support/eventually.ts';
import {
  addModel,
  classifierModel,
  ENGINE_UID,
  externalModel,
  externalModelAnswer,
  identityModel,
  modelDescriptor,
} from '../../support/onnx-models.ts';
import { reachableProject } from '../../support/reachable.ts';

const project = reachableProject();
const ONNX_ENGINE = join(project, 'enclave', 'engine', 'onnx-main.ts');

const engines: Engine[] = [];
const descriptors: number[] = [];
afterEach(async () => {
  await Promise.all(engines.splice(0).map((engine) => engine.close()));
  for (const fd of descriptors.splice(0)) closeSync(fd);
});

async function start(model: Uint8Array, options: Partial<TensorEngineOptions> = {}): Promise<Engine> {
  const modelFd = modelDescriptor(model);
  descriptors.push(modelFd);
  const engine = await startTensorEngine({
    modelFd,
    threads: 1,
    entry: ONNX_ENGINE,
    ...ENGINE_UID,
    ...options,
  });
  engines.push(engine);
  return engine;
}

const withCode = (code: string) => expect.objectContaining({ code });
const floats = (...values: number[]): Uint8Array => new Uint8Array(Float32Array.from(values).buffer);

const external = (files: Readonly<Record<string, Uint8Array>>) =>
  Object.entries(files).map(([location, content]) => {
    const fd = modelDescriptor(content);
    descriptors.push(fd);
    return { location, fd };
  });
const oneAt = (index: number): Tensor => {
  const x = Float32Array.from({ length: 64 }, (_, at) => (at === index ? 1 : 0));
  return { name: 'x', datatype: 'FP32', shape: [1, 64], data: new Uint8Array(x.buffer) };
};
async function expectExternalAnswer(engine: Engine): Promise<void> {
  for (const index of [0, 63]) {
    const { outputs } = await engine.infer({ inputs: [oneAt(index)] });
    const data = outputs[0]?.data ?? new Uint8Array();
    const found = new Float32Array(data.buffer, data.byteOffset, 64);
    for (const [column, value] of externalModelAnswer(index).entries()) {
      expect(found[column]).toBeCloseTo(value, 4);
    }
  }
}

describe('a model of several files', () => {
  const { model, files } = externalModel();

  it('is loaded from descriptors alone, and again when its engine died', async () => {
    const names = readdirSync('/dev/shm');
    const others = new Set(childrenOf(process.pid));
    const engine = await start(model, { external: external(files), restartDelayMs: () => 1 });
    await expectExternalAnswer(engine);
    expect(readdirSync('/dev/shm')).toEqual(names);
    const [pid, ...more] = childrenOf(process.pid).filter((child) => !others.has(child));
    expect(more).toEqual([]);
    process.kill(Number(pid), 'SIGKILL');
    await eventually(() => engine.ready).toBe(false);
    await eventually(() => engine.ready).toBe(true);
    await expectExternalAnswer(engine);
  });

  it.each<[string, Readonly<Record<string, Uint8Array>>]>([
    ['one is missing', { 'b.data': files['b.data'] as Uint8Array }],
    [
      'one has another name',
      { 'b.data': files['b.data'] as Uint8Array, 'w.data': files['weights/w.data'] as Uint8Array },
    ],
    ['one is a byte short', { ...files, 'b.data': (files['b.data'] as Uint8Array).subarray(1) }],
    ['one is there that it does not refer to', { ...files, 'c.data': new Uint8Array(8) }],
  ])('does not start when %s', async (_, given) => {
    await expect(start(model, { external: external(given) })).rejects.toMatchObject({
      code: 'ENGINE_START_FAILED',
      message: expect.stringContaining('The model is refused'),
    });
  });

  it('does not start without its descriptors', async () => {
    await expect(start(model, { external: [{ location: 'b.data', fd: -1 }] })).rejects.toMatchObject({
      code: 'ENGINE_OPTIONS',
    });
  });
});

describe('a hostile model file', () => {
  it.each([
    ['another process’s memory, as the runtime itself would mark it', '*/_ORT_MEM_ADDR_/*'],
    ['a file of the system', '/etc/passwd'],
    ['a descriptor', '/proc/self/fd/3'],
  ])('never reaches the runtime: it refers to %s', async (_, location) => {
    const hostile = encodeOnnxModel({
      inputs: [],
      outputs: [{ name: 'y', type: 'float', shape: [4] }],
      initializers: [
        { name: 'w', type: 'float', shape: [4], raw: { location, offsetBytes: 4096, sizeBytes: 16 } },
      ],
      nodes: [{ op: 'Identity', inputs: ['w'], outputs: ['y'] }],
    });
    await expect(start(hostile)).rejects.toMatchObject({
      code: 'ENGINE_START_FAILED',
      message: expect.stringContaining('The model is refused'),
    });
  });

  it('never reaches the runtime: it is no protobuf', async () => {
    await expect(start(Buffer.from('not a model'))).rejects.toMatchObject({
      code: 'ENGINE_START_FAILED',
      message: expect.stringContaining('The model file is refused'),
    });
  });
});

describe('the ONNX engine', () => {
  it('says what the model takes and gives, -1 where a dimension varies', async () => {
    const engine = await start(classifierModel());
    expect(engine.metadata).toEqual({
      inputs: [{ name: 'x', datatype: 'FP32', shape: [-1, 4] }],
      outputs: [{ name: 'probabilities', datatype: 'FP32', shape: [-1, 3] }],
    });
  });

  it('computes', async () => {
    const engine = await start(classifierModel());
    const x: Tensor = { name: 'x', datatype: 'FP32', shape: [2, 4], data: floats(1, 2, 3, 4, 4, 3, 2, 1) };
    const { outputs } = await engine.infer({ inputs: [x] });
    expect(outputs).toMatchObject([{ name: 'probabilities', datatype: 'FP32', shape: [2, 3] }]);
    const data = outputs[0]?.data ?? new Uint8Array();
    const probabilities = [...new Float32Array(data.buffer, data.byteOffset, 6)];
    expect(probabilities.slice(0, 3).reduce((sum, p) => sum + p)).toBeCloseTo(1, 5);
    expect(probabilities.slice(0, 3)).not.toEqual(probabilities.slice(3));
  });

  it('passes every datatype through without changing a bit', async () => {
    const cases = [
      ['float', 'FP32', floats(1.5, -0, Number.NaN)],
      ['double', 'FP64', new Uint8Array(Float64Array.of(Math.PI, -0, Infinity).buffer)],
      ['float16', 'FP16', Uint8Array.of(0, 0x3c, 1, 0, 0xff, 0x7b)],
      ['int8', 'INT8', Uint8Array.of(0x80, 0, 0x7f)],
      ['uint8', 'UINT8', Uint8Array.of(0, 1, 0xff)],
      ['int16', 'INT16', new Uint8Array(Int16Array.of(-32768, 0, 32767).buffer)],
      ['uint16', 'UINT16', new Uint8Array(Uint16Array.of(0, 1, 65535).buffer)],
      ['int32', 'INT32', new Uint8Array(Int32Array.of(-(2 ** 31), 0, 2 ** 31 - 1).buffer)],
      ['uint32', 'UINT32', new Uint8Array(Uint32Array.of(0, 1, 2 ** 32 - 1).buffer)],
      [
        'int64',
        'INT64',
        new Uint8Array(BigInt64Array.of(-(2n ** 63n), 2n ** 53n + 1n, 2n ** 63n - 1n).buffer),
      ],
      ['uint64', 'UINT64', new Uint8Array(BigUint64Array.of(0n, 2n ** 53n + 1n, 2n ** 64n - 1n).buffer)],
      ['bool', 'BOOL', Uint8Array.of(0, 1, 1)],
      ['string', 'BYTES', writeBytesElements(['', 'Größe', '\u{1f511}'].map((text) => Buffer.from(text)))],
    ] as const;
    const engine = await start(identityModel(cases.map(([type]) => type)));
    const inputs = cases.map(([type, datatype, data]) => ({
      name: `in_${type}`,
      datatype,
      shape: [3],
      data,
    }));
    const { outputs } = await engine.infer({ inputs });
    expect(
      outputs.map(({ name, datatype, shape, data }) => [name, datatype, shape, Buffer.from(data)]),
    ).toEqual(cases.map(([type, datatype, data]) => [`out_${type}`, datatype, [3], Buffer.from(data)]));
    const some = await engine.infer({ inputs, outputs: ['out_string', 'out_bool'] });
    expect(some.outputs.map(({ name }) => name)).toEqual(['out_string', 'out_bool']);
    expect(readBytesElements(some.outputs[0]?.data ?? new Uint8Array())).toHaveLength(3);
  });

  it('takes several inputs and gives several outputs, of different types, ranks and sizes that vary', async () => {
    const engine = await start(
      encodeOnnxModel({
        inputs: [
          { name: 'tokens', type: 'int64', shape: ['batch', 'sequence'] },
          { name: 'words', type: 'string', shape: ['words'] },
          { name: 'scale', type: 'float16', shape: [] },
        ],
        outputs: [
          { name: 'sums', type: 'int64', shape: ['batch'] },
          { name: 'chosen', type: 'string', shape: ['batch', 'sequence'] },
          { name: 'halves', type: 'float16', shape: ['batch', 'sequence'] },
        ],
        initializers: [
          { name: 'last', type: 'int64', shape: [1], raw: new Uint8Array(BigInt64Array.of(-1n).buffer) },
        ],
        nodes: [
          {
            op: 'ReduceSum',
            inputs: ['tokens', 'last'],
            outputs: ['sums'],
            attributes: { keepdims: { int: 0 } },
          },
          { op: 'Gather', inputs: ['words', 'tokens'], outputs: ['chosen'] },
          { op: 'Cast', inputs: ['tokens'], outputs: ['numbers'], attributes: { to: { int: 10 } } },
          { op: 'Mul', inputs: ['numbers', 'scale'], outputs: ['halves'] },
        ],
      }),
    );
    const words = ['null', 'eins', 'zwölf'].map((word) => Buffer.from(word));
    const half = (value: number): Uint8Array => new Uint8Array(Uint16Array.of(value).buffer);
    for (const shape of [
      [1, 1],
      [2, 3],
      [3, 2],
    ]) {
      const tokens = Array.from({ length: (shape[0] ?? 0) * (shape[1] ?? 0) }, (_, index) => index % 3);
      const { outputs } = await engine.infer({
        inputs: [
          { name: 'scale', datatype: 'FP16', shape: [], data: half(0x3800 /* 0.5 */) },
          { name: 'words', datatype: 'BYTES', shape: [3], data: writeBytesElements(words) },
          {
            name: 'tokens',
            datatype: 'INT64',
            shape,
            data: new Uint8Array(BigInt64Array.from(tokens, BigInt).buffer),
          },
        ],
        outputs: ['halves', 'chosen', 'sums'],
      });
      const [halves, chosen, sums] = outputs.map(({ data }) => Uint8Array.from(data));
      expect(outputs.map((output) => output.shape)).toEqual([shape, shape, shape.slice(0, 1)]);
      expect([...new Uint16Array(halves?.buffer ?? new ArrayBuffer())]).toEqual(
        tokens.map((token) => [0, 0x3800, 0x3c00][token]),
      );
      expect(readBytesElements(chosen ?? new Uint8Array()).map(String)).toEqual(
        tokens.map((token) => String(Uint8Array.from(words[token] ?? []))),
      );
      const rows = Array.from({ length: shape[0] ?? 0 }, (_, row) =>
        tokens
          .slice(row * (shape[1] ?? 0), (row + 1) * (shape[1] ?? 0))
          .reduce((sum, token) => sum + token, 0),
      );
      expect([...new BigInt64Array(sums?.buffer ?? new ArrayBuffer())].map(Number)).toEqual(rows);
    }
  });

  it('rejects what only the model itself can find wrong, and lives on', async () => {
    const engine = await start(addModel());
    const vector = (name: string, ...values: number[]): Tensor => ({
      name,
      datatype: 'FP32',
      shape: [values.length],
      data: floats(...values),
    });
    await expect(engine.infer({ inputs: [vector('a', 1, 2), vector('b', 1, 2, 3)] })).rejects.toEqual(
      withCode('ENGINE_REJECTED'),
    );
    const { outputs } = await engine.infer({ inputs: [vector('b', 1, 2), vector('a', 3, 4)] });
    expect(Buffer.from(outputs[0]?.data ?? [])).toEqual(Buffer.from(floats(4, 6)));
  });

  it('rejects strings that are not UTF-8', async () => {
    const engine = await start(identityModel(['string']));
    const data = writeBytesElements([Uint8Array.of(0xff)]);
    await expect(
      engine.infer({ inputs: [{ name: 'in_string', datatype: 'BYTES', shape: [1], data }] }),
    ).rejects.toEqual(withCode('ENGINE_REJECTED'));
  });

  it.each([
    ['an input is missing', []],
    ['an input is unknown', [{ name: 'y', datatype: 'FP32', shape: [1, 4], data: floats(1, 2, 3, 4) }]],
    ['the datatype is another', [{ name: 'x', datatype: 'INT32', shape: [1, 4], data: floats(1, 2, 3, 4) }]],
    ['the rank is another', [{ name: 'x', datatype: 'FP32', shape: [4], data: floats(1, 2, 3, 4) }]],
    ['a fixed dimension is another', [{ name: 'x', datatype: 'FP32', shape: [1, 3], data: floats(1, 2, 3) }]],
    ['the data does not fill the shape', [{ name: 'x', datatype: 'FP32', shape: [2, 4], data: floats(1) }]],
  ] as const)('is not asked when %s', async (_, inputs) => {
    const engine = await start(classifierModel());
    await expect(engine.infer({ inputs })).rejects.toEqual(withCode('ENGINE_REJECTED'));
  });

  it('is not asked for an output that it does not have', async () => {
    const engine = await start(classifierModel());
    const inputs: Tensor[] = [{ name: 'x', datatype: 'FP32', shape: [1, 4], data: floats(1, 2, 3, 4) }];
    await expect(engine.infer({ inputs, outputs: ['weights'] })).rejects.toEqual(withCode('ENGINE_REJECTED'));
  });

  it('does not start on a model that is none', async () => {
    await expect(start(new Uint8Array(100).fill(7))).rejects.toEqual(withCode('ENGINE_START_FAILED'));
  });
});

const misbehaving = (name: string): string =>
  join(project, 'test', 'enclave', 'engine', 'misbehaving', `${name}.ts`);
const behave = (behaviour: string): { inputs: Tensor[] } => ({
  inputs: [
    {
      name: 'behaviour',
      datatype: 'BYTES',
      shape: [1],
      data: writeBytesElements([Buffer.from(behaviour)]),
    },
  ],
});
const startMisbehaving = (options: Partial<TensorEngineOptions> = {}): Promise<Engine> =>
  start(Buffer.from('pid'), { entry: misbehaving('on-demand'), ...options });

async function pidOf(engine: Engine): Promise<number> {
  const { outputs } = await engine.infer(behave('well'));
  return Buffer.from(outputs[0]?.data ?? []).readInt32LE();
}

async function untilReady(engine: Engine): Promise<void> {
  while (!engine.ready) await new Promise((resolve) => setTimeout(resolve, 10));
}

describe('an engine that does not start', () => {
  it.each([
    ['stays silent', 'silent', 'ENGINE_START_FAILED', 500],
    ['ends', 'exits', 'ENGINE_START_FAILED', 30_000],
    ['answers before it was asked', 'impatient', 'ENGINE_PROTOCOL', 30_000],
    ['does not exist', 'nowhere', 'ENGINE_START_FAILED', 30_000],
  ])('is reported when it %s', async (_, name, code, startTimeoutMs) => {
    await expect(startMisbehaving({ entry: misbehaving(name), startTimeoutMs })).rejects.toEqual(
      withCode(code),
    );
  });

  it('is reported, and ends nothing else, when no descriptor is left for it', () => {
    const script = join(import.meta.dirname, 'misbehaving', 'no-descriptor-left.ts');
    const run = spawnSync('sh', ['-c', 'ulimit -n 64; exec "$0" "$1"', process.execPath, script]);
    expect([run.status, String(run.stdout)]).toEqual([0, 'ENGINE_START_FAILED']);
  });

  it.each([
    ['a descriptor that is none', { modelFd: -1 }],
    ['no thread', { threads: 0 }],
    ['the user id of root', { uid: 0 }],
  ])('is refused with %s', async (_, options) => {
    await expect(start(classifierModel(), options)).rejects.toEqual(withCode('ENGINE_OPTIONS'));
  });

  it.skipIf(process.getuid?.() !== 0)('is refused by root without a user id of its own', async () => {
    const modelFd = modelDescriptor(classifierModel());
    await expect(startTensorEngine({ modelFd, threads: 1 })).rejects.toEqual(withCode('ENGINE_OPTIONS'));
    closeSync(modelFd);
  });
});

describe('an engine that misbehaves', () => {
  it.each(['exit', 'abort'])(
    'is started again after it died (%s), and the request is told',
    async (behaviour) => {
      const engine = await startMisbehaving();
      const before = await pidOf(engine);
      await expect(engine.infer(behave(behaviour))).rejects.toEqual(withCode('ENGINE_UNAVAILABLE'));
      await untilReady(engine);
      expect(await pidOf(engine)).not.toBe(before);
    },
  );

  it.each(['huge frame', 'not JSON', 'ready again', 'another output'])(
    'is killed and started again when it breaks the protocol (%s)',
    async (behaviour) => {
      const engine = await startMisbehaving();
      const before = await pidOf(engine);
      await expect(engine.infer(behave(behaviour))).rejects.toEqual(withCode('ENGINE_PROTOCOL'));
      while ((await pidOf(engine).catch(() => before)) === before) {
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    },
  );

  it('is killed when it speaks unasked, and no later request gets that answer', async () => {
    const engine = await startMisbehaving();
    const before = await pidOf(engine);
    await engine.infer(behave('twice')).catch(() => undefined);
    while ((await pidOf(engine).catch(() => before)) === before) {
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  });

  it('is killed when it does not answer in time', async () => {
    const engine = await startMisbehaving({ inferTimeoutMs: 200 });
    await expect(engine.infer(behave('hang'))).rejects.toEqual(withCode('ENGINE_UNAVAILABLE'));
    // On a busy machine the new one may miss so short a deadline as well, and be replaced in its turn.
    await eventually(() => pidOf(engine).catch(() => 0)).toBeGreaterThan(0);
  });

  it('fails the requests that wait for it as well, and those that come while it is away', async () => {
    const engine = await startMisbehaving();
    const waiting = [
      engine.infer(behave('exit')),
      engine.infer(behave('well')),
      engine.infer(behave('well')),
    ];
    for (const result of await Promise.allSettled(waiting)) {
      expect(result).toMatchObject({ status: 'rejected', reason: { code: 'ENGINE_UNAVAILABLE' } });
    }
    expect(engine.ready).toBe(false);
    await expect(engine.infer(behave('well'))).rejects.toEqual(withCode('ENGINE_UNAVAILABLE'));
  });

  it('is started again however often it dies, each time after a longer wait', async () => {
    const restarts: number[] = [];
    const engine = await startMisbehaving({
      restartDelayMs: (inARow) => {
        restarts.push(inARow);
        return 1;
      },
    });
    for (let death = 0; death < 8; death += 1) {
      await expect(engine.infer(behave('exit'))).rejects.toEqual(withCode('ENGINE_UNAVAILABLE'));
      await untilReady(engine);
    }
    expect(restarts).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
    expect(await pidOf(engine)).toBeGreaterThan(0);
  });

  it('has a minute to load, and one more for each GiB', () => {
    expect([0, 1, 2 ** 30, 3 * 2 ** 30].map(startTimeoutMs)).toEqual([60_000, 120_000, 120_000, 240_000]);
  });

  it('waits twice as long for every restart in a row, but never longer than half a minute', () => {
    expect([1, 2, 3, 9, 10, 11, 1_000_000].map(restartDelayMs)).toEqual([
      100, 200, 400, 25_600, 30_000, 30_000, 30_000,
    ]);
  });

  it('is taken back only once it describes itself as it did at first', async () => {
    const writable = openSync('/dev/shm', constants.O_RDWR | 0o20200000, 0o600);
    writeSync(writable, 'pid');
    fchmodSync(writable, 0o444);
    const modelFd = openSync(`/proc/self/fd/${writable}`, 'r');
    descriptors.push(writable, modelFd);
    let restarts = 0;
    const engine = await startTensorEngine({
      modelFd,
      threads: 1,
      entry: misbehaving('on-demand'),
      ...ENGINE_UID,
      restartDelayMs: () => {
        restarts += 1;
        if (restarts === 8) writeSync(writable, 'pid', 0);
        return 1;
      },
    });
    engines.push(engine);
    writeSync(writable, 'gid', 0);
    await expect(engine.infer(behave('exit'))).rejects.toEqual(withCode('ENGINE_UNAVAILABLE'));
    while (restarts < 7) {
      await expect(engine.infer(behave('well'))).rejects.toEqual(withCode('ENGINE_UNAVAILABLE'));
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    await untilReady(engine);
    expect(restarts).toBe(8);
  });
});

describe('requests to an engine', () => {
  it('are answered one after the other, each with its own answer', async () => {
    const engine = await startMisbehaving();
    const all = ['slow', 'reject', 'well', 'reject', 'well'].map((behaviour) =>
      engine.infer(behave(behaviour)),
    );
    const results = await Promise.allSettled(all);
    expect(results.map(({ status }) => status)).toEqual([
      'fulfilled',
      'rejected',
      'fulfilled',
      'rejected',
      'fulfilled',
    ]);
    expect(engine.ready).toBe(true);
  });

  it('leave the queue when their caller has gone', async () => {
    const engine = await startMisbehaving();
    const slow = engine.infer(behave('slow'));
    const gone = new AbortController();
    const waiting = engine.infer(behave('exit'), gone.signal);
    gone.abort(new Error('gone'));
    await expect(waiting).rejects.toThrow('gone');
    await slow;
    expect(await pidOf(engine)).toBeGreaterThan(0);
    expect(engine.ready).toBe(true);
  });

  it('are not taken for a caller that has gone already', async () => {
    const engine = await startMisbehaving();
    await expect(engine.infer(behave('exit'), AbortSignal.abort(new Error('gone')))).rejects.toThrow('gone');
    expect(await pidOf(engine)).toBeGreaterThan(0);
  });

  it('end with an engine that is closed while it is started again, and no process is left', async () => {
    const engine = await startMisbehaving();
    const before = childrenOf(process.pid).length;
    await expect(engine.infer(behave('exit'))).rejects.toEqual(withCode('ENGINE_UNAVAILABLE'));
    const pause = () => new Promise((resolve) => setTimeout(resolve, 5));
    while (childrenOf(process.pid).length === before) await pause();
    while (childrenOf(process.pid).length < before) await pause();
    await engine.close();
    expect(childrenOf(process.pid)).toHaveLength(before - 1);
  });

  it('end with an engine that is closed while it waits to be started again', async () => {
    const engine = await startMisbehaving({ restartDelayMs: () => 2 ** 31 - 1 });
    const before = childrenOf(process.pid).length;
    await expect(engine.infer(behave('exit'))).rejects.toEqual(withCode('ENGINE_UNAVAILABLE'));
    while (childrenOf(process.pid).length === before) await new Promise((resolve) => setTimeout(resolve, 5));
    await engine.close();
    expect(childrenOf(process.pid)).toHaveLength(before - 1);
    expect(engine.ready).toBe(false);
  });

  it('end with the engine when it is closed, and no process is left', async () => {
    const engine = await startMisbehaving();
    const pid = await pidOf(engine);
    const asked = engine.infer(behave('hang'));
    const refused = expect(asked).rejects.toEqual(withCode('ENGINE_UNAVAILABLE'));
    await engine.close();
    await refused;
    expect(() => process.kill(pid, 0)).toThrow('ESRCH');
    await expect(engine.infer(behave('well'))).rejects.toEqual(withCode('ENGINE_UNAVAILABLE'));
  });
});
