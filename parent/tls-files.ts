/** TLS files that change under a running parent: a rotated certificate takes over without a restart. */
import type { X509Certificate } from 'node:crypto';
import { statSync } from 'node:fs';
import { codeOf } from '../shared/errors.ts';
import { type ExpiryStep, expiryOf, isLater } from '../shared/expiry.ts';
import { type LoadedTls, loadTls, type TlsFiles } from './load-tls.ts';
import type { Observe } from './observe.ts';

const LOOK_EVERY_MS = 1_000;
/** A certificate may live for minutes, and its steps are parts of that. */
const LOOK_WHEN_IDLE_EVERY_MS = 60 * 1_000;

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
  const warned = new Map<string, ExpiryStep>();

  function warn(): void {
    const { certificate, authorities } = loaded;
    if (certificate !== undefined) warnOf(name, certificate);
    // Of several CAs the last: nothing works any more when that one ends, and before it the older ones may go.
    const [last] = authorities.toSorted((a, b) => Number(b.validToDate) - Number(a.validToDate));
    if (last !== undefined) warnOf(`${name} ca`, last);
  }

  function warnOf(what: string, { validFromDate, validToDate }: X509Certificate): void {
    const { days, hours, step } = expiryOf({ from: validFromDate, until: validToDate }, now());
    if (step === undefined || !isLater(step, warned.get(what))) return;
    warned.set(what, step);
    const event = step === 'over' ? 'certificate-expired' : 'certificate-expires';
    observe({ event, name: what, days, hours, notAfter: validToDate.toISOString() });
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
