/**
 * The parent: the process on the EC2 host that the enclave cannot do without and does not trust. It serves the
 * enclave what it asks for, relays callers to it, and sees neither keys, weights nor prompts.
 */
import type { AddressInfo } from 'node:net';
import { isDeepStrictEqual } from 'node:util';
import type { Link } from '../link/link.ts';
import type { ParentConfig } from './config/config.ts';
import { enclaveControl } from './control.ts';
import { credentialsFromFile } from './credentials/file.ts';
import { credentialsFromInstanceRole } from './credentials/instance-role.ts';
import type { CredentialsProvider } from './credentials/provider.ts';
import { allowList } from './egress/allow-list.ts';
import { type Resolve, resolveBySystem } from './egress/dial.ts';
import { EGRESS_LIMITS, egress } from './egress/tunnel.ts';
import { ParentError } from './errors.ts';
import { HOST_SERVICE_LIMITS, startHostService } from './host-service.ts';
import { openModelStore } from './models/open-store.ts';
import { Counters, type Observe } from './observe.ts';
import { startRelay } from './relay.ts';

export interface Parent {
  /** Where callers connect. */
  readonly address: AddressInfo;
  /** Rules what comes next; open connections live on. Throws PARENT_RELOAD_REFUSED when link or ingress differ. */
  reload(config: ParentConfig): void;
  counters(): Readonly<Record<string, number>>;
  /** True if the enclave answers on its control port. */
  live(): Promise<boolean>;
  /** Takes no more callers, lets the open ones finish until the deadline, and ends. True if nobody was cut off. */
  drain(timeoutMs: number): Promise<boolean>;
}

export async function startParent(
  config: ParentConfig,
  link: Link,
  options: { readonly observe?: Observe; readonly resolve?: Resolve } = {},
): Promise<Parent> {
  const counters = new Counters();
  const observe = options.observe ?? (() => {});
  let current = inForce(config, observe);

  const wayOut = egress({
    allowed: () => current.allowed,
    resolve: options.resolve ?? resolveBySystem,
    limits: EGRESS_LIMITS,
    counters,
    observe,
  });
  const hostService = await startHostService(link, {
    sources: () => current.sources,
    egress: wayOut,
    limits: HOST_SERVICE_LIMITS,
    counters,
    observe,
  });
  const relay = await startRelay(config.ingress, link, { counters, observe }).catch(async (error) => {
    await hostService.close();
    throw error;
  });
  const control = enclaveControl(link);

  return {
    address: relay.address,
    reload: (next) => {
      refuseUnreloadable(config, next);
      const before = current;
      current = inForce(next, observe);
      before.sources.models.close();
      observe({ event: 'reloaded', destinations: next.egress.length });
    },
    counters: () => counters.snapshot(),
    live: () => control.live(),
    drain: async (timeoutMs) => {
      relay.stopAccepting();
      // An enclave that is gone already has nothing to drain.
      await control.drain().catch(() => {});
      const graceful = await relay.drain(timeoutMs);
      control.close();
      wayOut.abort();
      await hostService.close();
      current.sources.models.close();
      return graceful;
    },
  };
}

/** The part of the configuration that a reload replaces, as one value, so that no request sees half of it. */
function inForce(config: ParentConfig, observe: Observe) {
  const credentials = credentialsProvider(config);
  return {
    allowed: allowList(config.egress),
    sources: {
      deploymentPath: config.deploymentPath,
      models: openModelStore(config.models, { credentials, observe, now: Date.now }),
      credentials,
    },
  };
}

function credentialsProvider({ credentials }: ParentConfig): CredentialsProvider {
  return credentials.kind === 'file' ? credentialsFromFile(credentials.path) : credentialsFromInstanceRole();
}

function refuseUnreloadable(running: ParentConfig, next: ParentConfig): void {
  for (const part of ['link', 'ingress'] as const) {
    if (!isDeepStrictEqual(running[part], next[part])) {
      throw new ParentError(
        'PARENT_RELOAD_REFUSED',
        `The member ${part} differs from the one this parent runs with.`,
      );
    }
  }
}
