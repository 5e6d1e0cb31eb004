/**
 * Whether the engine gives the answers that a report prints: every request is put together again from what is printed of
 * it alone, and decided by the whole key policy and all grants, where the search looks at a part of them.
 */
import { decide } from '../../shared/policy/decide.ts';
import { PolicyError } from '../../shared/policy/errors.ts';
import type { Grant, Policy, PolicyRequest, Statement } from '../../shared/policy/model.ts';
import { parsePolicy } from '../../shared/policy/parse.ts';
import { ZERO } from './attestation-keys.ts';
import { decidedBy } from './findings/witness.ts';
import type { DecidedBy, Finding, Witness } from './report.ts';

export interface Evidence {
  /** How many requests were decided again. */
  readonly requests: number;
  /** The first that the engine decides otherwise, in words. */
  readonly contradiction: string | undefined;
}

/** `findings`: also those that are suppressed, since a report prints them all. */
export function evidenceOf(
  findings: readonly Pick<Finding, 'code' | 'statement' | 'witness'>[],
  keyPolicy: Policy,
  grants: readonly Grant[],
): Evidence {
  const parsed = new Map<object, Policy>();
  let requests = 0;
  for (const { code, statement, witness } of findings) {
    if (witness === null) continue;
    requests += 1;
    const otherwise = otherwiseOf(witness, keyPolicy, grants, parsed);
    if (otherwise !== undefined) {
      const where = statement === null ? '' : ` at ${JSON.stringify(statement)}`;
      return { requests, contradiction: `the request of ${code}${where} is not as printed: ${otherwise}` };
    }
  }
  return { requests, contradiction: undefined };
}

function otherwiseOf(
  witness: Witness,
  keyPolicy: Policy,
  grants: readonly Grant[],
  parsed: Map<object, Policy>,
): string | undefined {
  const { answer, decidedBy: printed } = witness;
  const identityPolicies = witness.principal.identityPolicies.map((document) => {
    const known = parsed.get(document) ?? parsePolicy(Buffer.from(JSON.stringify(document)), 'identity');
    parsed.set(document, known);
    return known;
  });
  try {
    const request = requestOf(witness);
    const found = decide(request, { keyPolicy, identityPolicies, grants });
    const actual = found.allowed ? 'allow' : 'deny';
    if (actual !== answer) return `printed is ${answer}, and the engine says ${actual}`;
    // Of several ways in, a finding is about one: the statements that it prints have to be enough, with every Deny.
    const reduced = { ...onlyPrinted(printed, keyPolicy, grants), identityPolicies };
    const reason = found.allowed ? decide(request, reduced) : found;
    const deciding = new Set(decidedBy(reason).map(keyOf));
    const wrong = printed.find((one) => !deciding.has(keyOf(one)));
    if (wrong !== undefined) {
      const which = wrong.statement === null ? '' : `${JSON.stringify(wrong.statement)} of the `;
      return `printed is that ${which}${wrong.policy} decides it, and it does not`;
    }
    return reason.allowed === found.allowed ? undefined : 'the statements that are printed do not allow it';
  } catch (error) {
    if (!(error instanceof PolicyError)) throw error;
    return `the engine takes no such request (${error.message})`;
  }
}

function onlyPrinted(
  printed: readonly DecidedBy[],
  keyPolicy: Policy,
  grants: readonly Grant[],
): { readonly keyPolicy: Policy; readonly grants: readonly Grant[] } {
  const names = new Set(printed.map(keyOf));
  const isPrinted = ({ sid, index, line }: Statement) =>
    names.has(keyOf({ policy: 'key policy', statement: sid ?? `#${index}`, line }));
  return {
    keyPolicy: {
      ...keyPolicy,
      statements: keyPolicy.statements.filter((one) => one.effect === 'Deny' || isPrinted(one)),
    },
    grants: grants.filter(({ grantId }) =>
      names.has(keyOf({ policy: `grant ${grantId}`, statement: null, line: null })),
    ),
  };
}

function keyOf({ policy, statement, line }: DecidedBy): string {
  return JSON.stringify([policy, statement, line]);
}

function requestOf({
  principal,
  action,
  keyArn,
  attestation,
  context,
  encryptionContext,
}: Witness): PolicyRequest {
  const { arn, sessionArn, accountId, tags } = principal;
  return {
    principal: {
      arn,
      accountId,
      ...(sessionArn === null ? {} : { sessionArn }),
      ...(Object.keys(tags).length === 0 ? {} : { tags: new Map(Object.entries(tags)) }),
    },
    action,
    keyArn,
    context: new Map([...Object.entries(context), ...attestationEntries(attestation)]),
    encryptionContext: new Map(Object.entries(encryptionContext)),
  };
}

/** Every register of the document: those that a witness does not name are zero. */
function attestationEntries(attestation: Witness['attestation']): [string, readonly string[]][] {
  if (attestation === null) return [];
  const { platform, registers } = attestation;
  const isEnclave = platform === 'enclave';
  const entries = Array.from({ length: isEnclave ? 32 : 24 }, (_, index): [string, readonly string[]] => [
    `kms:RecipientAttestation:${isEnclave ? '' : 'NitroTPM'}PCR${index}`,
    [registers[`PCR${index}`] ?? ZERO],
  ]);
  return isEnclave
    ? [...entries, ['kms:RecipientAttestation:ImageSha384', [registers.PCR0 ?? ZERO]]]
    : entries;
}
