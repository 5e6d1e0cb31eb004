/** Actions of statements against actions of KMS (the table is kms-data.ts). Names are compared without case. */
import { asciiLower, globMatches } from './glob.ts';
import { KMS_ACTIONS, type KmsAction } from './kms-data.ts';
import type { Negatable } from './model.ts';

const BY_LOWER_NAME: ReadonlyMap<string, KmsAction> = new Map(
  KMS_ACTIONS.map((action) => [asciiLower(`kms:${action.name}`), action]),
);

/** The action's row, or undefined if KMS has no such action. */
export function kmsAction(action: string): KmsAction | undefined {
  return BY_LOWER_NAME.get(asciiLower(action));
}

/**
 * Whether key policies decide the action. Those without a key, such as kms:GenerateRandom, are IAM's alone. An
 * unknown action counts as governed: then somebody must have allowed it in the key policy.
 */
export function isGovernedByKeyPolicy(action: string): boolean {
  return kmsAction(action)?.onKey ?? true;
}

/** Whether a call can carry an attestation document, so that kms:RecipientAttestation keys can exist. */
export function isAttestable(action: string): boolean {
  return kmsAction(action)?.attestable ?? false;
}

export function matchesActions(actions: Negatable<string>, action: string): boolean {
  const name = asciiLower(action);
  return actions.entries.some((pattern) => matchesAction(pattern, name)) !== actions.negated;
}

function matchesAction(pattern: string, lowerName: string): boolean {
  return globMatches(pattern === '*:*' ? '*' : asciiLower(pattern), lowerName);
}

/** Every KMS action that the element covers, as `kms:Name`, in the table's order. */
export function expandActions(actions: Negatable<string>): string[] {
  return KMS_ACTIONS.map((action) => `kms:${action.name}`).filter((name) => matchesActions(actions, name));
}
