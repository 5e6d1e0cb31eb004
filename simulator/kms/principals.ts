/** Who may call: IAM as far as the simulated KMS knows it. */
import type { CallerIdentity, Policy } from '../../shared/policy/model.ts';
import { parsePolicy } from '../../shared/policy/parse.ts';
import type { Credentials } from './signature.ts';

export interface SimulatedPrincipal extends Credentials {
  /** `arn:aws:iam::ACCOUNT:role/NAME`, `…:user/NAME` or `…:root`. */
  readonly arn: string;
  /** Roles only: the session's name. For an instance role it is the instance id. */
  readonly sessionName?: string;
  /** IAM policy documents, as JSON text or as the value. */
  readonly iamPolicies?: readonly (string | object)[];
  readonly tags?: Readonly<Record<string, string>>;
}

export interface Caller extends Credentials {
  readonly identity: CallerIdentity;
  readonly identityPolicies: readonly Policy[];
}

const DEFAULT_SESSION_NAME = 'simulation';
const PRINCIPAL_ARN = /^arn:aws:iam::([0-9]{12}):(root|role\/(?:.+\/)?([^/]+)|user\/.+)$/;

/** Throws TypeError on a malformed ARN or an access key given twice, PolicyError on a malformed policy. */
export function callersByAccessKey(principals: readonly SimulatedPrincipal[]): ReadonlyMap<string, Caller> {
  const callers = new Map<string, Caller>();
  for (const principal of principals) {
    if (callers.has(principal.accessKeyId)) {
      throw new TypeError(`the access key ${principal.accessKeyId} belongs to two principals`);
    }
    callers.set(principal.accessKeyId, asCaller(principal));
  }
  return callers;
}

function asCaller(principal: SimulatedPrincipal): Caller {
  const { arn, sessionName, iamPolicies = [], tags, ...credentials } = principal;
  const match = PRINCIPAL_ARN.exec(arn);
  if (match === null) throw new TypeError(`expected the ARN of a role, user or root, found ${arn}`);
  const [, accountId, , roleName] = match as unknown as [string, string, string, string | undefined];
  const session = `arn:aws:sts::${accountId}:assumed-role/${roleName}/${sessionName ?? DEFAULT_SESSION_NAME}`;
  return {
    ...credentials,
    identity: {
      arn,
      accountId,
      ...(roleName === undefined ? {} : { sessionArn: session }),
      ...(tags === undefined ? {} : { tags: new Map(Object.entries(tags)) }),
    },
    identityPolicies: iamPolicies.map((document) => {
      const text = typeof document === 'string' ? document : JSON.stringify(document);
      return parsePolicy(Buffer.from(text, 'utf8'), 'identity');
    }),
  };
}
