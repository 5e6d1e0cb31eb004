import { isIP } from 'node:net';

/** One destination that the enclave may reach. */
export interface Destination {
  /** A lower-case DNS name, never an address. */
  readonly host: string;
  readonly port: number;
  /** Connections that may be open to it at once. */
  readonly maxConnections: number;
  /** Dials this address and port in place of what DNS says (simulation, fixed endpoints). */
  readonly override?: { readonly address: string; readonly port: number };
}

export type AllowList = ReadonlyMap<string, Destination>;

/**
 * Lower-case letters, digits and hyphens in labels; the last one begins with a letter, so that no spelling of
 * an IP address (127.1, 2130706433, 0x7f000001, [::1]) is a name (WHATWG URL, "ends in a number checker").
 */
const DNS_NAME = /^(?=.{1,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z]([a-z0-9-]{0,61}[a-z0-9])?$/;

export function isDnsName(host: string): boolean {
  return DNS_NAME.test(host) && isIP(host) === 0;
}

/** The key of a destination: `host:port`. An empty list allows nothing. */
export function allowList(destinations: readonly Destination[]): AllowList {
  return new Map(destinations.map((destination) => [`${destination.host}:${destination.port}`, destination]));
}

const AUTHORITY = /^([^:]{1,253}):([1-9][0-9]{0,4})$/;

/** Reads a CONNECT target (RFC 9112 3.2.3, authority-form); undefined for anything but a DNS name and a port. */
export function parseAuthority(target: string): { readonly host: string; readonly port: number } | undefined {
  const parts = AUTHORITY.exec(target);
  if (parts === null) return undefined;
  const host = String(parts[1]).toLowerCase();
  const port = Number(parts[2]);
  return isDnsName(host) && port <= 65535 ? { host, port } : undefined;
}
