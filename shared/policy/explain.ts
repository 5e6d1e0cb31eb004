/**
 * Denials in words. AWS answers AccessDeniedException without saying which condition failed; whoever debugs an
 * attestation policy needs exactly that.
 */
import { isAttestable } from './actions.ts';
import type { Evaluated } from './decide.ts';
import type { GrantOutcome } from './grants.ts';
import type { Grant, PolicyRequest } from './model.ts';
import type { RequestContext } from './variables.ts';

/** The text of AccessDeniedException as AWS writes it. */
export function deniedMessage({ principal, action, keyArn }: PolicyRequest, because: string): string {
  const caller = principal.sessionArn ?? principal.arn;
  return `User: ${caller} is not authorized to perform: ${action} on resource: ${keyArn} ${because}`;
}

/** `key policy, statement "Enclave" (line 4)`. */
export function labelOf({ policy, outcome: { statement } }: Evaluated): string {
  return `${policy}, statement "${statement.sid ?? `#${statement.index}`}" (line ${statement.line})`;
}

export interface DenialFacts {
  readonly request: PolicyRequest;
  readonly context: RequestContext;
  readonly inKeyPolicy: readonly Evaluated[];
  readonly inIam: readonly Evaluated[];
  readonly grants: readonly { readonly grant: Grant; readonly outcome: GrantOutcome }[];
  readonly governed: boolean;
  readonly ownAccount: boolean;
}

export function explainDenial(facts: DenialFacts): string[] {
  const { request, context, inKeyPolicy, inIam, grants, governed, ownAccount } = facts;
  const { action } = request;
  const lines: string[] = [];
  const wouldAllow = (list: readonly Evaluated[]) =>
    list.filter(({ outcome }) => outcome.statement.effect === 'Allow' && outcome.actionMatches);

  const candidates = wouldAllow(inKeyPolicy);
  for (const item of candidates) {
    if (!item.outcome.applies) lines.push(`${labelOf(item)} would allow it, but ${item.outcome.describe()}.`);
    else if (ownAccount) {
      lines.push(
        `${labelOf(item)} leaves it to IAM of the account, but no IAM policy of the caller allows ${action}.`,
      );
    } else {
      lines.push(
        `${labelOf(item)} admits the caller, but no IAM policy of the caller's own account allows ${action}.`,
      );
    }
  }
  for (const { grant, outcome } of grants) {
    if (outcome.applies)
      lines.push(`grant ${grant.grantId} would allow it, but no IAM policy of the caller allows ${action}.`);
    else if (outcome.why !== '') lines.push(`grant ${grant.grantId} would allow it, but ${outcome.why}.`);
  }
  for (const item of inKeyPolicy) {
    if (item.outcome.statement.actions === undefined || item.outcome.statement.resources === undefined) {
      lines.push(`${labelOf(item)} ${item.outcome.describe()}.`);
    }
  }
  if (governed && candidates.length === 0)
    lines.push(`No statement of the key policy allows ${action} to anybody.`);
  for (const item of wouldAllow(inIam)) {
    if (!item.outcome.applies) lines.push(`${labelOf(item)} would allow it, but ${item.outcome.describe()}.`);
    else lines.push(`${labelOf(item)} allows it, but the key policy does not hand ${action} to IAM.`);
  }
  if (!governed)
    lines.push(`${action} has no key: key policies do not govern it, an IAM policy must allow it.`);
  const attested = [...context.keys()].some((key) => key.startsWith('kms:recipientattestation:'));
  if (isAttestable(action) && !attested) {
    lines.push('The request carried no attestation document, so no kms:RecipientAttestation key exists.');
  }
  return lines;
}
