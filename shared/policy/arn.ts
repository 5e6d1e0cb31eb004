/** The ARNs that name callers and keys (IAM user guide, "IAM identifiers"; KMS developer guide, "Key identifiers"). */

const PARTITION = 'aws(?:-[a-z]+)*';
const ACCOUNT = '\\d{12}';
// Letters, digits and +=,.@_- in names; a path is a run of / and printable ASCII.
const NAME = '[A-Za-z0-9+=,.@_-]+';
const PATHED = `(?:[\\x21-\\x29\\x2b-\\x3e\\x40-\\x7e]*/)?${NAME}`;

const ACCOUNT_ROOT = new RegExp(`^arn:${PARTITION}:iam::(${ACCOUNT}):root$`);
const IDENTITY = new RegExp(
  `^arn:${PARTITION}:(?:iam::(${ACCOUNT}):(?:user|role)/${PATHED}` +
    `|sts::(${ACCOUNT}):(?:assumed-role/${NAME}/${NAME}|federated-user/${NAME}))$`,
);
const ROLE = new RegExp(`^arn:${PARTITION}:iam::${ACCOUNT}:role/${PATHED}$`);
const ALIAS = new RegExp(`^arn:${PARTITION}:kms:[a-z0-9-]+:${ACCOUNT}:alias/[A-Za-z0-9/_-]+$`);
const KEY = new RegExp(`^arn:(${PARTITION}):kms:([a-z0-9-]+):(${ACCOUNT}):key/[A-Za-z0-9-]+$`);

/** The account of `arn:aws:iam::ACCOUNT:root`, else undefined. */
export function accountOfRootArn(arn: string): string | undefined {
  return ACCOUNT_ROOT.exec(arn)?.[1];
}

/** The account of a user, role, role session or federated user ARN, else undefined. */
export function accountOfIdentityArn(arn: string): string | undefined {
  const match = IDENTITY.exec(arn);
  return match?.[1] ?? match?.[2];
}

/** An IAM role by its whole ARN: no session, no wildcard. */
export function isRoleArn(arn: string): boolean {
  return ROLE.test(arn);
}

export function isAliasArn(arn: string): boolean {
  return ALIAS.test(arn);
}

export interface KeyArn {
  readonly partition: string;
  readonly region: string;
  readonly accountId: string;
}

export function parseKeyArn(arn: string): KeyArn | undefined {
  const match = KEY.exec(arn);
  if (match === null) return undefined;
  return { partition: match[1] ?? '', region: match[2] ?? '', accountId: match[3] ?? '' };
}

/** `EnclaveHost` of `…:role/path/EnclaveHost` or `…:assumed-role/EnclaveHost/i-0abc`. */
export function nameInArn(arn: string): string {
  const path = arn.slice(arn.lastIndexOf(':') + 1).split('/');
  return (path[0] === 'assumed-role' ? path[1] : path.at(-1)) ?? '';
}
