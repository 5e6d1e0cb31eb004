/**
 * Watches the end of the deny list that the parent hands on (docs/deny-list.md section 2): an enclave that needs one
 * serves nobody once it is over, and whoever should have signed the next one has to hear of it before. Whether the list is
 * genuine is for the enclave to say; here only its form is read.
 */
import { DENY_LIST_MAX_BYTES, openDenyList, parseDenyList } from '../shared/deny-list/deny-list.ts';
import { DenyListError } from '../shared/deny-list/errors.ts';
import { type ExpiryStep, expiryOf, isLater } from '../shared/expiry.ts';
import { readBounded } from './files.ts';
import type { Observe } from './observe.ts';

const LOOK_EVERY_MS = 60 * 1_000;

export interface WatchedDenyList {
  /** When the list ends that was there at the last look; undefined if it could not be read. */
  expiresAt(): Date | undefined;
  /** Looks now; a timer does it once a minute. Never rejects. */
  look(): Promise<void>;
  close(): void;
}

export function watchDenyList(
  path: string,
  { observe, now }: { readonly observe: Observe; readonly now: () => number },
): WatchedDenyList {
  let closed = false;
  let expiresAt: Date | undefined;
  /** What was last said of which list, and which fault was told, so that each is said once. */
  let said: { readonly sequence: number; readonly step: ExpiryStep } | undefined;
  let fault: string | undefined;

  async function lookOnce(): Promise<void> {
    try {
      const { sequence, issuedAt: from, expiresAt: until } = await read(path);
      if (closed) return;
      [expiresAt, fault] = [until, undefined];
      const { hours, step } = expiryOf({ from, until }, now());
      const before = said?.sequence === sequence ? said.step : undefined;
      if (step === undefined || !isLater(step, before)) return;
      said = { sequence, step };
      const event = step === 'over' ? 'deny-list-expired' : 'deny-list-expires';
      observe({ event, sequence, hours, expiresAt: until.toISOString() });
    } catch (error) {
      if (closed) return;
      expiresAt = undefined;
      const code = error instanceof Error && 'code' in error ? String(error.code) : 'unknown';
      if (code !== fault) observe({ event: 'deny-list-unreadable', error: code });
      fault = code;
    }
  }

  /** One after the other: a slow look must not tell of a list that a later one has seen replaced. */
  let looking = Promise.resolve();
  const look = (): Promise<void> => {
    looking = looking.then(lookOnce);
    return looking;
  };

  void look();
  const timer = setInterval(() => void look(), LOOK_EVERY_MS).unref();
  return {
    expiresAt: () => expiresAt,
    look,
    close: () => {
      closed = true;
      clearInterval(timer);
    },
  };
}

async function read(path: string): Promise<ReturnType<typeof parseDenyList>> {
  const bytes = await readBounded(path, DENY_LIST_MAX_BYTES);
  if (bytes === undefined) {
    throw new DenyListError(
      'DENY_LIST_MALFORMED',
      `Expected a file of at most ${DENY_LIST_MAX_BYTES} bytes.`,
    );
  }
  return parseDenyList(openDenyList(bytes).payload);
}
