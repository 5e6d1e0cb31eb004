/**
 * Whether a caller may do what it asks, by the engine that the policy reviewer uses too (docs/policy.md). What
 * the engine cannot know is added here: facts of the connection, the key and the operation's parameters.
 */
import { attestationContext, timeContext } from '../../shared/policy/context.ts';
import { decide } from '../../shared/policy/decide.ts';
import type { Decision, Policy } from '../../shared/policy/model.ts';
import { parsePolicy } from '../../shared/policy/parse.ts';
import type { Call } from './call.ts';
import { KmsException } from './exception.ts';
import type { SimulatedKey } from './keys.ts';
import type { Recipient } from './recipient.ts';

export interface Question {
  /** Absent for operations without a key, CreateKey and GenerateRandom: they are IAM's alone. */
  readonly key?: SimulatedKey;
  /** The resource in a key's place: an alias has no policy, so it is IAM's alone too. */
  readonly aliasArn?: string;
  readonly encryptionContext?: ReadonlyMap<string, string>;
  readonly recipient?: Recipient | undefined;
  /** Condition keys that only this operation has. */
  readonly context?: Readonly<Record<string, readonly string[]>>;
}

/** Never asked for anything: the engine consults no key policy where there is no key. */
const NO_KEY_POLICY = parsePolicy(
  Buffer.from(
    '{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":"*","Action":"kms:*","Resource":"*"}]}',
  ),
  'key',
);

/** Throws AccessDeniedException with AWS's text; the explanation goes to the side channel. */
export function authorize(call: Call, question: Question, operation = call.operation): void {
  const decision = decideCall(call, question, { operation });
  call.note.explanation = decision.explanation;
  if (!decision.allowed) throw accessDenied(decision);
}

export function accessDenied(decision: Pick<Decision, 'message' | 'explanation'>): KmsException {
  return new KmsException('AccessDeniedException', decision.message, {
    textMember: 'Message',
    explanation: decision.explanation,
  });
}

/** `operation` and `keyPolicy` are other than the call's own where a rule asks about a later call. */
export function decideCall(
  call: Call,
  question: Question,
  other: {
    readonly operation?: string;
    readonly keyPolicy?: Policy;
    readonly keyArn?: string;
    readonly grants?: 'ignored';
  } = {},
): Decision {
  const { key, encryptionContext, recipient } = question;
  return decide(
    {
      principal: call.caller.identity,
      action: `kms:${other.operation ?? call.operation}`,
      keyArn: key?.arn ?? question.aliasArn ?? other.keyArn ?? '*',
      context: new Map([
        ...connectionContext(call),
        ...(key === undefined ? [] : keyContext(key)),
        ...(recipient === undefined ? [] : attestationContext(recipient.pcrs)),
        ...Object.entries(question.context ?? {}),
      ]),
      ...(encryptionContext === undefined ? {} : { encryptionContext }),
    },
    {
      keyPolicy: other.keyPolicy ?? key?.policy ?? NO_KEY_POLICY,
      identityPolicies: call.caller.identityPolicies,
      grants:
        key === undefined || other.grants === 'ignored'
          ? []
          : [...key.grants.values()].map(({ grant }) => grant),
    },
  );
}

function connectionContext({ at, world, sourceIp, userAgent }: Call): [string, readonly string[]][] {
  return [
    ['aws:SecureTransport', ['true']],
    ['aws:SourceIp', [sourceIp]],
    ['aws:UserAgent', [userAgent]],
    ['aws:RequestedRegion', [world.region]],
    ...timeContext(new Date(Math.floor(at.getTime() / 1000) * 1000)),
  ];
}

function keyContext(key: SimulatedKey): [string, string[]][] {
  return [
    ['kms:KeySpec', ['SYMMETRIC_DEFAULT']],
    ['kms:KeyUsage', ['ENCRYPT_DECRYPT']],
    ['kms:KeyOrigin', ['AWS_KMS']],
    ['kms:MultiRegion', [String(key.multiRegion)]],
  ];
}
