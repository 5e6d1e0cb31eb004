/**
 * Where AWS's behaviour is not documented, or sources disagree (docs/policy-review.md section 8). A policy whose
 * verdict hangs on such a point is read in both ways; if they differ, the verdict is AMBIGUOUS.
 */
import { asciiLower } from '../../shared/policy/glob.ts';
import type { Condition, Policy, Statement } from '../../shared/policy/model.ts';
import { parseOperator } from '../../shared/policy/operators.ts';
import { deletedPrincipals } from './requests/callers.ts';
import { isKnownKmsKey } from './requests/domains.ts';
import { isTimeKey, readsTime } from './requests/time.ts';

export interface OpenPoint {
  readonly point: string;
  readonly held: string;
  readonly statement: number;
  /** The policy under the other reading; absent where the point decides nothing here. */
  readonly otherwise?: Policy;
  /** Under the other reading, principals that look deleted exist. */
  readonly deletedMayExist?: true;
}

export function openPointsOf(policy: Policy): OpenPoint[] {
  return [
    ...policy.statements.flatMap((statement) => exemption(policy, statement)),
    ...policy.statements.flatMap((statement) => emptyLists(policy, statement)),
    ...deleted(policy),
    ...policy.statements.flatMap(unknownKeys),
    ...policy.statements.flatMap(otherResources),
    ...hostRegisters(policy),
    ...policy.statements.flatMap((statement) => userIds(policy, statement)),
    ...policy.statements.flatMap((statement) => timesAsText(policy, statement)),
  ];
}

/** The ids of roles and users are not in a policy, and the name of a session is whoever's who assumes the role. */
function userIds(policy: Policy, statement: Statement): OpenPoint[] {
  const { index, conditions } = statement;
  const about = conditions.filter(
    ({ key, operator }) => asciiLower(key) === 'aws:userid' && operator.comparison !== 'null',
  );
  if (about.length === 0) return [];
  return [
    {
      point: 'aws:userid holds the unique id of a role or user and a session name, which are not supplied.',
      held: 'No caller here has it.',
      statement: index,
      otherwise: weakened(policy, statement, about),
    },
  ];
}

/** A time compared as text: which text AWS makes of it, and so whether there is an hour that fits, is not documented. */
function timesAsText(policy: Policy, statement: Statement): OpenPoint[] {
  const about = statement.conditions.filter((one) => isTimeKey(one.key) && !readsTime(one));
  if (about.length === 0) return [];
  return [
    {
      point: `${about.map(({ key, operator }) => `${operator.name} on ${key}`).join(', ')} does not compare it as a time.`,
      held: 'It is compared as text, at the times that other conditions tell apart.',
      statement: statement.index,
      otherwise: weakened(policy, statement, about),
    },
  ];
}

/** As somebody would read it who gets the most: an Allow without the conditions, a Deny that never fires. */
function weakened(policy: Policy, statement: Statement, about: readonly Condition[]): Policy {
  const { effect, conditions, line } = statement;
  const never = condition('Bool', 'aws:SecureTransport', ['false'], line);
  return replaced(policy, {
    ...statement,
    conditions:
      effect === 'Allow' ? conditions.filter((one) => !about.includes(one)) : [...conditions, never],
  });
}

/** NotPrincipal with Deny that lists a role without its account and session. */
function exemption(policy: Policy, statement: Statement): OpenPoint[] {
  const { principals, effect, index } = statement;
  if (effect !== 'Deny' || !principals?.negated) return [];
  const arns = principals.entries.filter(({ kind }) => kind === 'identity').map(({ text }) => text);
  if (arns.length === 0) return [];
  const exempt: Statement = {
    ...statement,
    principals: { negated: false, entries: [{ kind: 'everyone', text: '*' }] },
    conditions: [
      ...statement.conditions,
      condition('ArnNotEquals', 'aws:PrincipalArn', arns.map(roleOfSession), statement.line),
    ],
  };
  return [
    {
      point: 'NotPrincipal with Deny lists a role or user without account and session.',
      held: 'The Deny applies to it: account, role and session must all be listed.',
      statement: index,
      otherwise: replaced(policy, exempt),
    },
  ];
}

function roleOfSession(arn: string): string {
  const session = /^(arn:[^:]+):sts::(\d{12}):assumed-role\/([^/]+)\//.exec(arn);
  return session === null ? arn : `${session[1]}:iam::${session[2]}:role/${session[3]}`;
}

function emptyLists(policy: Policy, statement: Statement): OpenPoint[] {
  const empty = statement.conditions.filter(({ values }) => values.length === 0);
  if (empty.length === 0) return [];
  const others = statement.conditions.flatMap((one) => {
    if (one.values.length > 0) return [one];
    // Held: it equals nothing, and a negated operator holds. The other reading is the reverse.
    return one.operator.negated ? [condition('StringEquals', 'aws:PrincipalArn', ['nobody'], one.line)] : [];
  });
  return [
    {
      point: `The condition on ${empty.map(({ key }) => key).join(', ')} has an empty list of values.`,
      held: 'An empty list equals nothing; "none of these" of nothing holds.',
      statement: statement.index,
      otherwise: replaced(policy, { ...statement, conditions: others }),
    },
  ];
}

function deleted(policy: Policy): OpenPoint[] {
  return deletedPrincipals(policy.statements).map((text) => ({
    point: `${text} is the id of a principal and not its ARN.`,
    held: 'It was deleted: AWS shows the ARN of a principal that exists.',
    statement:
      policy.statements.find(({ principals }) => principals?.entries.some((entry) => entry.text === text))
        ?.index ?? 0,
    otherwise: policy,
    deletedMayExist: true as const,
  }));
}

function unknownKeys({ conditions, index }: Statement): OpenPoint[] {
  const keys = conditions
    .map(({ key }) => key)
    .filter((key) => asciiLower(key).startsWith('kms:') && !isKnownKmsKey(key));
  return keys.map((key) => ({
    point: `Whether KMS refuses the unknown condition key ${JSON.stringify(key)} on write.`,
    held: 'It is stored, and no request has it.',
    statement: index,
  }));
}

function otherResources({ resources, index }: Statement): OpenPoint[] {
  if (resources === undefined || resources.entries.every((entry) => entry === '*')) return [];
  return [
    {
      point: 'Whether KMS still stores a Resource other than "*".',
      held: "It is stored, and matched strictly against the key's ARN.",
      statement: index,
    },
  ];
}

function hostRegisters({ statements }: Policy): OpenPoint[] {
  const pins = ({ effect, conditions }: Statement) => {
    const registers = conditions.map(({ key }) => asciiLower(key));
    return (
      effect === 'Allow' &&
      registers.some((key) => /:pcr(?:3|4|8)$/.test(key)) &&
      !registers.some((key) => /:(?:pcr[0-2]|imagesha384)$/.test(key))
    );
  };
  const found = statements.find(pins);
  return found === undefined
    ? []
    : [
        {
          point: 'Whether PCR3, PCR4 and PCR8 survive debug mode.',
          held: 'They may: a pin on these alone does not exclude a debug enclave.',
          statement: found.index,
        },
      ];
}

function condition(operatorName: string, key: string, values: readonly string[], line: number): Condition {
  const operator = parseOperator(operatorName);
  if (operator === undefined) throw new TypeError(`no operator ${operatorName}`);
  return { operator, key, values, line };
}

function replaced(policy: Policy, statement: Statement): Policy {
  return {
    ...policy,
    statements: policy.statements.map((one) => (one.index === statement.index ? statement : one)),
  };
}
