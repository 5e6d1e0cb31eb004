/** From what was found to be reachable to one verdict (docs/policy-review.md section 3). */
import type { Access, Analysis, AttestedAccess, GrantEscape } from './analysis.ts';
import { isBuildable, sourceKey } from './analysis.ts';
import { IMAGE_REGISTERS, registerOfKey } from './attestation-keys.ts';
import { type Chain, chainsOf } from './chains.ts';
import { VERDICTS, type Verdict } from './report.ts';
import { isMultiRegion } from './requests/world.ts';

/** Ways around the enclave that a principal may take itself, one step each. */
export interface Escape {
  readonly kind: 'grant' | 'reencrypt' | 'replica';
  readonly access: Access | GrantEscape;
  /** Of a principal that may edit the policy anyway, and is trusted for that. */
  readonly byAdministrator: boolean;
}

export interface Judgement {
  readonly verdict: Verdict;
  readonly escapes: readonly Escape[];
  readonly chains: readonly Chain[];
  /** Hosts of the enclave that can edit the policy themselves. */
  readonly selfAdministrators: readonly Access[];
  /** Attested access that is not merely what unattested access of the same kind gives anyhow. */
  readonly otherImages: readonly AttestedAccess[];
  /** Where more had to be supplied: the verdict if the answer is the bad one. */
  readonly undecided: readonly { readonly what: string; readonly otherwise: Verdict }[];
}

export function judge(analysis: Analysis): Judgement {
  const { world, unattested, throughService, reviewed, administrators, primaryAction } = analysis;
  const escapes = escapesOf(analysis);
  const chains = chainsOf(analysis, escapes);
  const selfAdministrators = administrators.filter(
    ({ caller, reach }) =>
      (caller.isHost && (reach !== 'account' || caller.iamFrom === 'supplied')) ||
      (reach === 'direct' && !caller.isNamed),
  );
  const otherImages = otherImagesOf(analysis);
  const reached = new Set<Verdict>();
  for (const { caller, reach } of unattested) {
    reached.add(caller.isStranger ? 'PUBLIC' : reach === 'account' ? 'DELEGATED_BYPASS' : 'BYPASS');
  }
  for (const { access, byAdministrator } of escapes) {
    if (access.caller.isStranger) reached.add('PUBLIC');
    else if (access.reach === 'account') reached.add('DELEGATED_ESCAPE');
    else if (!byAdministrator) reached.add('BYPASS');
  }
  if (administrators.some(({ caller }) => caller.isStranger)) reached.add('PUBLIC');
  if (selfAdministrators.length > 0 || chains.some(({ opens }) => opens === 'host')) reached.add('BYPASS');
  if (chains.some(({ opens }) => opens === 'anybody')) reached.add('PUBLIC');
  if (throughService.length > 0 || analysis.serviceStatements.length > 0) reached.add('SERVICE_PATH');
  const worksReviewed = reviewed.length > 0;
  for (const access of otherImages) reached.add(verdictOfImage(access, worksReviewed));
  const anyWorks = worksReviewed || otherImages.length > 0;
  if (primaryAction === undefined || !anyWorks) reached.add('DEAD');
  if (isOutside(analysis)) reached.add('OUT_OF_BAND');
  if (reviewed.some(({ caller }) => caller.isStranger)) reached.add('ONLY_IMAGE_ANY_ACCOUNT');
  reached.add(administrators.length > 0 ? 'ONLY_IMAGE_IF_ADMINS_TRUSTED' : 'ONLY_IMAGE');
  const verdict = worstOf(reached);
  return {
    verdict,
    escapes,
    chains,
    selfAdministrators,
    otherImages,
    undecided: undecidedOf(analysis, reached, world.reviewed.length > 0),
  };
}

export function worstOf(verdicts: ReadonlySet<Verdict>): Verdict {
  return VERDICTS.find((verdict) => verdicts.has(verdict)) ?? 'AMBIGUOUS';
}

function verdictOfImage({ attestation, byCopy, source }: AttestedAccess, worksReviewed: boolean): Verdict {
  if (byCopy) return 'VARIABLE_PIN';
  if (isBuildable(attestation.kind)) return 'ANY_IMAGE';
  switch (attestation.kind) {
    case 'debug':
      return 'DEBUG';
    case 'debug-populated':
      return asksForImage(source) ? 'DEBUG' : 'ONLY_IMAGE';
    case 'pattern-image':
      return 'WEAK_PIN';
    case 'same-signer':
      return 'SIGNER_ONLY';
    case 'reviewed-elsewhere':
      return 'ONLY_IMAGE';
    default:
      return worksReviewed ? 'EXTRA_IMAGE' : 'WRONG_IMAGE';
  }
}

/** Whether a statement names a register of the image's content, so that a zero there is a debug enclave. */
export function asksForImage(source: AttestedAccess['source']): boolean {
  return (
    source.kind === 'statement' &&
    source.statement.conditions.some(({ key }) => {
      const register = registerOfKey(key) ?? '';
      return (IMAGE_REGISTERS as readonly string[]).includes(register);
    })
  );
}

/**
 * Other images than the reviewed one. What a caller gets without any document says nothing about images; neither does
 * what IAM gets through the account where IAM needs no document.
 */
function otherImagesOf({ attested, unattested }: Analysis): AttestedAccess[] {
  const delegated = unattested.some(({ reach }) => reach === 'account');
  return attested.filter((access) => {
    if (access.attestation.kind === 'reviewed-elsewhere') return false;
    if (access.reach === 'account' && delegated) return false;
    return !unattested.some(
      (one) =>
        one.caller.identity.arn === access.caller.identity.arn &&
        sourceKey(one.source) === sourceKey(access.source),
    );
  });
}

function escapesOf(analysis: Analysis): Escape[] {
  const { administrators, grantEscapes, reEncryptEscapes, replications, world } = analysis;
  // A host that may edit the policy is no administrator that anybody chose to trust.
  const trusted = new Set(
    administrators
      .filter(({ caller, reach }) => reach !== 'account' && !caller.isHost && caller.isNamed)
      .map(({ caller }) => caller.identity.arn),
  );
  const of = (kind: Escape['kind'], list: readonly Access[]): Escape[] =>
    list.map((access) => ({
      kind,
      access,
      byAdministrator: trusted.has(access.caller.identity.arn) && access.reach !== 'account',
    }));
  return [
    ...of('grant', grantEscapes),
    ...of('reencrypt', reEncryptEscapes),
    ...(isMultiRegion(world) === true ? of('replica', replications) : []),
  ];
}

/** Whether somebody outside KMS may hold the key material, or put it there. */
export function isOutside({ world }: Analysis): boolean {
  const { origin, customKeyStoreId } = world.metadata;
  return (origin !== undefined && origin !== 'AWS_KMS') || customKeyStoreId !== undefined;
}

/** What would change the verdict, had it been supplied. */
function undecidedOf(
  { world, replications, administrators }: Analysis,
  reached: ReadonlySet<Verdict>,
  hasImage: boolean,
): Judgement['undecided'] {
  const undecided: { what: string; otherwise: Verdict }[] = [];
  const before = worstOf(reached);
  const consider = (what: string, otherwise: Verdict) => {
    if (VERDICTS.indexOf(otherwise) < VERDICTS.indexOf(before)) undecided.push({ what, otherwise });
  };
  // What was found without it stands: somebody who needs no document, or any.
  if (!hasImage && VERDICTS.indexOf(before) >= VERDICTS.indexOf('DEAD')) {
    undecided.push({ what: 'the measurements of the reviewed image', otherwise: 'WRONG_IMAGE' });
  }
  if (isMultiRegion(world) === undefined) {
    const trusted = new Set(administrators.map(({ caller }) => caller.identity.arn));
    for (const { caller, reach } of replications) {
      if (caller.isStranger) consider('whether the key is multi-Region', 'PUBLIC');
      else if (reach === 'account') consider('whether the key is multi-Region', 'DELEGATED_ESCAPE');
      else if (caller.isHost || !trusted.has(caller.identity.arn))
        consider('whether the key is multi-Region', 'BYPASS');
    }
  }
  return undecided;
}
