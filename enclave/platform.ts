import type { Link } from '../link/link.ts';
import type { BootStep } from '../shared/telemetry.ts';

/**
 * What an enclave stands on, and the only thing that differs between a Nitro Enclave and its simulation.
 * `enclave/main.ts` names the production values; the simulator's entry is the only other place that makes one.
 */
export interface Platform {
  /** Sends one encoded request to the Nitro Security Module and resolves to its encoded response. */
  readonly nsm: (request: Uint8Array) => Promise<Uint8Array>;
  /** The transport to the parent instance. */
  readonly link: Link;
  /** PEM roots that TLS to AWS KMS may lead to. */
  readonly kmsRoots: readonly string[];
  /** A tmpfs folder for the opened weights: memory, never a disk. */
  readonly memoryFolder: string;
  /** The uid of the first engine (`EngineUids`); undefined where this process may not change uids. */
  readonly engineUid: number | undefined;
  /** vCPUs of the enclave. Engines leave one of them to TLS. */
  readonly cpuCount: number;
  /** The system clock, which the host can set; it is only ever compared with the NSM's. */
  readonly systemNow: () => Date;
  /** Told after each step of the boot, and waited for. */
  reached(step: BootStep): Promise<void>;
}
