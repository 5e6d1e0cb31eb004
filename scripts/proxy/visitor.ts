/**
 * Who may use the proxy. It listens on a loopback address, which every program of this machine reaches, and browsers are
 * programs that act for strangers: a page may send requests here across sites, or under a name of its own that it lets
 * resolve to 127.0.0.1 (DNS rebinding). Programs say none of what browsers say of such requests.
 */
import type { IncomingHttpHeaders } from 'node:http';
import { ProxyError } from './errors.ts';

/** Throws ProxyError `PROXY_HOST` unless the request names the proxy (RFC 9110 7.2) as a local program does. */
export function expectOwnHost({ host }: IncomingHttpHeaders, port: number): void {
  if (host !== undefined && ownHosts(port).includes(host.toLowerCase())) return;
  throw new ProxyError('PROXY_HOST', `Expected the host 127.0.0.1:${port}, found ${shown(host)}.`);
}

/** Throws ProxyError `PROXY_CROSS_SITE` for what a browser sends for a page of another site (Fetch, Fetch Metadata). */
export function expectNoOtherSite(headers: IncomingHttpHeaders, port: number): void {
  const { origin } = headers;
  const site = headers['sec-fetch-site'];
  const ownOrigins = ownHosts(port).map((host) => `http://${host}`);
  if (origin !== undefined && !ownOrigins.includes(origin.toLowerCase())) {
    throw new ProxyError(
      'PROXY_CROSS_SITE',
      `Expected a request of a program, found one of ${shown(origin)}.`,
    );
  }
  if (site !== undefined && site !== 'same-origin' && site !== 'none') {
    throw new ProxyError('PROXY_CROSS_SITE', 'Expected a request of a program, found one of a web page.');
  }
}

function ownHosts(port: number): readonly string[] {
  const names = ['127.0.0.1', 'localhost', '[::1]'];
  return [...names.map((name) => `${name}:${port}`), ...(port === 80 ? names : [])];
}

function shown(text: string | undefined): string {
  return text === undefined ? 'none' : JSON.stringify(text.slice(0, 100));
}
