/**
 * From a checked model to one that serves: key, weights, engine (docs/flow.md, steps 5 to 8). The data key exists
 * between the first and the second, and no longer.
 */
import type { Deployment } from '../../shared/deployment/deployment.ts';
import { startOpeningThreads } from '../../shared/sealed-model/opening-threads.ts';
import type { BootStep } from '../../shared/telemetry.ts';
import type { EnclaveClock } from '../clock.ts';
import { freeDroppedKeys } from '../dropped-keys.ts';
import type { Engine } from '../engine/engine.ts';
import { startTensorEngine } from '../engine/tensor-engine.ts';
import { startTextEngine } from '../engine/text-engine.ts';
import type { HostService } from '../host/host-service.ts';
import { releaseDataKey } from '../kms/release.ts';
import { type CheckedModel, openWeights, type Weights } from '../model.ts';
import type { Nsm } from '../nsm/client.ts';
import type { Platform } from '../platform.ts';
import type { EngineUids } from './engine-uids.ts';
import type { ServedModel } from './model-set.ts';

export interface Loading {
  readonly nsm: Nsm;
  readonly host: HostService;
  readonly platform: Platform;
  readonly clock: EnclaveClock;
  readonly deployment: Pick<Deployment, 'kmsKeys'>;
  readonly uids: EngineUids;
  readonly reached: (step: BootStep) => Promise<void>;
}

/** Rejects with the error of the step that refused; nothing of the model is left then. */
export async function loadModel(model: CheckedModel, loading: Loading): Promise<ServedModel> {
  using opened = new DisposableStack();
  const weights = opened.use(await openWithReleasedKey(model, loading));
  const uid = loading.uids.take();
  opened.defer(() => uid.giveBack());
  const engine = await startEngine(model, weights, loading, uid.value);
  await loading.reached('engine-loaded');
  const { name, version, manifestSha256, contentId } = model;
  const held = opened.move();
  return {
    name,
    version,
    manifestSha256,
    contentId,
    engine,
    loadedAt: loading.clock.now(),
    close: async () => {
      await engine.close();
      held.dispose();
    },
  };
}

async function openWithReleasedKey(model: CheckedModel, loading: Loading): Promise<Weights> {
  const { nsm, host, platform, deployment, reached } = loading;
  // They take as long to start as KMS takes to answer, and hold nothing until the opening begins.
  await using threads = startOpeningThreads(platform.cpuCount);
  const dataKey = await releaseDataKey({
    nsm,
    connection: { host, roots: platform.kmsRoots },
    allowedKeys: deployment.kmsKeys,
    wraps: model.keyFile.wraps,
    encryptionContext: model.encryptionContext,
  });
  try {
    await reached('data-key-released');
    const weights = await openWeights(model, dataKey, {
      host,
      memoryFolder: platform.memoryFolder,
      workers: threads,
    });
    await reached('weights-opened');
    return weights;
  } finally {
    dataKey.fill(0);
    freeDroppedKeys();
  }
}

async function startEngine(
  model: CheckedModel,
  weights: Weights,
  { platform, reached }: Loading,
  uid: number | undefined,
): Promise<Engine> {
  await reached('data-key-wiped');
  const start = model.format === 'gguf' ? startTextEngine : startTensorEngine;
  return start({
    modelFd: weights.modelFd,
    external: weights.external,
    tokenizer: weights.tokenizer,
    threads: Math.max(1, platform.cpuCount - 1),
    ...(uid === undefined ? {} : { uid }),
  });
}
