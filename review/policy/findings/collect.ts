/** Findings as they are made: one for each code and statement, the worst of its severities. */
import { createHash } from 'node:crypto';
import type { Condition, Statement } from '../../../shared/policy/model.ts';
import type { FindingCode } from '../codes.ts';
import type { Finding, Remedy, Severity, StatementLocation, Witness } from '../report.ts';
import { SEVERITIES } from '../report.ts';
import { placeOf, statementSpans } from '../spans.ts';

export interface FindingDetail {
  readonly why: string;
  readonly remedy: Remedy;
  readonly witness?: Witness | undefined;
  /** Those that it is about. */
  readonly conditions?: readonly Condition[];
}

export class Findings {
  readonly #places: Places;
  readonly #found = new Map<string, Finding>();

  constructor(places: Places) {
    this.#places = places;
  }

  /** `statement` is its index; undefined when it is about no statement of the key policy. */
  add(
    code: FindingCode,
    severity: Severity,
    statement: number | undefined,
    { why, remedy, witness, conditions = [] }: FindingDetail,
  ): void {
    const key = `${code} ${statement ?? ''}`;
    const before = this.#found.get(key);
    if (before !== undefined && rank(before.severity) <= rank(severity)) return;
    const place = statement === undefined ? undefined : this.#places.of(statement);
    this.#found.set(key, {
      code,
      severity,
      statement: statement === undefined ? null : this.#places.label(statement),
      location:
        place === undefined
          ? null
          : { ...place, conditionLines: [...new Set(conditions.map(({ line }) => line))] },
      why,
      witness: witness ?? null,
      remedy,
      fingerprint: this.#places.fingerprint(code, statement),
    });
  }

  has(code: FindingCode, statement?: number): boolean {
    return this.#found.has(`${code} ${statement ?? ''}`);
  }

  /** Worst first, then in the order of the policy. */
  list(): Finding[] {
    const at = (finding: Finding) => finding.location?.index ?? Number.MAX_SAFE_INTEGER;
    return [...this.#found.values()].sort(
      (a, b) => rank(a.severity) - rank(b.severity) || at(a) - at(b) || (a.code < b.code ? -1 : 1),
    );
  }
}

export function rank(severity: Severity): number {
  return SEVERITIES.indexOf(severity);
}

export function worst(severities: readonly Severity[]): Severity {
  return SEVERITIES.find((severity) => severities.includes(severity)) ?? 'info';
}

/** Where the statements of a document stand, and what they are called. */
export class Places {
  readonly #text: string;
  readonly #spans: ReturnType<typeof statementSpans>;
  readonly #sids: readonly (string | undefined)[];
  readonly #known = new Map<number, Omit<StatementLocation, 'conditionLines'>>();

  constructor(text: string, statements: readonly Pick<Statement, 'sid'>[]) {
    this.#text = text;
    this.#spans = statementSpans(text);
    this.#sids = statements.map(({ sid }) => sid);
  }

  of(index: number): Omit<StatementLocation, 'conditionLines'> | undefined {
    const known = this.#known.get(index) ?? this.#locate(index);
    if (known !== undefined) this.#known.set(index, known);
    return known;
  }

  #locate(index: number): Omit<StatementLocation, 'conditionLines'> | undefined {
    const span = this.#spans[index];
    if (span === undefined) return undefined;
    const start = placeOf(this.#text, span.start);
    const end = placeOf(this.#text, span.end - 1);
    return {
      index,
      sid: this.#sids[index] ?? null,
      ...start,
      endLine: end.line,
      endColumn: end.column,
    };
  }

  /** The Sid, where it names this statement alone. */
  label(index: number): string | number {
    const sid = this.#sids[index];
    return sid !== undefined && this.#sids.filter((one) => one === sid).length === 1 ? sid : index;
  }

  /** Of rule and statement, without regard to its place and its white space. */
  fingerprint(code: FindingCode, index: number | undefined): string {
    const span = index === undefined ? undefined : this.#spans[index];
    const content = span === undefined ? '' : this.#text.slice(span.start, span.end).replaceAll(/\s+/g, '');
    return createHash('sha256').update(`${code} ${content}`).digest('hex').slice(0, 32);
  }
}
