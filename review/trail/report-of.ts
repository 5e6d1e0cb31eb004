/** What a tally comes to: verdict, sentence, findings, and what could not be seen. */
import { type Severity, TRAIL_RULES, type TrailCode } from './codes.ts';
import { slotsOf } from './histogram.ts';
import type { TrailExpectations } from './judge.ts';
import { rank } from './rank.ts';
import {
  iso,
  TRAIL_REPORT_SCHEMA,
  type TrailFinding,
  type TrailReport,
  type TrailUse,
  type TrailVerdict,
} from './report.ts';
import type { Group, TallyData } from './tally.ts';

/** From then on nobody asks for the minute. */
const LONG_MS = 3 * 24 * 3600 * 1000;

/** `failOn`: the least severity that makes the verdict FINDINGS. */
export function trailReport(tally: TallyData, expected: TrailExpectations, failOn: Severity): TrailReport {
  const groups = [...tally.groups.values()].toSorted(byWeight);
  const findings = groups.filter(({ code }) => code !== undefined).map(asFinding);
  const uses = groups.filter(({ code }) => code === undefined).map(asUse);
  const failing = findings.filter((one) => rank(one.severity) <= rank(failOn));
  const verdict = verdictOf(tally, failing.length > 0);
  const { slotMs, slots } = slotsOf(tally.histogram);
  const rows = tally.rows.map((_, index) => index);
  return {
    schema: TRAIL_REPORT_SCHEMA,
    verdict,
    severity: findings[0]?.severity ?? 'info',
    sentence: sentenceOf(tally, expected, verdict, failing, uses),
    keys: expected.keys,
    keysSeen: [...tally.keys]
      .toSorted(([, a], [, b]) => b - a)
      .slice(0, 100)
      .map(([key, count]) => ({ key, count })),
    period: tally.counts.reviewed === 0 ? null : { from: iso(tally.fromMs), to: iso(tally.toMs) },
    counts: { ...tally.counts },
    findings,
    uses,
    timeline: {
      slotMs,
      rows: tally.rows,
      slots: slots.map(([startMs, counts]) => ({
        at: iso(startMs),
        counts: rows.map((row) => counts[row] ?? 0),
      })),
    },
    unreadable: [...tally.faults.values()],
    notSupplied: notSuppliedIn(expected),
    notSeen: NOT_SEEN,
  };
}

function verdictOf({ faults, undecided, counts }: TallyData, failing: boolean): TrailVerdict {
  if (failing) return 'FINDINGS';
  if (faults.size > 0) return 'UNREADABLE';
  return undecided > 0 || counts.reviewed === 0 ? 'UNDECIDED' : 'CLEAN';
}

function sentenceOf(
  tally: TallyData,
  expected: TrailExpectations,
  verdict: TrailVerdict,
  failing: readonly TrailFinding[],
  uses: readonly TrailUse[],
): string {
  const { counts } = tally;
  const { reviewed, records } = counts;
  const one = expected.keys.length === 1 || tally.keys.size === 1;
  const key = one ? 'the key' : 'the keys';
  const was = one ? 'was' : 'were';
  if (verdict === 'UNREADABLE') {
    return 'Cannot say: not everything could be read, and what was read shows nothing to object to.';
  }
  if (reviewed === 0) return `Cannot say: none of ${number(records)} records is about ${key}.`;
  const long = tally.toMs - tally.fromMs > LONG_MS;
  const told = (ms: number) => (long ? day(ms).slice(0, 10) : day(ms));
  const when = `Between ${told(tally.fromMs)} and ${told(tally.toMs)}`;
  if (verdict === 'UNDECIDED') {
    return `${when} ${key} ${was} used ${times(tally.undecided)} by images that cannot be named: no release manifests were given.`;
  }
  if (verdict === 'CLEAN') {
    const images = [...new Set(uses.map(({ image }) => image).filter((image) => image !== null))];
    const by = images.length === 0 ? 'never by an enclave' : `by ${list(images)}`;
    return `${when} ${key} ${was} used ${times(counts.attested)} with attestation, ${by}; nothing to object to.`;
  }
  const kinds = new Map<TrailCode, number>();
  for (const { code, count } of failing) kinds.set(code, (kinds.get(code) ?? 0) + count);
  const what = [...kinds].map(([code, count]) => `${lower(TRAIL_RULES[code].title)} (${times(count)})`);
  return `${(failing[0] as TrailFinding).severity.toUpperCase()}: ${list(what)}, ${lower(when)}.`;
}

function notSuppliedIn(expected: TrailExpectations): { what: string; consequence: string }[] {
  const { releases, hostRoleArns, sealerArns, administratorArns, keys } = expected;
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

const NOT_SEEN: readonly string[] = [
  'Which deployment ran: CloudTrail shows PCR0 to PCR4 and PCR8, never PCR16.',
  'Events that were not delivered: whether files are missing, aws cloudtrail validate-logs says.',
  'Events that the trail does not record: a trail can be set to leave out those of AWS KMS.',
  'The document of a refused call: AWS leaves it out, so a refused enclave looks like a refused host.',
  'Calls of other accounts that were refused: those are in the trail of that account.',
];

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

const day = (ms: number): string => `${new Date(ms).toISOString().slice(0, 16).replace('T', ' ')} UTC`;
const number = (count: number): string => count.toLocaleString('en');
const times = (count: number): string => (count === 1 ? 'once' : `${number(count)} times`);
const lower = (text: string): string => text.charAt(0).toLowerCase() + text.slice(1);
const list = (texts: readonly string[]): string =>
  texts.length < 2 ? texts.join('') : `${texts.slice(0, -1).join(', ')} and ${texts.at(-1)}`;
