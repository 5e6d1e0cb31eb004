/** Short ways to write policies and requests in the tests of the policy engine. */
import { attestationContext } from '../../../shared/policy/context.ts';
import { decide } from '../../../shared/policy/decide.ts';
import type { CallerIdentity, Decision, Grant, PolicyRequest } from '../../../shared/policy/model.ts';
import { parsePolicy } from '../../../shared/policy/parse.ts';

export const ACCOUNT = '111122223333';
export const KEY_ARN = `arn:aws:kms:eu-central-1:${ACCOUNT}:key/1234abcd-12ab-34cd-56ef-1234567890ab`;
export const PCR0 = 'd9'.repeat(48);
export const OTHER_PCR0 = '6b'.repeat(48);

export const HOST = role('EnclaveHost');
export const OPERATOR = role('Operator');
export const ROOT_USER: CallerIdentity = { arn: `arn:aws:iam::${ACCOUNT}:root`, accountId: ACCOUNT };

export function role(name: string, accountId = ACCOUNT, session = 'i-0abc'): CallerIdentity {
  return {
    arn: `arn:aws:iam::${accountId}:role/${name}`,
    sessionArn: `arn:aws:sts::${accountId}:assumed-role/${name}/${session}`,
    accountId,
  };
}

export function bytesOf(document: unknown): Uint8Array {
  return Buffer.from(typeof document === 'string' ? document : JSON.stringify(document));
}

/** A key policy of the given statements; each starts as an Allow of Decrypt to the host. */
export function keyPolicy(statements: readonly Record<string, unknown>[], version = '2012-10-17'): unknown {
  return {
    Version: version,
    Statement: statements.map((statement) => ({
      Effect: 'Allow',
      ...('NotPrincipal' in statement ? {} : { Principal: { AWS: HOST.arn } }),
      ...('NotAction' in statement ? {} : { Action: 'kms:Decrypt' }),
      ...('NotResource' in statement ? {} : { Resource: '*' }),
      ...statement,
    })),
  };
}

/** Registers of an enclave whose PCR0 is the given hex. */
export function attestedAs(pcr0: string): Map<string, readonly string[]> {
  return attestationContext(new Map([[0, Buffer.from(pcr0, 'hex')]]));
}

export interface Ask extends Partial<PolicyRequest> {
  readonly iam?: readonly unknown[];
  readonly grants?: readonly Grant[];
}

export function ask(document: unknown, { iam = [], grants = [], ...request }: Ask = {}): Decision {
  return decide(
    { principal: HOST, action: 'kms:Decrypt', keyArn: KEY_ARN, ...request },
    {
      keyPolicy: parsePolicy(bytesOf(document), 'key'),
      identityPolicies: iam.map((policy) => parsePolicy(bytesOf(policy), 'identity')),
      grants,
    },
  );
}

/** Whether the host may Decrypt under one Allow statement with the given Condition. */
export function holds(condition: unknown, request: Ask = {}, version?: string): boolean {
  return ask(keyPolicy([{ Condition: condition }], version), request).allowed;
}
