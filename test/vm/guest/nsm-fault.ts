/** What the checks and the process that is /dev/nsm say to each other. */
import type { NsmErrorName } from '../../../shared/nsm/response.ts';

export interface DeviceOptions {
  readonly region: string;
  readonly instanceId: string;
  /** Registers by index, hexadecimal. */
  readonly pcrs: { readonly 0: string; readonly 1: string; readonly 2: string; readonly 3: string };
}

export interface DeviceReady {
  readonly rootPem: string;
  readonly moduleId: string;
}

/** What a check can ask the device to do instead of asking the NSM: the request is FAULT and this as JSON. */
export interface Fault {
  readonly errno?: number;
  readonly error?: NsmErrorName;
  readonly reportedLength?: number;
  readonly delayMs?: number;
  /** Answers with the counts so far. */
  readonly counts?: boolean;
  /** Answers with the kinds of requests that the NSM was asked so far, in order. */
  readonly kinds?: boolean;
}
export const FAULT = 'strongroom-vm-fault:';
