/**
 * Holds the newest deny list that the parent has brought (docs/deny-list.md section 3). The parent is hostile: what it
 * brings counts only if the deployment's signer signed it, it holds in enclave time, and it is no older than one seen
 * before. Without such a list no client with a certificate is served.
 */
import type { KeyObject } from 'node:crypto';
import { expectCurrent, type VerifiedDenyList, verifyDenyList } from '../../shared/deny-list/deny-list.ts';
import { codeOf } from '../../shared/errors.ts';

/** How long a denial may take to arrive, at most, from a parent that brings it. */
const REFRESH_MS = 10_000;
const RETRY_MS = 5_000;

export interface DenyListSource {
  readonly fetch: () => Promise<Uint8Array>;
  readonly signer: KeyObject;
  /** Enclave time. */
  readonly now: () => Date;
  /** Told of each list that is new, and of each change in what goes wrong. */
  readonly observe: (event: DenyListEvent) => void;
  /** For tests. */
  readonly refreshMs?: number;
}

export type DenyListEvent =
  | { readonly outcome: 'taken'; readonly sequence: number }
  | { readonly outcome: 'refused'; readonly code: string };

export class DenyListWatch {
  readonly #source: DenyListSource;
  readonly #listeners: (() => void)[] = [];
  /** The one with the highest sequence, also when it is over: nothing older is taken after it. */
  #newest: VerifiedDenyList | undefined;
  /** It, as it was brought: what has not changed is not verified again. */
  #bytes: Buffer | undefined;
  #lastFailure: string | undefined;

  private constructor(source: DenyListSource) {
    this.#source = source;
  }

  /** Resolves after the first attempt, whatever came of it. */
  static async start(source: DenyListSource): Promise<DenyListWatch> {
    const watch = new DenyListWatch(source);
    await watch.#keepFresh();
    return watch;
  }

  /** The list to go by; undefined if there is none that holds. */
  current(at: Date): VerifiedDenyList | undefined {
    try {
      if (this.#newest !== undefined) expectCurrent(this.#newest, at);
      return this.#newest;
    } catch {
      return undefined;
    }
  }

  /** Called after a new list was taken. */
  onChange(listener: () => void): void {
    this.#listeners.push(listener);
  }

  async #keepFresh(): Promise<void> {
    const { refreshMs = REFRESH_MS } = this.#source;
    const fresh = await this.#refresh();
    setTimeout(() => void this.#keepFresh(), fresh ? refreshMs : Math.min(refreshMs, RETRY_MS)).unref();
  }

  async #refresh(): Promise<boolean> {
    const { fetch, signer, now, observe } = this.#source;
    try {
      const bytes = Buffer.from(await fetch());
      const list =
        this.#newest !== undefined && this.#bytes?.equals(bytes)
          ? this.#newest
          : verifyDenyList(bytes, signer);
      expectCurrent(list, now(), this.#newest);
      this.#lastFailure = undefined;
      if (list.sequence === this.#newest?.sequence) return true;
      this.#newest = list;
      this.#bytes = bytes;
      observe({ outcome: 'taken', sequence: list.sequence });
      for (const listener of this.#listeners) listener();
      return true;
    } catch (error) {
      const code = codeOf(error) ?? 'UNEXPECTED';
      if (code !== this.#lastFailure) observe({ outcome: 'refused', code });
      this.#lastFailure = code;
      return false;
    }
  }
}
