/**
 * Who may come in: asked once for each connection, when its handshake is done, and again for each request, because
 * time goes on and deny lists change (docs/serving.md section 1).
 */
import type { TLSSocket } from 'node:tls';
import type { ClientLimits, ClientRules } from '../../shared/deployment/clients.ts';
import { ApiError } from '../serve/errors.ts';
import type { Admitted, Caller } from './caller.ts';
import type { DenyListWatch } from './deny-list.ts';
import { expired, type IdentifiedClient, identify } from './identify.ts';
import { ClientQuota, ClientQuotas } from './quota.ts';

export interface Door {
  /** The certificates that those of clients must lead to, PEM; undefined: clients are asked for none. */
  readonly clientCa: readonly string[] | undefined;
  /** Undefined, or what to refuse the connection with before a byte of it is read. */
  enter(socket: TLSSocket): ApiError | undefined;
  /** For a request on a connection that has entered, before its body is read. Throws ApiError. */
  admit(socket: TLSSocket, what: 'evidence' | 'request'): Admitted;
  /** Whether the connection takes no further request. */
  isOver(socket: TLSSocket): boolean;
}

/** Every connection is a client of its own. */
export function doorForAnyone(limits: ClientLimits = {}, monotonicMs = () => performance.now()): Door {
  const visits = new WeakMap<TLSSocket, { readonly caller: Caller; readonly quota: ClientQuota }>();
  let connections = 0;
  return {
    clientCa: undefined,
    enter: (socket) => {
      connections += 1;
      const caller = { key: `connection-${connections}`, identity: undefined };
      visits.set(socket, { caller, quota: new ClientQuota(limits, monotonicMs) });
      return undefined;
    },
    admit: (socket, what) => {
      const { caller, quota } = entered(visits.get(socket));
      // Evidence has a limit for each connection already.
      if (what === 'evidence') return { caller, leave: () => {} };
      quota.takeRequest();
      return { caller, leave: () => quota.giveRequest() };
    },
    isOver: () => false,
  };
}

export interface ClientDoorOptions {
  readonly rules: ClientRules;
  /** Undefined if the deployment has none. */
  readonly denyList: Pick<DenyListWatch, 'current' | 'onChange'> | undefined;
  /** Enclave time. */
  readonly now: () => Date;
  readonly monotonicMs: () => number;
  /** For tests. */
  readonly sweepIntervalMs?: number;
}

/** How often idle connections are looked at whose certificates may have expired. */
const SWEEP_INTERVAL_MS = 5_000;

interface Visit {
  readonly client: IdentifiedClient;
  readonly caller: Caller;
  readonly quota: ClientQuota;
  /** Requests that are not over. */
  open: number;
}

/** Clients with certificates. */
export class ClientDoor implements Door {
  readonly clientCa: readonly string[];
  readonly #options: ClientDoorOptions;
  readonly #quotas: ClientQuotas;
  readonly #visits = new Map<TLSSocket, Visit>();

  constructor(options: ClientDoorOptions) {
    this.clientCa = options.rules.ca;
    this.#options = options;
    this.#quotas = new ClientQuotas(options.monotonicMs);
    options.denyList?.onChange(() => this.#cutDenied());
    setInterval(() => this.#sweep(), options.sweepIntervalMs ?? SWEEP_INTERVAL_MS).unref();
  }

  enter(socket: TLSSocket): ApiError | undefined {
    try {
      const client = identify(socket, this.#options.rules, this.#options.now());
      this.#expectNotDenied(client);
      const quota = this.#quotas.of(client.name, client.allowed.limits);
      quota.takeConnection();
      this.#visits.set(socket, {
        client,
        caller: { key: client.name, identity: client.name },
        quota,
        open: 0,
      });
      socket.once('close', () => {
        this.#visits.delete(socket);
        quota.giveConnection();
      });
      return undefined;
    } catch (error) {
      // What is not ours is no reason to let anybody in.
      if (error instanceof ApiError) return error;
      return new ApiError('API_INTERNAL', 'something failed inside the enclave');
    }
  }

  admit(socket: TLSSocket, what: 'evidence' | 'request'): Admitted {
    const visit = entered(this.#visits.get(socket));
    if (this.#isExpired(visit)) throw expired();
    this.#expectNotDenied(visit.client);
    if (what === 'evidence') visit.quota.takeEvidence();
    else visit.quota.takeRequest();
    visit.open += 1;
    return {
      caller: visit.caller,
      leave: () => {
        if (what === 'request') visit.quota.giveRequest();
        visit.open -= 1;
        this.#endIfExpired(socket, visit);
      },
    };
  }

  isOver(socket: TLSSocket): boolean {
    const visit = this.#visits.get(socket);
    return visit === undefined || this.#isExpired(visit);
  }

  #expectNotDenied({ certificate }: IdentifiedClient): void {
    const { denyList, now } = this.#options;
    if (denyList === undefined) return;
    const list = denyList.current(now());
    if (list === undefined) {
      throw new ApiError('CALLERS_SUSPENDED', 'this enclave has no deny list that is valid now', {
        retryAfterSeconds: 10,
      });
    }
    if (list.denies(certificate)) {
      throw new ApiError('CALLER_DENIED', 'this client, or its certificate, is on the deny list');
    }
  }

  /** At once, also in the middle of an answer. A list that has expired cuts nobody: it refuses the next request. */
  #cutDenied(): void {
    for (const [socket, { client }] of this.#visits) {
      const list = this.#options.denyList?.current(this.#options.now());
      if (list?.denies(client.certificate)) socket.destroy();
    }
  }

  #sweep(): void {
    for (const [socket, visit] of this.#visits) this.#endIfExpired(socket, visit);
  }

  /** A connection outlives its certificate by the requests that are at work, and no longer. */
  #endIfExpired(socket: TLSSocket, visit: Visit): void {
    if (visit.open === 0 && this.#isExpired(visit)) socket.end();
  }

  #isExpired({ client }: Visit): boolean {
    return this.#options.now() > client.validUntil;
  }
}

function entered<T>(visit: T | undefined): T {
  if (visit === undefined) throw new ApiError('API_INTERNAL', 'something failed inside the enclave');
  return visit;
}
