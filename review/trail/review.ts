/** Takes events one by one and gives the report: groups of like events, in memory that the number of kinds bounds. */
import { SEVERITIES, type Severity, TRAIL_RULES, type TrailCode } from './codes.ts';
import type { TrailError } from './errors.ts';
import type { TrailEvent } from './event.ts';
import { Histogram } from './histogram.ts';
import { isSameKey, type Judgement, judge, keyIdOf, type Lane, type TrailExpectations } from './judge.ts';
import {
  TRAIL_REPORT_SCHEMA,
  type TrailFault,
  type TrailFinding,
  type TrailReport,
  type TrailUse,
  type TrailVerdict,
  type TrailWitness,
} from './report.ts';

/** From then on nobody asks for the minute. */
const LONG_MS = 3 * 24 * 3600 * 1000;
const GROUPS_MAX = 2000;
const ROWS_MAX = 24;
const KEYS_MAX = 1000;
const FAULTS_MAX = 100;
const WITNESSES = 3;
const DETAIL_MAX = 400;

/** Events that differ in time and place only. */
interface Group {
  readonly action: string;
  readonly principal: string;
  readonly image: string | undefined;
  readonly code: TrailCode | undefined;
  readonly severity: Severity;
  readonly detail: string;
  count: number;
  firstMs: number;
  lastMs: number;
  readonly witness: TrailWitness[];
}

export class TrailReview {
  readonly #expected: TrailExpectations;
  readonly #keyIds: ReadonlySet<string>;
  readonly #groups = new Map<string, Group>();
  readonly #rows: { name: string; lane: Lane; objected: boolean }[] = [];
  readonly #rowByName = new Map<string, number>();
  readonly #histogram = new Histogram();
  readonly #keys = new Map<string, number>();
  readonly #faults = new Map<string, { -readonly [K in keyof TrailFault]: TrailFault[K] }>();
  readonly #counts = {
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

  file(): void {
    this.#counts.files++;
  }

  /** One record that is of another service, or of another key. */
  record(): void {
    this.#counts.records++;
  }

  event(event: TrailEvent): void {
    this.#counts.kms++;
    const keys = this.#ownKeys(event);
    if (keys === undefined) return;
    this.#counts.reviewed++;
    for (const key of keys) this.#countKey(key);
    const judged = judge(event, this.#expected);
    if (judged.undecided) this.#undecided++;
    if (judged.lane !== 'other') this.#counts[judged.lane]++;
    this.#fromMs = Math.min(this.#fromMs, event.atMs);
    this.#toMs = Math.max(this.#toMs, event.atMs);
    this.#histogram.add(event.atMs, this.#row(judged));
    this.#group(event, judged);
  }

  /** A record, or the rest of a file, could not be read. */
  fault(file: string, error: TrailError): void {
    const key = `${error.code} ${file}`;
    const known = this.#faults.get(key);
    if (known !== undefined) known.count++;
    else {
      const full = this.#faults.size >= FAULTS_MAX;
      const at = full ? `${error.code} more` : key;
      const other = this.#faults.get(at);
      if (other !== undefined) other.count++;
      else {
        this.#faults.set(at, {
          code: error.code,
          file: full ? '(more files)' : file,
          message: error.message,
          count: 1,
        });
      }
    }
  }

  /** `failOn`: the least severity that makes the verdict FINDINGS. */
  report(failOn: Severity): TrailReport {
    const groups = [...this.#groups.values()].toSorted(byWeight);
    const findings = groups.filter(({ code }) => code !== undefined).map(asFinding);
    const uses = groups.filter(({ code }) => code === undefined).map(asUse);
    const severity = findings[0]?.severity ?? 'info';
    const failing = findings.filter((one) => rank(one.severity) <= rank(failOn));
    const verdict = this.#verdict(failing.length > 0);
    const { slotMs, slots } = this.#histogram.slots();
    const rows = this.#rows.map((_, index) => index);
    return {
      schema: TRAIL_REPORT_SCHEMA,
      verdict,
      severity,
      sentence: this.#sentence(verdict, failing, uses),
      keys: this.#expected.keys,
      keysSeen: [...this.#keys]
        .toSorted(([, a], [, b]) => b - a)
        .slice(0, 100)
        .map(([key, count]) => ({ key, count })),
      period: this.#counts.reviewed === 0 ? null : { from: iso(this.#fromMs), to: iso(this.#toMs) },
      counts: { ...this.#counts },
      findings,
      uses,
      timeline: {
        slotMs,
        rows: this.#rows,
        slots: slots.map(([startMs, counts]) => ({
          at: iso(startMs),
          counts: rows.map((row) => counts[row] ?? 0),
        })),
      },
      unreadable: [...this.#faults.values()],
      notSupplied: this.#notSupplied(),
      notSeen: NOT_SEEN,
    };
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

  #countKey(key: string): void {
    const count = this.#keys.get(key);
    if (count !== undefined) this.#keys.set(key, count + 1);
    else if (this.#keys.size < KEYS_MAX) this.#keys.set(key, 1);
  }

  #row({ lane, image, objection }: Judgement): number {
    const objected = objection !== undefined && rank(objection.severity) <= rank('medium');
    const name = nameOfRow(lane, image, objected ? objection.code : undefined);
    const known = this.#rowByName.get(name);
    if (known !== undefined) return known;
    if (this.#rows.length >= ROWS_MAX) return this.#rows.length - 1;
    const last = this.#rows.length === ROWS_MAX - 1;
    this.#rows.push(
      last ? { name: 'everything else', lane: 'other', objected: false } : { name, lane, objected },
    );
    this.#rowByName.set(name, this.#rows.length - 1);
    return this.#rows.length - 1;
  }

  #group(event: TrailEvent, { image, objection }: Judgement): void {
    const detail = (objection?.detail ?? '').slice(0, DETAIL_MAX);
    const parts = [objection?.code, objection?.severity, event.name, event.caller.arn, image, detail];
    let key = parts.join('\u0000');
    if (!this.#groups.has(key) && this.#groups.size >= GROUPS_MAX) {
      key = [objection?.code, objection?.severity, 'more'].join('\u0000');
    }
    let group = this.#groups.get(key);
    if (group === undefined) {
      const full = this.#groups.size >= GROUPS_MAX;
      group = {
        action: full ? 'various' : event.name.slice(0, 100),
        principal: full ? 'various' : event.caller.arn.slice(0, 300),
        image: full ? undefined : image,
        code: objection?.code,
        severity: objection?.severity ?? 'info',
        detail: full ? 'more kinds than are listed one by one' : detail,
        count: 0,
        firstMs: event.atMs,
        lastMs: event.atMs,
        witness: [],
      };
      this.#groups.set(key, group);
    }
    group.count++;
    group.firstMs = Math.min(group.firstMs, event.atMs);
    group.lastMs = Math.max(group.lastMs, event.atMs);
    if (group.code !== undefined && group.witness.length < WITNESSES) group.witness.push(witnessOf(event));
  }

  #verdict(failing: boolean): TrailVerdict {
    if (failing) return 'FINDINGS';
    if (this.#faults.size > 0) return 'UNREADABLE';
    return this.#undecided > 0 || this.#counts.reviewed === 0 ? 'UNDECIDED' : 'CLEAN';
  }

  #sentence(verdict: TrailVerdict, failing: readonly TrailFinding[], uses: readonly TrailUse[]): string {
    const { reviewed, records } = this.#counts;
    const one = this.#expected.keys.length === 1 || this.#keys.size === 1;
    const key = one ? 'the key' : 'the keys';
    const was = one ? 'was' : 'were';
    if (verdict === 'UNREADABLE') {
      return 'Cannot say: not everything could be read, and what was read shows nothing to object to.';
    }
    if (reviewed === 0) return `Cannot say: none of ${number(records)} records is about ${key}.`;
    const long = this.#toMs - this.#fromMs > LONG_MS;
    const told = (ms: number) => (long ? day(ms).slice(0, 10) : day(ms));
    const when = `Between ${told(this.#fromMs)} and ${told(this.#toMs)}`;
    if (verdict === 'UNDECIDED') {
      return `${when} ${key} ${was} used ${times(this.#undecided)} by images that cannot be named: no release manifests were given.`;
    }
    if (verdict === 'CLEAN') {
      const images = [...new Set(uses.map(({ image }) => image).filter((image) => image !== null))];
      const by = images.length === 0 ? 'never by an enclave' : `by ${list(images)}`;
      return `${when} ${key} ${was} used ${times(this.#counts.attested)} with attestation, ${by}; nothing to object to.`;
    }
    const kinds = new Map<TrailCode, number>();
    for (const { code, count } of failing) kinds.set(code, (kinds.get(code) ?? 0) + count);
    const what = [...kinds].map(([code, count]) => `${lower(TRAIL_RULES[code].title)} (${times(count)})`);
    return `${(failing[0] as TrailFinding).severity.toUpperCase()}: ${list(what)}, ${lower(when)}.`;
  }

  #notSupplied(): { what: string; consequence: string }[] {
    const { releases, hostRoleArns, sealerArns, administratorArns, keys } = this.#expected;
    const missing: { what: string; consequence: string }[] = [];
    const add = (what: string, consequence: string) => missing.push({ what, consequence });
    if (keys.length === 0)
      add('key (--key)', 'every key that occurs is reviewed, also those that are for something else');
    if (releases === undefined)
      add('release manifests (--releases)', 'images cannot be named, so no use of one is called good or bad');
    if (hostRoleArns.length === 0)
      add('roles of the hosts (--role)', 'PCR3 is compared with the caller’s own role only');
    if (sealerArns.length === 0) add('sealers (--sealer)', 'every Encrypt is taken as meant');
    if (administratorArns.length === 0)
      add('administrators (--admin)', 'every change of the policy counts as one by a stranger');
    return missing;
  }
}

const NOT_SEEN: readonly string[] = [
  'Which deployment ran: CloudTrail shows PCR0 to PCR4 and PCR8, never PCR16.',
  'Events that were not delivered: whether files are missing, aws cloudtrail validate-logs says.',
  'Events that the trail does not record: a trail can be set to leave out those of AWS KMS.',
  'The document of a refused call: AWS leaves it out, so a refused enclave looks like a refused host.',
  'Calls of other accounts that were refused: those are in the trail of that account.',
];

/** An ARN that was asked for must be met whole: two regions may have keys of one id. */
function isExactKey(asked: string, found: string): boolean {
  return asked.startsWith('arn:') && found.startsWith('arn:') ? asked === found : isSameKey(asked, found);
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

const rank = (severity: Severity): number => SEVERITIES.indexOf(severity);

function byWeight(a: Group, b: Group): number {
  return rank(a.severity) - rank(b.severity) || b.count - a.count || a.firstMs - b.firstMs;
}

function asUse({ action, principal, image, count, firstMs, lastMs }: Group): TrailUse {
  return { action, principal, image: image ?? null, count, first: iso(firstMs), last: iso(lastMs) };
}

function asFinding(group: Group): TrailFinding {
  const code = group.code as TrailCode;
  const { title, why, remedy } = TRAIL_RULES[code];
  const { severity, detail, witness } = group;
  return { code, severity, title, why, detail, remedy, ...asUse(group), witness };
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

const iso = (ms: number): string => `${new Date(ms).toISOString().slice(0, 19)}Z`;
const day = (ms: number): string => `${new Date(ms).toISOString().slice(0, 16).replace('T', ' ')} UTC`;
const number = (count: number): string => count.toLocaleString('en');
const times = (count: number): string => (count === 1 ? 'once' : `${number(count)} times`);
const lower = (text: string): string => text.charAt(0).toLowerCase() + text.slice(1);
const list = (texts: readonly string[]): string =>
  texts.length < 2 ? texts.join('') : `${texts.slice(0, -1).join(', ')} and ${texts.at(-1)}`;
