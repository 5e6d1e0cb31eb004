import { isIPv4 } from 'node:net';

/** 127.0.0.0/8 and ::1 (RFC 6890), in these spellings only. */
export function isLoopbackAddress(host: string): boolean {
  return host === '::1' || (isIPv4(host) && host.startsWith('127.'));
}

/** The same of a URL, whose host has an IPv6 address in brackets. */
export function isLoopbackUrl({ hostname }: URL): boolean {
  return isLoopbackAddress(hostname.replace(/^\[|\]$/g, ''));
}
