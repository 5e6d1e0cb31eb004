/**
 * What `trail review --json` prints (docs/trail.md section 5), and what text and page are made of. Plain data: times are
 * ISO 8601 in UTC, JSON.parse of the JSON gives the same value back.
 */
import type { Severity, TrailCode } from './codes.ts';
import type { Lane } from './judge.ts';

export const TRAIL_REPORT_SCHEMA = { name: 'strongroom-trail-review', version: 1 } as const;

/**
 * `CLEAN`: nothing to object. `FINDINGS`. `UNREADABLE`: no finding, but not everything could be read. `UNDECIDED`: no
 * finding, but with what was supplied nobody can say that all is well.
 */
export type TrailVerdict = 'CLEAN' | 'FINDINGS' | 'UNREADABLE' | 'UNDECIDED';

export interface TrailReport {
  readonly schema: typeof TRAIL_REPORT_SCHEMA;
  readonly verdict: TrailVerdict;
  /** The worst of all findings; `info` without any. */
  readonly severity: Severity;
  /** One sentence for somebody who reads nothing else. */
  readonly sentence: string;
  /** Keys that were asked for; empty: all. */
  readonly keys: readonly string[];
  /** Keys whose events were reviewed, most used first; the first hundred. */
  readonly keysSeen: readonly { readonly key: string; readonly count: number }[];
  /** From the first to the last event that was reviewed. */
  readonly period: { readonly from: string; readonly to: string } | null;
  readonly counts: TrailCounts;
  /** Worst first, then the most frequent. */
  readonly findings: readonly TrailFinding[];
  /** What was as it should be, most frequent first. */
  readonly uses: readonly TrailUse[];
  readonly timeline: Timeline;
  readonly unreadable: readonly TrailFault[];
  /** What was not given, and what therefore cannot be said. */
  readonly notSupplied: readonly { readonly what: string; readonly consequence: string }[];
  /** What no trail shows. */
  readonly notSeen: readonly string[];
}

export interface TrailCounts {
  readonly files: number;
  readonly records: number;
  /** Of AWS KMS. */
  readonly kms: number;
  /** Of the keys that were asked for. */
  readonly reviewed: number;
  /** KMS answered, to an attestation document. */
  readonly attested: number;
  /** KMS gave plaintext, a shared secret or a data key to a caller without one. */
  readonly unattested: number;
  readonly refused: number;
  /** Changes to the key or to who controls it. */
  readonly control: number;
}

export interface TrailUse {
  /** `Decrypt` */
  readonly action: string;
  readonly principal: string;
  /** A release by name, or `image 2e95b1d9…`; null without a document. */
  readonly image: string | null;
  readonly count: number;
  readonly first: string;
  readonly last: string;
}

export interface TrailFinding extends TrailUse {
  readonly code: TrailCode;
  readonly severity: Severity;
  readonly title: string;
  readonly why: string;
  /** What is particular: which register, which grantee, what KMS said. May be empty. */
  readonly detail: string;
  readonly remedy: string;
  /** The first few records, to look them up. */
  readonly witness: readonly TrailWitness[];
}

export interface TrailWitness {
  readonly eventId: string;
  readonly at: string;
  readonly sourceAddress: string;
  readonly session: string | null;
  readonly moduleId: string | null;
}

export interface Timeline {
  readonly slotMs: number;
  readonly rows: readonly { readonly name: string; readonly lane: Lane; readonly objected: boolean }[];
  /** Start of a slot, and the count of each row in it. Slots without events are left out. */
  readonly slots: readonly { readonly at: string; readonly counts: readonly number[] }[];
}

export interface TrailFault {
  readonly code: string;
  readonly file: string;
  /** Of the first. */
  readonly message: string;
  readonly count: number;
}

/** UTC, to the second. */
export const iso = (ms: number): string => `${new Date(ms).toISOString().slice(0, 19)}Z`;
