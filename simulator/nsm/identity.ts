/** Names of simulated instances and enclaves, in the form of AWS's. */
import { randomBytes } from 'node:crypto';

const MODULE_ID = /^(i-[0-9a-f]{17})-enc[0-9a-f]{16}$/;

/** `i-` and 17 hex digits. */
export function newInstanceId(): string {
  return `i-0${randomBytes(8).toString('hex')}`;
}

/** The instance id, `-enc` and 16 hex digits, of which the first 12 are the start time in milliseconds. */
export function newModuleId(instanceId: string, at: Date): string {
  return `${instanceId}-enc${at.getTime().toString(16).padStart(12, '0')}${randomBytes(2).toString('hex')}`;
}

export function instanceIdOf(moduleId: string): string {
  const instanceId = MODULE_ID.exec(moduleId)?.[1];
  if (instanceId === undefined) {
    throw new TypeError(`A module id is i-<17 hex>-enc<16 hex>, found ${JSON.stringify(moduleId)}.`);
  }
  return instanceId;
}
