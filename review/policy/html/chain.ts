/**
 * From what is measured to the key, as the policy has it: which register the deciding statement pins, with which
 * value, and which Deny backs the pin. Read from the policy and from the answer that the review got; it decides nothing.
 */

import { pcrOfText } from '../../../shared/pcr.ts';
import { PolicyError } from '../../../shared/policy/errors.ts';
import type { Policy, Statement } from '../../../shared/policy/model.ts';
import type { Operator } from '../../../shared/policy/operators.ts';
import { parsePolicy } from '../../../shared/policy/parse.ts';
import type { DecidedBy, PolicyReviewReport } from '../report.ts';
import { isReviewed } from './tones.ts';

export interface Chain {
  readonly links: readonly ChainLink[];
  /** The statement that lets the reviewed image have the key, and its line; undefined if none does. */
  readonly statement: { readonly name: string; readonly line: number } | undefined;
  readonly keyArn: string;
}

export interface ChainLink {
  /** `PCR0`. */
  readonly register: string;
  /** What it measures. */
  readonly source: string;
  /** Of the reviewed image; undefined if it was not supplied. */
  readonly value: string | undefined;
  /** Line of the condition; undefined if the statement does not pin the register. */
  readonly pinnedAtLine: number | undefined;
  /** How many values the pin accepts. */
  readonly pinnedValues: number;
  /** Line of a Deny of every other value. */
  readonly denyAtLine: number | undefined;
}

const SOURCES: Readonly<Record<string, string>> = {
  PCR0: 'Enclave image',
  PCR1: 'Kernel, boot ramdisk',
  PCR2: 'Application ramdisk',
  PCR3: "Parent's IAM role",
  PCR4: 'Parent instance',
  PCR8: 'Image signer',
  PCR16: 'Deployment document',
};
/** Shown also where it is not pinned: image, host, deployment. */
const EXPECTED = ['PCR0', 'PCR3', 'PCR16'];

/** Undefined for a document that cannot be read. */
export function chainOf(report: PolicyReviewReport): Chain | undefined {
  const policy = readPolicy(report.policy.text);
  if (policy === undefined) return undefined;
  const deciding = decidingStatement(report, policy);
  const pins = deciding === undefined ? [] : pinsOf(deciding);
  const registers = new Set([...EXPECTED, ...pins.map(({ register }) => register)]);
  const links = [...registers]
    .toSorted((a, b) => numberOf(a) - numberOf(b))
    .map((register): ChainLink => {
      const pin = pins.find((one) => one.register === register);
      return {
        register,
        source: SOURCES[register] ?? 'Set by the enclave',
        value: registerValue(register, report),
        pinnedAtLine: pin?.line,
        pinnedValues: pin?.values ?? 0,
        denyAtLine: denyOf(policy, register)?.line,
      };
    });
  return {
    links,
    statement: deciding && { name: deciding.sid ?? `#${deciding.index}`, line: deciding.line },
    keyArn: report.reviewed.keyArn,
  };
}

/** PCR3 follows from the role, where one is known. */
function registerValue(register: string, { reviewed }: PolicyReviewReport): string | undefined {
  const { registers, hostRoleArns } = reviewed;
  const [role, ...others] = hostRoleArns;
  if (registers[register] !== undefined || register !== 'PCR3') return registers[register];
  return role === undefined || others.length > 0 ? undefined : Buffer.from(pcrOfText(role)).toString('hex');
}

function readPolicy(text: string): Policy | undefined {
  try {
    return parsePolicy(Buffer.from(text), 'key');
  } catch (error) {
    if (error instanceof PolicyError) return undefined;
    throw error;
  }
}

/** Of the first attested call for plaintext that the reviewed image is allowed. */
function decidingStatement({ matrix }: PolicyReviewReport, policy: Policy): Statement | undefined {
  const decided = matrix.cells
    .filter(({ attestation, answer }) => isReviewed(attestation) && answer === 'allow')
    .filter((cell) => !allowedWithout(matrix.cells, cell))
    .flatMap(({ decidedBy }) => decidedBy)
    .filter((by) => by.policy === 'key policy');
  return decided.map((by) => statementOf(policy, by)).find((statement) => statement !== undefined);
}

/** What nobody's evidence decides shows no chain. */
function allowedWithout(
  cells: PolicyReviewReport['matrix']['cells'],
  { principal, action }: { readonly principal: string; readonly action: string },
): boolean {
  return cells.some(
    (cell) =>
      cell.principal === principal &&
      cell.action === action &&
      cell.attestation === 'none' &&
      cell.answer === 'allow',
  );
}

function statementOf(policy: Policy, { statement, line }: DecidedBy): Statement | undefined {
  return policy.statements.find(
    (one) => (one.sid === statement || `#${one.index}` === statement) && one.line === line,
  );
}

const ATTESTATION_KEY = /^kms:recipientattestation:(pcr\d{1,2}|imagesha384)$/i;

/** ImageSha384 is another name of PCR0. */
function registerOf(key: string): string | undefined {
  const [, name] = ATTESTATION_KEY.exec(key) ?? [];
  return name?.toLowerCase() === 'imagesha384' ? 'PCR0' : name?.toUpperCase();
}

function pinsOf(statement: Statement): { register: string; line: number; values: number }[] {
  return statement.conditions.flatMap(({ operator, key, values, line }) => {
    const register = registerOf(key);
    const pins =
      register !== undefined && isEquality(operator) && !operator.negated && operator.set !== 'all';
    return pins && !operator.ifExists ? [{ register, line, values: values.length }] : [];
  });
}

/** One that fires for every value but the listed, and for none: one register alone, a negated equality, no set. */
function denyOf(policy: Policy, register: string): { readonly line: number } | undefined {
  return policy.statements.find(({ effect, conditions, principals }) => {
    const [condition, ...others] = conditions;
    return (
      effect === 'Deny' &&
      condition !== undefined &&
      others.length === 0 &&
      registerOf(condition.key) === register &&
      isEquality(condition.operator) &&
      condition.operator.negated &&
      condition.operator.set === undefined &&
      principals?.negated === false &&
      principals.entries.some(({ kind }) => kind === 'everyone')
    );
  });
}

function isEquality({ comparison }: Operator): boolean {
  return comparison === 'string-equals' || comparison === 'string-equals-ignore-case';
}

function numberOf(register: string): number {
  return Number(register.slice('PCR'.length));
}
