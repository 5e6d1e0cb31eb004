/** What the admin server asks the rest of the parent for; every answer is of this moment. */
export interface AdminSources {
  /** Whether the enclave answers on its control port, and that it is ready. */
  live(): Promise<boolean>;
  state(): AdminState;
  /** `Counters.snapshot()` of parent/observe.ts. */
  counters(): Readonly<Record<string, number>>;
}

export interface AdminState {
  /** The relay takes callers. */
  readonly accepting: boolean;
  readonly draining: boolean;
  readonly enclave: EnclaveState;
  /** How often the enclave was started again since the parent started. */
  readonly restarts: number;
  /** Of the credentials that were handed out last; undefined before the first. */
  readonly credentialsExpireAt: Date | undefined;
  readonly denyListExpiresAt: Date | undefined;
  /** `host:port` of the egress list in force. No other text ever becomes a label. */
  readonly destinations: readonly string[];
}

/** `unmanaged`: somebody else starts the enclave, and only its control port tells whether it runs. */
export const ENCLAVE_STATES = [
  'unmanaged',
  'starting',
  'running',
  'restarting',
  'draining',
  'stopped',
] as const;
export type EnclaveState = (typeof ENCLAVE_STATES)[number];
