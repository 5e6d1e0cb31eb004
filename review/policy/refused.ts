/**
 * The report of a document that must be refused: AWS does not take it, or two readers would read it differently. What
 * its other statements say about administrators is told all the same, since that does not hang on the faulty ones.
 */
import { codeOf } from '../../shared/errors.ts';
import type { PolicyError } from '../../shared/policy/errors.ts';
import { PolicyError as PolicyFault } from '../../shared/policy/errors.ts';
import type { Policy } from '../../shared/policy/model.ts';
import { parsePolicy } from '../../shared/policy/parse.ts';
import { analyse } from './analysis.ts';
import type { FindingCode } from './codes.ts';
import { Findings, Places } from './findings/collect.ts';
import { administratorFindings } from './findings/escapes.ts';
import { Remedies } from './findings/remedies.ts';
import { type PolicyReviewReport, REPORT_SCHEMA } from './report.ts';
import { documentOf, type PolicyReviewRequest, severityOf } from './review.ts';
import { statementSpans } from './spans.ts';
import { applySuppressions } from './suppressions.ts';
import { judge } from './verdict.ts';
import { worldOf } from './world-of.ts';

export function refusedReport(request: PolicyReviewRequest, error: PolicyError): PolicyReviewReport {
  const { name, bytes } = request.policy;
  const text = new TextDecoder().decode(bytes);
  const parts = statementSpans(text).map(({ start, end }) => text.slice(start, end));
  const read = parts.map(readAlone);
  const places = new Places(
    text,
    read.map((one, index) => ({ sid: sidOf(one, parts[index] ?? '') })) as { sid?: string }[],
  );
  const findings = new Findings(places);
  const faulty = read.flatMap((one, index) => (one instanceof PolicyFault ? [{ index, fault: one }] : []));
  const remedy = { text: 'Write it as AWS takes it, and in one way only; then review it again.', patch: [] };
  for (const { index, fault } of faulty) {
    const why = `AWS refuses this statement, or leaves its meaning open: ${withoutLine(fault.message)}.`;
    findings.add('malformed-policy', 'high', index, { why, remedy });
    if (isDuplicate(fault)) findings.add('duplicate-key', 'high', index, { why, remedy });
  }
  if (faulty.length === 0) {
    const why = `AWS refuses this document, or leaves its meaning open: ${error.message}.`;
    findings.add('malformed-policy', 'high', undefined, { why, remedy });
    if (isDuplicate(error)) findings.add('duplicate-key', 'high', undefined, { why, remedy });
  }
  tellAdministrators(request, findings, read);
  const all = applySuppressions(findings.list(), request.suppressions ?? [], request.now);
  const codes: FindingCode[] = ['malformed-policy'];
  return {
    schema: REPORT_SCHEMA,
    verdict: 'MALFORMED',
    severity: severityOf('MALFORMED', []),
    sentence: `AWS refuses this document, or two readers would read it differently, so nothing is said about who gets the key (${error.message}).`,
    findings: all.findings,
    matrix: { principals: [], attestations: [], actions: [], cells: [] },
    checks: [
      {
        group: 'A',
        id: 'reading',
        title: 'The document reads in one way only',
        outcome: 'findings',
        codes,
        detail: '',
      },
    ],
    notSupplied: [],
    contested: [],
    suppressions: all.suppressions,
    policy: documentOf(name, bytes),
    reviewed: {
      registers: Object.fromEntries(
        Object.entries(request.reviewed[0]?.registers ?? {}).map(([register, value]) => [
          register.toUpperCase(),
          value,
        ]),
      ),
      hostRoleArns: request.hostRoleArns ?? [],
      keyArn: request.keyArn ?? '',
      hostRoleFrom: (request.hostRoleArns ?? []).length > 0 ? 'given' : 'unknown',
      keyArnFrom: request.keyArn === undefined ? 'inferred' : 'given',
      at: request.now.toISOString(),
    },
    inputs: request.inputs ?? [],
  };
}

/** Each statement on its own, so that a fault is found at the statement that has it. */
function readAlone(text: string): Policy | PolicyError {
  try {
    return parsePolicy(Buffer.from(`{"Version":"2012-10-17","Statement":[${text}]}`), 'key');
  } catch (error) {
    if (error instanceof PolicyFault) return error;
    throw error;
  }
}

function tellAdministrators(
  request: PolicyReviewRequest,
  findings: Findings,
  read: readonly (Policy | PolicyError)[],
): void {
  const statements = read.flatMap((one, index) =>
    one instanceof PolicyFault ? [] : one.statements.map((statement) => ({ ...statement, index })),
  );
  if (statements.length === 0) return;
  const keyPolicy: Policy = { kind: 'key', version: '2012-10-17', versionGiven: true, statements };
  const world = worldOf({
    keyPolicy,
    reviewed: request.reviewed,
    hostRoleArns: request.hostRoleArns ?? [],
    now: request.now,
    ...(request.keyArn === undefined ? {} : { keyArn: request.keyArn }),
    ...(request.supplied === undefined ? {} : { supplied: request.supplied }),
  });
  const analysis = analyse(world);
  administratorFindings({
    analysis,
    judgement: judge(analysis),
    findings,
    remedies: new Remedies(world, false),
  });
}

function isDuplicate(error: PolicyError): boolean {
  return codeOf(error.cause) === 'JSON_DUPLICATE_MEMBER' || /twice/.test(error.message);
}

function sidOf(read: Policy | PolicyError | undefined, text: string): string | undefined {
  if (read !== undefined && !(read instanceof PolicyFault)) return read.statements[0]?.sid;
  return /"Sid"\s*:\s*"([^"\\]*)"/.exec(text)?.[1];
}

/** The line in a statement read on its own is not that of the document. */
function withoutLine(message: string): string {
  return message.replace(/^line \d+(?:, column \d+)?: /, '');
}
