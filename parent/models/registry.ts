/**
 * Sealed models on any static web server: `https://HOST/BASE/NAME.sealed/FILE` by HEAD and by GET with one Range
 * (RFC 9110 14). TLS 1.3 only, with a client certificate if one is configured. Redirects are refused: what the
 * operator named is what is asked.
 */
import type { IncomingMessage } from 'node:http';
import { Agent, request } from 'node:https';
import type { RegistryModelsConfig } from '../config/models.ts';
import type { LoadedTls } from '../load-tls.ts';
import type { WatchedTls } from '../tls-files.ts';
import { AGENT_OPTIONS, closeIdle } from './connections.ts';
import { changed, failureOfStatus, malformed } from './failure.ts';
import type { Remote, Version } from './remote.ts';

const HEADERS_MAX_BYTES = 8 * 1024;
const STRONG_ETAG = /^"[\x21\x23-\x7e]{0,256}"$/;

export function registryRemote({ url }: Pick<RegistryModelsConfig, 'url'>, tls: WatchedTls): Remote {
  let agent = agentOf(tls.current());
  let from = tls.current();

  /** Connections made with older files are not used again; what is being read over them finishes. */
  function currentAgent(): Agent {
    const now = tls.current();
    if (now !== from) {
      closeIdle(agent);
      agent = agentOf(now);
      from = now;
    }
    return agent;
  }

  function ask(
    method: 'HEAD' | 'GET',
    path: string,
    headers: Readonly<Record<string, string>>,
    signal: AbortSignal,
  ): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
      const outgoing = request(`${url}/${path}`, {
        method,
        // A compressed file has neither the length nor the ranges of the file.
        headers: { 'accept-encoding': 'identity', 'user-agent': 'strongroom', ...headers },
        agent: currentAgent(),
        maxHeaderSize: HEADERS_MAX_BYTES,
        insecureHTTPParser: false,
        signal,
      });
      outgoing.on('error', reject);
      outgoing.on('response', resolve);
      // After a change of protocol (101) Node ends the request without any other word.
      outgoing.on('close', () => reject(malformed('malformed', 'The server gave no answer of HTTP/1.1.')));
      outgoing.end();
    });
  }

  return {
    look: async (path, signal) => {
      const answer = await ask('HEAD', path, {}, signal);
      answer.resume();
      if (answer.statusCode === 404 || answer.statusCode === 410) return undefined;
      return within(answer, () => {
        if (answer.statusCode !== 200) throw failureOfStatus(answer.statusCode ?? 0);
        if (answer.headers['accept-ranges'] === 'none') throw rangeIgnored();
        return versionOf(answer, lengthOf(answer));
      });
    },
    fetch: async (path, version, { first, last }, signal) => {
      const headers = {
        range: `bytes=${first}-${last}`,
        ...(version.etag !== undefined && STRONG_ETAG.test(version.etag) && { 'if-match': version.etag }),
      };
      const answer = await ask('GET', path, headers, signal);
      return within(answer, () => {
        if (answer.statusCode === 200) throw rangeIgnored();
        if (answer.statusCode === 404 || answer.statusCode === 410) throw changed();
        if (answer.statusCode !== 206) throw failureOfStatus(answer.statusCode ?? 0);
        const found = versionOf(answer, version.sizeBytes);
        if (found.etag !== version.etag || found.lastModified !== version.lastModified) throw changed();
        const expected = `bytes ${first}-${last}/`;
        const range = answer.headers['content-range'] ?? '';
        if (!range.startsWith(expected) || lengthOf(answer) !== last - first + 1) {
          throw malformed('wrong-range', `Expected Content-Range ${expected}.`);
        }
        if (range !== `${expected}${version.sizeBytes}`) throw changed();
        return answer;
      });
    },
    close: () => {
      tls.close();
      closeIdle(agent);
    },
  };
}

function agentOf({ context: secureContext }: LoadedTls): Agent {
  return new Agent({ ...AGENT_OPTIONS, secureContext });
}

/** An answer that is not taken is cut: nothing says how long its body is. */
function within<T>(answer: IncomingMessage, check: () => T): T {
  try {
    return check();
  } catch (error) {
    answer.on('error', () => {});
    answer.destroy();
    throw error;
  }
}

function versionOf({ headers }: IncomingMessage, sizeBytes: number): Version {
  return { sizeBytes, etag: headers.etag, lastModified: headers['last-modified'] };
}

function lengthOf({ headers }: IncomingMessage): number {
  if (headers['content-encoding'] !== undefined || headers['transfer-encoding'] !== undefined) {
    throw malformed('encoded', 'Expected a body as it is, found an encoded one.');
  }
  const length = headers['content-length'] ?? '';
  if (!/^(0|[1-9][0-9]{0,14})$/.test(length)) throw malformed('no-length', 'Expected one Content-Length.');
  return Number(length);
}

function rangeIgnored() {
  return malformed('range-ignored', 'The server answers a range with the whole file.');
}
