/**
 * The parent: the process on the EC2 host that the enclave cannot do without and does not trust. It serves the
 * enclave what it asks for, relays callers to it, and sees neither keys, weights nor prompts.
 */
import type { AddressInfo } from 'node:net';
import { isDeepStrictEqual } from 'node:util';
import type { Link } from '../link/link.ts';
import { SERVICE_PORT } from '../link/ports.ts';
import type { ParentConfig } from './config/config.ts';
import { type EnclaveHealth, enclaveControl } from './control.ts';
import { credentialsFromFile } from './credentials/file.ts';
import { credentialsFromInstanceRole } from './credentials/instance-role.ts';
import type { CredentialsProvider } from './credentials/provider.ts';
import { watchDenyList } from './deny-list.ts';
import { allowList } from './egress/allow-list.ts';
import { type Resolve, resolveBySystem } from './egress/dial.ts';
import { EGRESS_LIMITS, egress } from './egress/tunnel.ts';
import { ParentError } from './errors.ts';
import { HOST_SERVICE_LIMITS, startHostService } from './host-service.ts';
import { openModelStore } from './models/open-store.ts';
import type { ModelStore } from './models/store.ts';
import { Counters, type Observe } from './observe.ts';
import { startRelay } from './relay.ts';

export interface Parent {
  /** Where callers connect. */
  readonly address: AddressInfo;
  /** Rules what comes next; open connections live on. Throws PARENT_RELOAD_REFUSED for what only a restart changes. */
  reload(config: ParentConfig): void;
  counters(): Readonly<Record<string, number>>;
  /** What the enclave answers on its control port. */
  health(): Promise<EnclaveHealth>;
  /** True if it answers at all. */
  live(): Promise<boolean>;
  /** True if the enclave's port for callers takes a connection. */
  serves(): Promise<boolean>;
  state(): ParentState;
  /**
   * Takes no more callers, lets the open ones finish until the deadline or until `cut`, and ends. True if nobody was
   * cut off.
   */
  drain(timeoutMs: number, cut?: AbortSignal): Promise<boolean>;
  /** Ends at once, and says nothing to the enclave. */
  close(): Promise<void>;
}

export interface ParentState {
  readonly draining: boolean;
  /** Of the credentials that were handed out last. */
  readonly credentialsExpireAt: Date | undefined;
  /** Of the deny list; undefined without one that can be read. */
  readonly denyListExpiresAt: Date | undefined;
  /** `host:port` of the egress list in force. */
  readonly destinations: readonly string[];
}

const SERVES_TIMEOUT_MS = 2_000;

export async function startParent(
  config: ParentConfig,
  link: Link,
  options: { readonly observe?: Observe; readonly resolve?: Resolve } = {},
): Promise<Parent> {
  const counters = new Counters();
  const observe = options.observe ?? (() => {});
  let current = inForce(config, observe);
  let draining = false;

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
  const close = async (): Promise<void> => {
    await relay.drain(0);
    control.close();
    wayOut.abort();
    await hostService.close();
    current.close();
  };

  return {
    address: relay.address,
    reload: (next) => {
      refuseUnreloadable(config, next);
      const before = current;
      current = inForce(next, observe);
      before.close();
      observe({ event: 'reloaded', destinations: next.egress.length });
    },
    counters: () => counters.snapshot(),
    health: () => control.health(),
    live: () => control.live(),
    serves: () =>
      link.dial(SERVICE_PORT, { timeoutMs: SERVES_TIMEOUT_MS }).then(
        (connection) => {
          connection.destroy();
          return true;
        },
        () => false,
      ),
    state: () => ({
      draining,
      credentialsExpireAt: current.handedOut(),
      denyListExpiresAt: current.denyListExpiresAt(),
      destinations: current.destinations,
    }),
    drain: async (timeoutMs, cut) => {
      draining = true;
      relay.stopAccepting();
      const cutNow = new Promise<void>((resolve) => {
        const cutAll = (): void => resolve(void relay.drain(0));
        if (cut?.aborted === true) cutAll();
        cut?.addEventListener('abort', cutAll, { once: true });
      });
      // An enclave that is gone already has nothing to drain, and one that is slow to answer holds up nobody.
      const told = control.drain().catch(() => {});
      const inTime = await relay.drain(timeoutMs);
      await Promise.race([told, cutNow]);
      const graceful = inTime && cut?.aborted !== true;
      await close();
      return graceful;
    },
    close,
  };
}

/** The part of the configuration that a reload replaces, as one value, so that no request sees half of it. */
function inForce(config: ParentConfig, observe: Observe) {
  const credentials = remembered(credentialsProvider(config));
  const models = storeOf(config, credentials.provider, observe);
  const denyList =
    config.denyListPath === undefined
      ? undefined
      : watchDenyList(config.denyListPath, { observe, now: Date.now });
  return {
    allowed: allowList(config.egress),
    destinations: config.egress.map(({ host, port }) => `${host}:${port}`),
    handedOut: credentials.expiration,
    denyListExpiresAt: () => denyList?.expiresAt(),
    sources: {
      deploymentPath: config.deploymentPath,
      denyListPath: config.denyListPath,
      models,
      credentials: credentials.provider,
    },
    close: () => {
      models.close();
      denyList?.close();
    },
  };
}

/** The models of a configuration, for who looks at them without a running parent. Close it in the end. */
export function modelsOf(config: ParentConfig): ModelStore {
  return storeOf(config, credentialsProvider(config), () => {});
}

function storeOf(config: ParentConfig, credentials: CredentialsProvider, observe: Observe): ModelStore {
  return openModelStore(config.models, { credentials, observe, now: Date.now });
}

function credentialsProvider({ credentials }: ParentConfig): CredentialsProvider {
  return credentials.kind === 'file' ? credentialsFromFile(credentials.path) : credentialsFromInstanceRole();
}

/** Says when the credentials expire that were given last. */
function remembered(provider: CredentialsProvider) {
  let last: Date | undefined;
  return {
    expiration: () => last,
    provider: {
      provide: async () => {
        const credentials = await provider.provide();
        last = credentials.expiration;
        return credentials;
      },
    },
  };
}

function refuseUnreloadable(running: ParentConfig, next: ParentConfig): void {
  for (const part of ['link', 'ingress', 'enclave', 'admin'] as const) {
    if (!isDeepStrictEqual(running[part], next[part])) {
      throw new ParentError(
        'PARENT_RELOAD_REFUSED',
        `The member ${part} differs from the one this parent runs with.`,
      );
    }
  }
}
