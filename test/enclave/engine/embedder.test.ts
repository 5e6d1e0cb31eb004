/** What the supervisor believes of an engine that says it gives vectors: nothing that does not fit the question. */
import { describe, expect, it } from 'vitest';
import type { TensorEngine } from '../../../enclave/engine/engine.ts';
import { embedderOver } from '../../../enclave/engine/onnx-text/embedder.ts';
import { poolVectors } from '../../../enclave/engine/onnx-text/pooling.ts';

function engineSaying(vectors: number[][], counts: readonly number[]): TensorEngine {
  const outputs = [
    {
      name: 'embedding',
      datatype: 'FP32' as const,
      shape: [vectors.length, 2],
      data: new Uint8Array(Float32Array.from(vectors.flat()).buffer),
    },
    {
      name: 'token_count',
      datatype: 'INT64' as const,
      shape: [counts.length],
      data: new Uint8Array(BigInt64Array.from(counts, BigInt).buffer),
    },
  ];
  return {
    kind: 'tensor',
    ready: true,
    metadata: {
      inputs: [],
      outputs: outputs.map((output) => ({ ...output, shape: output.shape.with(0, -1) })),
    },
    infer: async () => ({ outputs }),
    close: async () => {},
  };
}

const ask = (engine: TensorEngine) => embedderOver(engine)?.embed(['a', 'b'], new AbortController().signal);

describe('an engine of vectors', () => {
  it('is believed when it answers what was asked', async () => {
    const found = await ask(
      engineSaying(
        [
          [1, 0],
          [0, 1],
        ],
        [3, 4],
      ),
    );
    expect(found).toEqual({ vectors: [Float32Array.of(1, 0), Float32Array.of(0, 1)], promptTokens: 7 });
  });

  it.each<[string, number[][], number[]]>([
    ['a vector too few', [[1, 0]], [3, 4]],
    [
      'a count too few',
      [
        [1, 0],
        [0, 1],
      ],
      [3],
    ],
    [
      'a count of no tokens',
      [
        [1, 0],
        [0, 1],
      ],
      [3, 0],
    ],
    [
      'a negative count',
      [
        [1, 0],
        [0, 1],
      ],
      [3, -4],
    ],
    [
      'a count that no text has',
      [
        [1, 0],
        [0, 1],
      ],
      [3, 2 ** 40],
    ],
  ])('is not believed with %s', async (_, vectors, counts) => {
    await expect(ask(engineSaying(vectors, counts))).rejects.toMatchObject({ code: 'ENGINE_PROTOCOL' });
  });
});

describe('vectors of tokens', () => {
  it('are pooled without the padding, to length 1', () => {
    const tokens = Float32Array.of(3, 0, 0, 4, 0, 5, Number.NaN, Number.NaN);
    expect([...poolVectors(tokens, [2, 1], 2, 'mean')]).toEqual([
      expect.closeTo(0.6, 6),
      expect.closeTo(0.8, 6),
      0,
      1,
    ]);
    expect([...poolVectors(tokens, [2, 1], 2, 'cls')]).toEqual([1, 0, 0, 1]);
  });

  it.each([
    ['are zero', [0, 0]],
    ['are no numbers', [Number.NaN, 1]],
    ['are infinite', [Number.POSITIVE_INFINITY, 1]],
  ])('are refused where they %s', (_, tokens) => {
    expect(() => poolVectors(Float32Array.from(tokens), [1], 2, 'mean')).toThrow('no direction');
  });
});
