/**
 * The parent as a service of its host: relay and host service, and around them what the configuration asks for,
 * an enclave that is kept running, and health and metrics.
 */
import type { AddressInfo } from 'node:net';
import type { Link, Listener } from '../link/link.ts';
import { type RunningAdmin, startAdmin } from './admin/server.ts';
import type { ParentConfig } from './config/config.ts';
import type { EnclaveConfig, NitroCliConfig } from './config/enclave.ts';
import { externalLauncher } from './external-launcher.ts';
import { checkEnclave } from './nitro/check.ts';
import { NitroError } from './nitro/errors.ts';
import { answerHeartbeats } from './nitro/heartbeat.ts';
import { nitroLauncher } from './nitro/launcher.ts';
import { nitroCli } from './nitro/nitro-cli.ts';
import type { Observe } from './observe.ts';
import { modelsOf, type Parent, startParent } from './parent.ts';
import { SUPERVISE_TIMINGS, type Supervisor, supervise, systemClock } from './supervise.ts';

export interface Service {
  /** Where callers connect. */
  readonly address: AddressInfo;
  /** Where health and metrics are, if the configuration has them. */
  readonly adminAddress: AddressInfo | undefined;
  /** See Parent.reload. */
  reload(config: ParentConfig): void;
  counters(): Readonly<Record<string, number>>;
  /** See Parent.drain; then ends the enclave. Throws NitroError when it cannot be ended. */
  drain(timeoutMs: number, cut: AbortSignal): Promise<boolean>;
}

/**
 * Resolves once the parent listens; the enclave is started from then on. Throws ParentError, LinkError, and
 * NitroError or DeploymentError for an enclave that could never run as it is configured.
 */
export async function startService(config: ParentConfig, link: Link, observe: Observe): Promise<Service> {
  const { enclave } = config;
  if (enclave?.kind === 'nitro-cli') await refuseWrongSize(config, enclave, observe);
  const parent = await startParent(config, link, { observe });
  let heartbeats: Listener | undefined;
  let admin: RunningAdmin | undefined;
  let supervisor: Supervisor | undefined;
  try {
    if (enclave?.kind === 'external') {
      heartbeats = await answerHeartbeats(link, (outcome) => observe({ event: 'heartbeat', outcome }));
    }
    if (config.admin !== undefined) {
      admin = await startAdmin(config.admin, {
        live: async () => (await parent.health()) === 'ready',
        counters: () => parent.counters(),
        state: () => {
          const { draining, ...known } = parent.state();
          return {
            ...known,
            draining,
            accepting: !draining,
            enclave: supervisor?.state() ?? 'unmanaged',
            restarts: supervisor?.restarts() ?? 0,
          };
        },
      });
    }
  } catch (error) {
    await heartbeats?.close();
    await parent.close();
    throw error;
  }
  if (enclave !== undefined) supervisor = superviseEnclave(enclave, config, { parent, observe });

  return {
    address: parent.address,
    adminAddress: admin?.address,
    reload: (next) => parent.reload(next),
    counters: () => parent.counters(),
    drain: async (timeoutMs, cut) => {
      // First, so that an enclave that ends because it has drained is not started again.
      supervisor?.drain();
      const graceful = await parent.drain(timeoutMs, cut);
      try {
        await supervisor?.stop();
      } finally {
        await heartbeats?.close();
        await admin?.close();
      }
      return graceful;
    },
  };
}

async function refuseWrongSize(
  config: ParentConfig,
  enclave: NitroCliConfig,
  observe: Observe,
): Promise<void> {
  const store = modelsOf(config);
  try {
    const { findings, fits } = await checkEnclave(config, enclave, { store });
    for (const { severity, text } of findings) {
      if (severity === 'warning') observe({ event: 'enclave-sizing', message: text });
    }
    if (fits) return;
    const errors = findings.filter(({ severity }) => severity === 'error').map(({ text }) => text);
    throw new NitroError('NITRO_SIZE_REFUSED', errors.join(' '));
  } finally {
    store.close();
  }
}

function superviseEnclave(
  enclave: EnclaveConfig,
  { link }: ParentConfig,
  { parent, observe }: { readonly parent: Parent; readonly observe: Observe },
): Supervisor {
  const cid = link.kind === 'vsock' ? link.enclaveCid : undefined;
  const managed = enclave.kind === 'nitro-cli';
  return supervise({
    launcher: managed
      ? nitroLauncher(enclave, { cli: nitroCli(enclave.program), cid, observe })
      : externalLauncher(),
    health: () => parent.health(),
    serves: () => parent.serves(),
    clock: systemClock,
    random: Math.random,
    observe,
    timings: {
      ...SUPERVISE_TIMINGS,
      // Whoever starts an external enclave may take any time for it.
      bootTimeoutMs: managed ? enclave.bootTimeoutMs : Number.POSITIVE_INFINITY,
    },
  });
}
