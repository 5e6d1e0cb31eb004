/**
 * The enclave's story, from an empty process to a verified answer (docs/flow.md).
 *
 * Each step is one call, and each result can be made nowhere else, so the order below is the only one that
 * compiles: nothing is asked of KMS before the deployment is measured and the models are checked, and nothing
 * is served before the key that opened the weights is gone.
 */
import { writeFileSync } from 'node:fs';
import { CONTROL_PORT, SERVICE_PORT } from '../link/ports.ts';
import { EnclaveClock } from './clock.ts';
import { type Engine, startEngine } from './engine/supervisor.ts';
import { createEvidenceIssuer } from './evidence.ts';
import { type HostService, hostService } from './host/host-service.ts';
import { releaseDataKey } from './kms/release.ts';
import { type MeasuredDeployment, measureDeployment } from './measure-deployment.ts';
import { type CheckedModel, checkModel, openWeights } from './model.ts';
import { makeNonDumpable } from './native/process.ts';
import { type Nsm, nsmClient } from './nsm/client.ts';
import type { Platform } from './platform.ts';
import { serveControl } from './serve/control.ts';
import { type Server, startServer } from './serve/server.ts';
import { createTlsIdentity } from './tls-identity.ts';

export async function boot(platform: Platform): Promise<Server> {
  makeNonDumpable();
  const nsm = nsmClient(platform.nsm);
  const host = hostService(platform.link);

  await seedRandomness(nsm);
  await platform.reached('randomness-seeded');

  const clock = await EnclaveClock.start(nsm, platform.systemNow);
  const measured = await measureDeployment(nsm, host);
  await platform.reached('deployment-measured');

  const models = await Promise.all(measured.deployment.models.map((pin) => checkModel(pin, host)));
  await platform.reached('model-checked');

  const engines: Engine[] = [];
  for (const model of models) engines.push(await loadModel(model, measured, { nsm, host, platform }));

  return serve({ models, engines, measured, nsm, host, clock, platform });
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
}

/** Key, weights, engine: the data key exists between the first and the second, and no longer. */
async function loadModel(model: CheckedModel, measured: MeasuredDeployment, loading: Loading): Promise<Engine> {
  const { nsm, host, platform } = loading;
  const dataKey = await releaseDataKey({
    nsm,
    connection: { host, roots: platform.kmsRoots },
    allowedKeys: measured.deployment.kmsKeys,
    wraps: model.keyFile.wraps,
    encryptionContext: model.encryptionContext,
  });
  let weights: Awaited<ReturnType<typeof openWeights>>;
  try {
    await platform.reached('data-key-released');
    weights = await openWeights(model, dataKey, {
      host,
      memoryFolder: platform.memoryFolder,
      workers: platform.cpuCount,
    });
    await platform.reached('weights-opened');
  } finally {
    dataKey.fill(0);
  }
  await platform.reached('data-key-wiped');
  const engine = await startEngine({
    modelFd: weights.fd,
    threads: Math.max(1, platform.cpuCount - 1),
    ...(platform.engineUid === undefined ? {} : { uid: platform.engineUid }),
  });
  await platform.reached('engine-loaded');
  return engine;
}

interface Serving {
  readonly models: readonly CheckedModel[];
  readonly engines: readonly Engine[];
  readonly measured: MeasuredDeployment;
  readonly nsm: Nsm;
  readonly host: HostService;
  readonly clock: EnclaveClock;
  readonly platform: Platform;
}

async function serve(story: Serving): Promise<Server> {
  const { models, engines, measured, nsm, host, clock, platform } = story;
  const identity = createTlsIdentity(clock.now());
  const server = await startServer({
    listen: (onConnection) => platform.link.listen(SERVICE_PORT, onConnection),
    identity,
    evidence: createEvidenceIssuer({
      nsm,
      identity,
      deploymentDigest: measured.digest,
      models: models.map(({ name, version, manifestSha256, contentId }) => ({
        name,
        version,
        manifestSha256,
        contentId,
      })),
    }),
    models: models.map(({ name, version, contentId }, index) => ({
      name,
      version,
      contentId,
      engine: engines[index] as Engine,
    })),
    limits: measured.deployment.limits,
    observe: (event) => host.sendTelemetry([event]),
  });
  await platform.link.listen(CONTROL_PORT, serveControl(server));
  clock.watch(() => server.drain());
  await platform.reached('serving');
  return server;
}
