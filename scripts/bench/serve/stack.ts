/** A local stack that serves a model of tensors and one of text, for many callers, and replaces them. */
import { execFile } from 'node:child_process';
import { renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { LocalInstance, OnLine } from '../../../simulator/local-instance.ts';
import type { LocalStack } from '../../../simulator/local-stack.ts';
import { type ModelBytes, sealAsOwner } from '../../local/release.ts';
import { prepareReleaseOfSeveral, type ReleaseOfSeveral } from '../../local/release-of-several.ts';
import { readFlowers, splitFlowers, trainIris } from '../../model/iris.ts';
import { encodeIrisModel } from '../../model/iris-onnx.ts';
import { encodeRandomLlama, type LlamaShape, TINY_LLAMA } from '../../model/random-llama.ts';
import type { HostileTargets } from './hostile-requests.ts';

const run = promisify(execFile);
const STRONGROOM = join(import.meta.dirname, '..', '..', 'strongroom.ts');

export interface Serving {
  readonly stack: LocalStack;
  readonly release: ReleaseOfSeveral;
  readonly instance: LocalInstance;
  readonly targets: HostileTargets;
  readonly models: Readonly<Record<string, ModelBytes>>;
}

export const TARGETS: HostileTargets = { tensors: 'iris', input: 'measurements', text: 'tiny' };

/** Resolves when it serves. The deployment takes as many connections and waiting requests as a crowd needs. */
export async function startServing(
  stack: LocalStack,
  { shape = TINY_LLAMA, onLine }: { readonly shape?: LlamaShape; readonly onLine?: OnLine } = {},
): Promise<Serving> {
  const models = {
    [TARGETS.tensors]: { onnx: encodeIrisModel(trainIris(splitFlowers(readFlowers()).training)) },
    [TARGETS.text]: { gguf: Buffer.concat([...encodeRandomLlama(shape)]) },
  };
  const release = await prepareReleaseOfSeveral(
    stack,
    Object.entries(models).map(([name, bytes]) => ({ name, version: 1, ...bytes })),
    {
      limits: { connections: 1_024, queueLength: 1_024, completionTokens: shape.contextTokens },
      telemetry: ['boot', 'requests', 'durations'],
    },
  );
  const instance = await stack.startInstance({ ...release, ...(onLine && { onLine }) });
  await instance.serving;
  return { stack, release, instance, targets: TARGETS, models };
}

/** Seals the same model anew under a newer version and has the enclave load it. Rejects if it does not. */
export async function replaceModel(serving: Serving, name: string, version: number): Promise<void> {
  const { stack, release, instance, models } = serving;
  const { owner, keyArn, modelsFolder } = release;
  const fresh = join(stack.folder, `fresh-${name}-${version}`);
  await sealAsOwner(stack, {
    owner,
    keyArn,
    name,
    version,
    modelsFolder: fresh,
    ...(models[name] as ModelBytes),
  });
  const served = join(modelsFolder, `${name}.sealed`);
  const old = join(stack.folder, `old-${name}-${version}`);
  renameSync(served, old);
  renameSync(join(fresh, `${name}.sealed`), served);
  rmSync(old, { recursive: true });
  rmSync(fresh, { recursive: true });
  const config = join(instance.folder, 'parent.json');
  await run(process.execPath, [STRONGROOM, 'models', 'load', name, '--config', config, '--json']);
}
