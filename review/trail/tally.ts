/**
 * Counts events one by one: groups of like events, in memory that the number of kinds bounds. Tallies of several files
 * are added up, in the order of the files, to what one tally of all of them would be.
 */
import type { Severity, TrailCode } from './codes.ts';
import type { TrailError } from './errors.ts';
import type { TrailEvent } from './event.ts';
import { Histogram, type HistogramData } from './histogram.ts';
import { isSameKey, type Judgement, judge, keyIdOf, type Lane, type TrailExpectations } from './judge.ts';
import { rank } from './rank.ts';
import { iso, type TrailCounts, type TrailFault, type TrailWitness } from './report.ts';

const GROUPS_MAX = 2000;
const ROWS_MAX = 24;
const KEYS_MAX = 1000;
const FAULTS_MAX = 100;
const WITNESSES = 3;
const DETAIL_MAX = 400;

/** Events that differ in time and place only. */
export interface Group {
  readonly action: string;
  readonly principal: string;
  readonly image: string | undefined;
  readonly code: TrailCode | undefined;
  readonly severity: Severity;
  readonly detail: string;
  readonly count: number;
  readonly firstMs: number;
  readonly lastMs: number;
  readonly witness: readonly TrailWitness[];
}

export interface Row {
  readonly name: string;
  readonly lane: Lane;
  readonly objected: boolean;
}

/** Plain data, which another thread can be given. */
export interface TallyData {
  readonly groups: ReadonlyMap<string, Group>;
  readonly rows: readonly Row[];
  readonly histogram: HistogramData;
  readonly keys: ReadonlyMap<string, number>;
  readonly faults: ReadonlyMap<string, TrailFault>;
  readonly counts: TrailCounts;
  readonly undecided: number;
  readonly fromMs: number;
  readonly toMs: number;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

export class TrailTally {
  readonly #expected: TrailExpectations;
  readonly #keyIds: ReadonlySet<string>;
  readonly #groups = new Map<string, Mutable<Group>>();
  readonly #rows: Row[] = [];
  readonly #rowByName = new Map<string, number>();
  readonly #histogram = new Histogram();
  readonly #keys = new Map<string, number>();
  readonly #faults = new Map<string, Mutable<TrailFault>>();
  readonly #counts: Mutable<TrailCounts> = {
    files: 0,
    records: 0,
    kms: 0,
    reviewed: 0,
    attested: 0,
    unattested: 0,
    refused: 0,
    control: 0,
  };
  #undecided = 0;
  #fromMs = Number.POSITIVE_INFINITY;
  #toMs = Number.NEGATIVE_INFINITY;

  constructor(expected: TrailExpectations) {
    this.#expected = expected;
    this.#keyIds = new Set(expected.keys.map(keyIdOf));
  }

  get data(): TallyData {
    return {
      groups: this.#groups,
      rows: this.#rows,
      histogram: this.#histogram.data,
      keys: this.#keys,
      faults: this.#faults,
      counts: this.#counts,
      undecided: this.#undecided,
      fromMs: this.#fromMs,
      toMs: this.#toMs,
    };
  }

  file(): void {
    this.#counts.files++;
  }

  /** One record, whatever it is about. */
  record(): void {
    this.#counts.records++;
  }

  event(event: TrailEvent): void {
    this.#counts.kms++;
    const keys = this.#ownKeys(event);
    if (keys === undefined) return;
    this.#counts.reviewed++;
    for (const key of keys) this.#countKey(key, 1);
    const judged = judge(event, this.#expected);
    if (judged.undecided) this.#undecided++;
    if (judged.lane !== 'other') this.#counts[judged.lane]++;
    this.#fromMs = Math.min(this.#fromMs, event.atMs);
    this.#toMs = Math.max(this.#toMs, event.atMs);
    this.#histogram.add(event.atMs, this.#row(rowOf(judged)), 1);
    const group = groupOf(event, judged);
    this.#group(keyOfGroup(group, event), group);
  }

  /** A record, or the rest of a file, could not be read. */
  fault(file: string, { code, message }: TrailError): void {
    this.#fault({ code, file, message, count: 1 });
  }

  /** What another tally, of the files that come next, has counted. */
  add(data: TallyData): void {
    for (const name of Object.keys(this.#counts) as (keyof TrailCounts)[]) {
      this.#counts[name] += data.counts[name];
    }
    this.#undecided += data.undecided;
    this.#fromMs = Math.min(this.#fromMs, data.fromMs);
    this.#toMs = Math.max(this.#toMs, data.toMs);
    for (const [key, count] of data.keys) this.#countKey(key, count);
    for (const fault of data.faults.values()) this.#fault(fault);
    const rows = data.rows.map((row) => this.#row(row));
    this.#histogram.addAll(data.histogram, rows);
    for (const [key, group] of data.groups) this.#group(key, group);
  }

  /** Undefined: the event is of other keys. Events of no key, such as GenerateRandom, are nobody's. */
  #ownKeys({ keys }: TrailEvent): readonly string[] | undefined {
    if (keys.length === 0) return undefined;
    if (this.#keyIds.size === 0) return keys;
    const own = keys.filter(
      (key) => this.#keyIds.has(keyIdOf(key)) && this.#expected.keys.some((one) => isExactKey(one, key)),
    );
    return own.length === 0 ? undefined : own;
  }

  #countKey(key: string, count: number): void {
    const known = this.#keys.get(key);
    if (known !== undefined) this.#keys.set(key, known + count);
    else if (this.#keys.size < KEYS_MAX) this.#keys.set(key, count);
  }

  #fault({ code, file, message, count }: TrailFault): void {
    let key = `${code} ${file}`;
    const full = this.#faults.size >= FAULTS_MAX && !this.#faults.has(key);
    if (full) key = `${code} more`;
    const known = this.#faults.get(key);
    if (known !== undefined) known.count += count;
    else this.#faults.set(key, { code, file: full ? '(more files)' : file, message, count });
  }

  #row(row: Row): number {
    const known = this.#rowByName.get(row.name);
    if (known !== undefined) return known;
    if (this.#rows.length >= ROWS_MAX) return this.#rows.length - 1;
    const last = this.#rows.length === ROWS_MAX - 1;
    this.#rows.push(last ? { name: 'everything else', lane: 'other', objected: false } : row);
    this.#rowByName.set(row.name, this.#rows.length - 1);
    return this.#rows.length - 1;
  }

  #group(key: string, group: Group): void {
    const full = this.#groups.size >= GROUPS_MAX && !this.#groups.has(key);
    const at = full ? `${group.code} ${group.severity} more` : key;
    const known = this.#groups.get(at);
    if (known === undefined) {
      this.#groups.set(at, full ? { ...group, ...MORE } : { ...group });
      return;
    }
    known.count += group.count;
    known.firstMs = Math.min(known.firstMs, group.firstMs);
    known.lastMs = Math.max(known.lastMs, group.lastMs);
    if (known.witness.length < WITNESSES) {
      known.witness = [...known.witness, ...group.witness].slice(0, WITNESSES);
    }
  }
}

/** What stands for groups that are not listed one by one. */
const MORE = {
  action: 'various',
  principal: 'various',
  image: undefined,
  detail: 'more kinds than are listed one by one',
} as const;

function groupOf(event: TrailEvent, { image, objection }: Judgement): Group {
  return {
    action: event.name.slice(0, 100),
    principal: event.caller.arn.slice(0, 300),
    image,
    code: objection?.code,
    severity: objection?.severity ?? 'info',
    detail: (objection?.detail ?? '').slice(0, DETAIL_MAX),
    count: 1,
    firstMs: event.atMs,
    lastMs: event.atMs,
    witness: objection === undefined ? [] : [witnessOf(event)],
  };
}

function keyOfGroup({ code, severity, action, image, detail }: Group, { caller }: TrailEvent): string {
  return `${code}\u0000${severity}\u0000${action}\u0000${caller.arn}\u0000${image}\u0000${detail}`;
}

/** An ARN that was asked for must be met whole: two regions may have keys of one id. */
function isExactKey(asked: string, found: string): boolean {
  return asked.startsWith('arn:') && found.startsWith('arn:') ? asked === found : isSameKey(asked, found);
}

function rowOf({ lane, image, objection }: Judgement): Row {
  const objected = objection !== undefined && rank(objection.severity) <= rank('medium');
  return { name: nameOfRow(lane, image, objected ? objection.code : undefined), lane, objected };
}

function nameOfRow(lane: Lane, image = 'attested', objection?: TrailCode): string {
  switch (lane) {
    case 'attested':
      if (objection === undefined || objection === 'debug-image') return image;
      return objection === 'unknown-image'
        ? `unknown ${image}`
        : `${image}, ${objection.replaceAll('-', ' ')}`;
    case 'unattested':
      return 'no attestation';
    case 'refused':
      return objection === undefined ? 'failed' : 'refused';
    case 'control':
      return objection === undefined ? 'upkeep of the key' : 'control of the key';
    case 'other':
      return objection === undefined ? 'sealing and looking' : 'sealing by strangers';
  }
}

function witnessOf(event: TrailEvent): TrailWitness {
  return {
    eventId: event.id.slice(0, 100),
    at: iso(event.atMs),
    sourceAddress: event.sourceAddress.slice(0, 100),
    session: event.caller.session?.slice(0, 100) ?? null,
    moduleId: event.recipient?.moduleId.slice(0, 100) ?? null,
  };
}
