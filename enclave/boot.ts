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
import type { BootStep } from '../shared/telemetry.ts';
import { SERIAL_BYTES } from '../shared/x509/write.ts';
import { openDoor } from './clients/open-door.ts';
import { EnclaveClock } from './clock.ts';
import { createEvidenceIssuer } from './evidence.ts';
import { hostService } from './host/host-service.ts';
import { type MeasuredDeployment, measureDeployment } from './measure-deployment.ts';
import { checkModel } from './model.ts';
import { EngineUids } from './models/engine-uids.ts';
import { ModelLifecycle } from './models/lifecycle.ts';
import { type Loading, loadModel } from './models/load.ts';
import type { ServedModel } from './models/model-set.ts';
import { ModelRegistry } from './models/registry.ts';
import { makeNonDumpable } from './native/process.ts';
import { type Nsm, nsmClient } from './nsm/client.ts';
import type { Platform } from './platform.ts';
import { ReceiptIssuer } from './receipts.ts';
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

  const { deployment } = measured;
  const loading: Loading = {
    nsm,
    host,
    platform,
    clock,
    deployment,
    uids: new EngineUids(platform.engineUid),
    reached,
  };
  const loaded: ServedModel[] = [];
  for (const model of models) loaded.push(await loadModel(model, loading));

  const server = await serve(loaded, measured, { loading, report });
  await reached('serving');
  return server;
}

/** An enclave starts with no entropy of its own; the hypervisor's is mixed in before any key is made. */
async function seedRandomness(nsm: Nsm): Promise<void> {
  const seed = await nsm.random();
  writeFileSync('/dev/random', seed);
  seed.fill(0);
}

interface Serving {
  /** For models that are loaded later. */
  readonly loading: Loading;
  readonly report: Report;
}

/** TLS ends here, and the first thing that any connection gets is evidence of all the steps before. */
async function serve(
  loaded: readonly ServedModel[],
  measured: MeasuredDeployment,
  { loading, report }: Serving,
): Promise<Server> {
  const { nsm, host, platform, clock } = loading;
  const { deployment } = measured;
  const identity = createTlsIdentity(clock.now(), randomFillSync(new Uint8Array(SERIAL_BYTES)));
  const models = new ModelRegistry(loaded);
  const receipts = new ReceiptIssuer({ nsm, deploymentSha384: measured.digest, now: () => clock.now() });
  const evidence = createEvidenceIssuer({
    nsm,
    spkiSha256: identity.spkiSha256,
    receiptKey: receipts.publicKey,
    deploymentSha384: measured.digest,
    currentModels: () => models.current,
    monotonicMs: () => performance.now(),
    onFailure: () => report.evidenceFailed(),
  });
  const server = await startServer({
    listen: (onConnection) => platform.link.listen(SERVICE_PORT, onConnection),
    identity,
    evidence,
    receipts,
    models,
    limits: deployment.limits,
    door: await openDoor(deployment, { host, clock, report }),
    now: () => clock.now(),
    observe: (event) => report.request(event),
  });
  const lifecycle = new ModelLifecycle({
    pins: deployment.models,
    registry: models,
    check: (pin) => checkModel(pin, host),
    load: (model) => loadModel(model, { ...loading, reached: async () => {} }),
  });
  await platform.link.listen(CONTROL_PORT, serveControl(server, lifecycle));
  clock.watch(() => void server.drain());
  report.start();
  return server;
}
