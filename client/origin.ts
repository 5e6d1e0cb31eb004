import { ClientError } from './errors.ts';

/** The enclave's `https://HOST:PORT`. Throws ClientError `CLIENT_URL`. */
export function parseOrigin(url: string | URL): URL {
  const parsed = URL.parse(String(url));
  const found = JSON.stringify(String(url).slice(0, 200));
  if (parsed === null || parsed.protocol !== 'https:') {
    throw new ClientError('CLIENT_URL', `Expected https://HOST:PORT, found ${found}.`);
  }
  if (parsed.href !== `${parsed.origin}/`) {
    throw new ClientError('CLIENT_URL', `Expected a URL without path, query or credentials, found ${found}.`);
  }
  return parsed;
}
