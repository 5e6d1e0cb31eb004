/**
 * Reviews a key policy (docs/policy-review.md): can only this image get this key, who else could, and how is that known?
 *
 * The verdict comes from requests and the engine's answers to them, never from the look of a statement. What the
 * document looks like is explained afterwards.
 */
import { createHash } from 'node:crypto';
import { PolicyError } from '../../shared/policy/errors.ts';
import type { Policy } from '../../shared/policy/model.ts';
import { parsePolicy } from '../../shared/policy/parse.ts';
import { type Analysis, analyse } from './analysis.ts';
import type { KnownRegisters } from './attestation-keys.ts';
import { checksOf } from './checks.ts';
import { openPointsOf } from './contested.ts';
import { evidenceOf } from './evidence.ts';
import { accessFindings, type FindingContext } from './findings/access.ts';
import { Findings, Places, worst } from './findings/collect.ts';
import { denyFindings } from './findings/denies.ts';
import { escapeFindings } from './findings/escapes.ts';
import { hygieneFindings } from './findings/hygiene.ts';
import { lintFindings } from './findings/lint.ts';
import { Remedies } from './findings/remedies.ts';
import { matrixOf } from './matrix.ts';
import { notSuppliedOf } from './not-supplied.ts';
import { refusedReport } from './refused.ts';
import {
  type ContestedPoint,
  type Finding,
  type PolicyReviewReport,
  REPORT_SCHEMA,
  type ReviewInput,
  type Severity,
  VERDICTS,
  type Verdict,
} from './report.ts';
import type { ReviewedRegisters } from './requests/world.ts';
import { sentenceOf } from './sentence.ts';
import { strictFindings } from './strict.ts';
import type { Supplied } from './supplied.ts';
import { applySuppressions, type Suppression } from './suppressions.ts';
import { type Judgement, judge } from './verdict.ts';
import { worldOf } from './world-of.ts';

export interface PolicyReviewRequest {
  readonly policy: { readonly name: string; readonly bytes: Uint8Array };
  /** Measurements of the image or images that may get the key; none: nothing can be said about images. */
  readonly reviewed: readonly ReviewedRegisters[];
  /** Roles of the parent instance. Read out of the policy unless given. */
  readonly hostRoleArns?: readonly string[];
  readonly keyArn?: string;
  readonly supplied?: Supplied;
  /** Other releases, by name, so that digests can be named. */
  readonly releases?: ReadonlyMap<string, KnownRegisters>;
  readonly suppressions?: readonly Suppression[];
  /** When it is: no request is made before it, and suppressions expire. */
  readonly now: Date;
  readonly profile?: 'strict';
  readonly inputs?: readonly ReviewInput[];
}

/** Never throws for what a policy holds: a document that must be refused is a report, too. */
export function reviewPolicy(request: PolicyReviewRequest): PolicyReviewReport {
  const { bytes } = request.policy;
  try {
    return reviewParsed(request, parsePolicy(bytes, 'key'));
  } catch (error) {
    if (!(error instanceof PolicyError)) throw error;
    return refusedReport(request, error);
  }
}

function reviewParsed(request: PolicyReviewRequest, keyPolicy: Policy): PolicyReviewReport {
  const { policy, supplied, reviewed, releases } = request;
  const text = new TextDecoder().decode(policy.bytes);
  const places = new Places(text, keyPolicy.statements);
  const worldFor = (other: Policy) =>
    worldOf({
      keyPolicy: other,
      reviewed,
      hostRoleArns: request.hostRoleArns ?? [],
      now: request.now,
      ...(request.keyArn === undefined ? {} : { keyArn: request.keyArn }),
      ...(supplied === undefined ? {} : { supplied }),
      ...(releases === undefined ? {} : { releases }),
    });
  const analysis = analyse(worldFor(keyPolicy));
  const judgement = judge(analysis);
  const contested = contestedPoints(
    keyPolicy,
    judgement.verdict,
    places,
    (other, deletedMayExist) => judge(analyse(worldFor(other), deletedMayExist)).verdict,
  );
  const all = findingsOf(request, analysis, judgement, places, isListOfStatements(text));
  const { findings, suppressions } = applySuppressions(all, request.suppressions ?? [], request.now);
  const { world } = analysis;
  const evidence = evidenceOf(all, keyPolicy, world.grants);
  const verdict =
    evidence.contradiction === undefined ? finalVerdict(analysis, judgement, contested) : 'AMBIGUOUS';
  const notSupplied = notSuppliedOf(request, analysis, judgement);
  return {
    schema: REPORT_SCHEMA,
    verdict,
    severity: severityOf(verdict, findings, isHalfDead(analysis)),
    sentence: sentenceOf(verdict, analysis, judgement, evidence),
    findings,
    matrix: matrixOf(analysis),
    checks: checksOf(findings, analysis, notSupplied, evidence),
    notSupplied,
    contested,
    suppressions,
    policy: documentOf(policy.name, policy.bytes),
    reviewed: {
      registers: Object.fromEntries(
        Object.entries(reviewed[0]?.registers ?? {}).map(([name, value]) => [name.toUpperCase(), value]),
      ),
      hostRoleArns: world.hostArns,
      keyArn: world.keyArn,
      hostRoleFrom:
        (request.hostRoleArns ?? []).length > 0
          ? 'given'
          : world.hostArns.length > 0
            ? 'inferred'
            : 'unknown',
      keyArnFrom: world.keyIsGiven ? 'given' : 'inferred',
      at: request.now.toISOString(),
    },
    inputs: request.inputs ?? [],
  };
}

export function documentOf(name: string, bytes: Uint8Array): PolicyReviewReport['policy'] {
  return {
    name,
    text: new TextDecoder().decode(bytes),
    sha256: createHash('sha256').update(bytes).digest('hex'),
  };
}

function isListOfStatements(text: string): boolean {
  return Array.isArray((JSON.parse(text) as { Statement: unknown }).Statement);
}

function findingsOf(
  request: PolicyReviewRequest,
  analysis: Analysis,
  judgement: Judgement,
  places: Places,
  isList: boolean,
): Finding[] {
  const context: FindingContext = {
    analysis,
    judgement,
    findings: new Findings(places),
    remedies: new Remedies(analysis.world, isList),
  };
  accessFindings(context);
  escapeFindings(context);
  denyFindings(context);
  lintFindings(context, request.policy.bytes);
  hygieneFindings(context);
  if (request.profile === 'strict') strictFindings(context, new TextDecoder().decode(request.policy.bytes));
  return context.findings.list();
}

/** The image would get in, were it signed or run otherwise; or the key is none that protects data. */
function isHalfDead({ primaryAction, attested }: Analysis): boolean {
  return (
    primaryAction === undefined ||
    attested.some(({ attestation }) => attestation.kind === 'reviewed-elsewhere')
  );
}

/** "Cannot decide" where the search was given up, a contested point decides, or more had to be supplied. */
function finalVerdict(
  analysis: Analysis,
  judgement: Judgement,
  contested: readonly ContestedPoint[],
): Verdict {
  if (contested.some(({ otherwise }) => otherwise !== null)) return 'AMBIGUOUS';
  if (judgement.undecided.length > 0) return 'AMBIGUOUS';
  // A request that was found stands, whatever else was not searched to its end.
  const isSafe = VERDICTS.indexOf(judgement.verdict) >= VERDICTS.indexOf('DEAD');
  return analysis.asker.gaveUp && isSafe ? 'AMBIGUOUS' : judgement.verdict;
}

function contestedPoints(
  policy: Policy,
  verdict: Verdict,
  places: Places,
  verdictOf: (other: Policy, deletedMayExist: boolean) => Verdict,
): ContestedPoint[] {
  return openPointsOf(policy).map(({ point, held, statement, otherwise, deletedMayExist }) => {
    const other = otherwise === undefined ? verdict : verdictOf(otherwise, deletedMayExist ?? false);
    // That AWS shows ids for deleted principals is documented; only what would open the key by one is in doubt.
    const isSame =
      other === verdict || (deletedMayExist && VERDICTS.indexOf(other) > VERDICTS.indexOf(verdict));
    return { point, held, statement: places.label(statement), otherwise: isSame ? null : other };
  });
}

const SEVERITY_OF: Readonly<Record<Verdict, Severity>> = {
  MALFORMED: 'high',
  AMBIGUOUS: 'high',
  PUBLIC: 'critical',
  BYPASS: 'critical',
  ANY_IMAGE: 'critical',
  DEBUG: 'critical',
  WEAK_PIN: 'critical',
  VARIABLE_PIN: 'high',
  DELEGATED_BYPASS: 'high',
  SERVICE_PATH: 'high',
  DEAD: 'high',
  DELEGATED_ESCAPE: 'high',
  SIGNER_ONLY: 'high',
  WRONG_IMAGE: 'high',
  EXTRA_IMAGE: 'high',
  OUT_OF_BAND: 'high',
  ONLY_IMAGE_ANY_ACCOUNT: 'medium',
  ONLY_IMAGE_IF_ADMINS_TRUSTED: 'medium',
  ONLY_IMAGE: 'info',
};

/**
 * That of the verdict. Where only the image gets the key, that of the worst finding where it is worse: but a policy that
 * nobody can change is not less safe for it.
 */
export function severityOf(verdict: Verdict, findings: readonly Finding[], isHalfDead = false): Severity {
  if (verdict === 'DEAD' && isHalfDead) return 'medium';
  if (!verdict.startsWith('ONLY_IMAGE')) return SEVERITY_OF[verdict];
  const counted = findings.filter(({ code, severity }) => code !== 'lockout' || severity === 'high');
  return worst([SEVERITY_OF[verdict], ...counted.map(({ severity }) => severity)]);
}
