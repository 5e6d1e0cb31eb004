/**
 * The enclave's story, from an empty process to a verified answer (docs/flow.md).
 *
 * Each step is one call, and each result can be made nowhere else, so the order below is the only one that
 * compiles: nothing is asked of KMS before the deployment is measured and the models are checked, and nothing
 * is served before the key that opened the weights is gone.
 */
import { randomFillSync } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { performance } from 'node:perf_hooks';
import { CONTROL_PORT, SERVICE_PORT } from '../link/ports.ts';
import { startOpeningThreads } from '../shared/sealed-model/opening-threads.ts';
import { SERIAL_BYTES } from '../shared/x509/write.ts';
import { DenyListWatch } from './clients/deny-list.ts';
import { ClientDoor, type Door, doorForAnyone } from './clients/door.ts';
import { EnclaveClock } from './clock.ts';
import { freeDroppedKeys } from './dropped-keys.ts';
import { startTensorEngine } from './engine/tensor-engine.ts';
import { startTextEngine } from './engine/text-engine.ts';
import { createEvidenceIssuer } from './evidence.ts';
import { type HostService, hostService } from './host/host-service.ts';
import { releaseDataKey } from './kms/release.ts';
import { type MeasuredDeployment, measureDeployment } from './measure-deployment.ts';
import { type CheckedModel, checkModel, openWeights } from './model.ts';
import type { ServedModel } from './models/model-set.ts';
import { ModelRegistry } from './models/registry.ts';
import { makeNonDumpable } from './native/process.ts';
import { type Nsm, nsmClient } from './nsm/client.ts';
import { type BootStep, engineUidOf, type Platform } from './platform.ts';
import { Report } from './report.ts';
import { serveControl } from './serve/control.ts';
import { type Server, startServer } from './serve/server.ts';
import { createTlsIdentity } from './tls-identity.ts';

/** Resolves once the enclave serves. Rejects with the error of the step that refused; nothing is served then. */
export async function boot(platform: Platform): Promise<Server> {
  makeNonDumpable();
  const nsm = nsmClient(platform.nsm);
  const host = hostService(platform.link);

  await seedRandomness(nsm);
  await platform.reached('randomness-seeded');

  const clock = await EnclaveClock.start(nsm, platform.systemNow);
  const measured = await measureDeployment(nsm, host);
  const report = new Report(host, measured.deployment.telemetry);
  const reached = async (step: BootStep): Promise<void> => {
    report.bootStep(step);
    await platform.reached(step);
  };
  await reached('deployment-measured');

  const models = await Promise.all(measured.deployment.models.map((pin) => checkModel(pin, host)));
  await reached('model-checked');

  const loaded: ServedModel[] = [];
  for (const [index, model] of models.entries()) {
    const engineUid = engineUidOf(platform, index);
    loaded.push(await load(model, measured, { nsm, host, platform, clock, engineUid, reached }));
  }

  const server = await serve(loaded, measured, { nsm, host, platform, clock, report });
  await reached('serving');
  return server;
}

/** An enclave starts with no entropy of its own; the hypervisor's is mixed in before any key is made. */
async function seedRandomness(nsm: Nsm): Promise<void> {
  const seed = await nsm.random();
  writeFileSync('/dev/random', seed);
  seed.fill(0);
}

interface Loading {
  readonly nsm: Nsm;
  readonly host: HostService;
  readonly platform: Platform;
  readonly clock: EnclaveClock;
  readonly engineUid: number | undefined;
  readonly reached: (step: BootStep) => Promise<void>;
}

/** Key, weights, engine: the data key exists between the first and the second, and no longer. */
async function load(
  model: CheckedModel,
  measured: MeasuredDeployment,
  { nsm, host, platform, clock, engineUid, reached }: Loading,
): Promise<ServedModel> {
  // They take as long to start as KMS takes to answer, and hold nothing until the opening begins.
  await using threads = startOpeningThreads(platform.cpuCount);
  const dataKey = await releaseDataKey({
    nsm,
    connection: { host, roots: platform.kmsRoots },
    allowedKeys: measured.deployment.kmsKeys,
    wraps: model.keyFile.wraps,
    encryptionContext: model.encryptionContext,
  });
  let weights: Awaited<ReturnType<typeof openWeights>>;
  try {
    await reached('data-key-released');
    weights = await openWeights(model, dataKey, {
      host,
      memoryFolder: platform.memoryFolder,
      workers: threads,
    });
    await reached('weights-opened');
  } finally {
    dataKey.fill(0);
    freeDroppedKeys();
  }
  await reached('data-key-wiped');

  const startEngine = model.format === 'gguf' ? startTextEngine : startTensorEngine;
  const engine = await startEngine({
    modelFd: weights.modelFd,
    external: weights.external,
    threads: Math.max(1, platform.cpuCount - 1),
    ...(engineUid === undefined ? {} : { uid: engineUid }),
  });
  await reached('engine-loaded');
  const { name, version, manifestSha256, contentId } = model;
  return {
    name,
    version,
    manifestSha256,
    contentId,
    engine,
    loadedAt: clock.now(),
    close: async () => {
      await engine.close();
      weights[Symbol.dispose]();
    },
  };
}

/** Whom the deployment lets in. */
async function openDoor(
  { clients, perClient }: MeasuredDeployment['deployment'],
  { host, clock, report }: Serving,
): Promise<Door> {
  if (clients === 'anyone') return doorForAnyone(perClient);
  const now = (): Date => clock.now();
  const { denyListSigner: signer } = clients;
  const denyList =
    signer === undefined
      ? undefined
      : await DenyListWatch.start({
          fetch: () => host.fetchDenyList(),
          signer,
          now,
          observe: (event) => report.denyList(event),
        });
  return new ClientDoor({ rules: clients, denyList, now, monotonicMs: () => performance.now() });
}

interface Serving {
  readonly nsm: Nsm;
  readonly host: HostService;
  readonly platform: Platform;
  readonly clock: EnclaveClock;
  readonly report: Report;
}

/** TLS ends here, and the first thing that any connection gets is evidence of all the steps before. */
async function serve(
  loaded: readonly ServedModel[],
  measured: MeasuredDeployment,
  serving: Serving,
): Promise<Server> {
  const { nsm, platform, clock, report } = serving;
  const identity = createTlsIdentity(clock.now(), randomFillSync(new Uint8Array(SERIAL_BYTES)));
  const models = new ModelRegistry(loaded);
  const evidence = createEvidenceIssuer({
    nsm,
    spkiSha256: identity.spkiSha256,
    deploymentSha384: measured.digest,
    currentModels: () => models.current,
    monotonicMs: () => performance.now(),
    onFailure: () => report.evidenceFailed(),
  });
  const server = await startServer({
    listen: (onConnection) => platform.link.listen(SERVICE_PORT, onConnection),
    identity,
    evidence,
    models,
    limits: measured.deployment.limits,
    door: await openDoor(measured.deployment, serving),
    now: () => clock.now(),
    observe: (event) => report.request(event),
  });
  await platform.link.listen(CONTROL_PORT, serveControl(server));
  clock.watch(() => void server.drain());
  report.start();
  return server;
}
