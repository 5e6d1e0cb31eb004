/** TLS files that change under a running parent: a rotated certificate takes over without a restart. */
import { statSync } from 'node:fs';
import { codeOf } from '../shared/errors.ts';
import { expiryOf } from '../shared/x509/expiry.ts';
import { type LoadedTls, loadTls, type TlsFiles } from './load-tls.ts';
import type { Observe } from './observe.ts';

const LOOK_EVERY_MS = 1_000;
const LOOK_WHEN_IDLE_EVERY_MS = 60 * 60 * 1_000;

export interface WatchedTls {
  /** What the files held when they last made sense. The same object for as long as they do not change. */
  current(): LoadedTls;
  close(): void;
}

export interface WatchTlsOptions {
  /** What the log calls the owner of the certificate. */
  readonly name: string;
  readonly observe: Observe;
  readonly now: () => number;
}

/**
 * Loads the files; throws ParentError PARENT_TLS_FILES_UNUSABLE if they cannot be used now. Later, files that
 * cannot be used (a new certificate whose key is not there yet) are logged once and the last good ones stay.
 */
export function watchTls(files: TlsFiles, { name, observe, now }: WatchTlsOptions): WatchedTls {
  let mark = markOf(files);
  let loaded = loadTls(files);
  let lookedAt = now();
  /** What was last said of each of the names, so that it is said once. */
  const warned = new Map<string, number>();

  function warn(): void {
    const { certificate, authorities } = loaded;
    if (certificate !== undefined) warnOf(name, certificate.validToDate);
    // Of several CAs the last: nothing works any more when that one ends, and before it the older ones may go.
    const last = authorities
      .map(({ validToDate }) => validToDate)
      .toSorted((a, b) => Number(b) - Number(a))[0];
    if (last !== undefined) warnOf(`${name} ca`, last);
  }

  function warnOf(what: string, notAfter: Date): void {
    const { days, due } = expiryOf(notAfter, now());
    if (due === undefined || due >= (warned.get(what) ?? Number.POSITIVE_INFINITY)) return;
    warned.set(what, due);
    const event = due === 0 ? 'certificate-expired' : 'certificate-expires';
    observe({ event, name: what, days, notAfter: notAfter.toISOString() });
  }

  function look(): void {
    lookedAt = now();
    const found = markOf(files);
    if (found !== mark) {
      // Remembered before the files are read: whatever changes meanwhile is seen at the next look.
      mark = found;
      try {
        loaded = loadTls(files);
        warned.clear();
        observe({ event: 'tls-files-reloaded', name });
      } catch (error) {
        observe({ event: 'tls-files-refused', name, error: codeOf(error) ?? 'unknown' });
      }
    }
    warn();
  }

  warn();
  const timer = setInterval(look, LOOK_WHEN_IDLE_EVERY_MS).unref();
  return {
    current: () => {
      if (now() - lookedAt >= LOOK_EVERY_MS) look();
      return loaded;
    },
    close: () => clearInterval(timer),
  };
}

/** Changes when any of the files is replaced or written. */
function markOf({ ca, certificate, key }: TlsFiles): string {
  return [ca, certificate, key].map(markOfFile).join();
}

function markOfFile(path: string | undefined): string {
  if (path === undefined) return '';
  try {
    const found = statSync(path, { bigint: true });
    return [found.dev, found.ino, found.size, found.mtimeNs].join(':');
  } catch {
    // Gone, or in a folder that was closed to this user; reading it says which.
    return '';
  }
}
