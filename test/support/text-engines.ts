/** Engines of text for ONNX models, real and confined, for the tests of one file. */
import { closeSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, expect } from 'vitest';
import type { TensorEngine } from '../../enclave/engine/engine.ts';
import { startTensorEngine } from '../../enclave/engine/tensor-engine.ts';
import { ENGINE_UID, modelDescriptor } from './onnx-models.ts';
import { reachableProject } from './reachable.ts';

interface TextEngines {
  /** `files`: the tokenizer's, by their paths in the model's folder. */
  start(model: Uint8Array, files: Readonly<Record<string, Uint8Array>>): Promise<TensorEngine>;
}

/** They are closed after the last test of the file. */
export function textEngines(): TextEngines {
  const entry = join(reachableProject(), 'enclave', 'engine', 'onnx-main.ts');
  const engines: TensorEngine[] = [];
  const descriptors: number[] = [];
  afterAll(async () => {
    await Promise.all(engines.map((engine) => engine.close()));
    for (const fd of descriptors) closeSync(fd);
  });
  const descriptorOf = (content: Uint8Array): number => {
    const fd = modelDescriptor(content);
    descriptors.push(fd);
    return fd;
  };
  return {
    async start(model, files) {
      const engine = await startTensorEngine({
        modelFd: descriptorOf(model),
        tokenizer: Object.entries(files).map(([location, content]) => ({
          location,
          fd: descriptorOf(content),
        })),
        threads: 1,
        entry,
        startTimeoutMs: 120_000,
        inferTimeoutMs: 120_000,
        ...ENGINE_UID,
      });
      engines.push(engine);
      return engine;
    },
  };
}

export function expectClose(found: Iterable<number> | undefined, expected: readonly number[]): void {
  const values = [...(found ?? [])];
  expect(values).toHaveLength(expected.length);
  for (const [index, value] of expected.entries()) expect(values[index]).toBeCloseTo(value, 5);
}
