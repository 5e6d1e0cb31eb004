/** The verdict in one sentence, for somebody who does not read policies. */
import type { Access, Analysis } from './analysis.ts';
import type { Evidence } from './evidence.ts';
import type { Verdict } from './report.ts';
import type { Judgement } from './verdict.ts';

export function sentenceOf(
  verdict: Verdict,
  analysis: Analysis,
  judgement: Judgement,
  { contradiction }: Evidence,
): string {
  const names = (list: readonly Access[]) => and(list.map(({ caller }) => caller.name));
  const open = analysis.unattested.filter(({ reach }) => reach !== 'account');
  switch (verdict) {
    case 'ONLY_IMAGE':
      return 'Only the reviewed image gets this key, and nobody can change that.';
    case 'ONLY_IMAGE_IF_ADMINS_TRUSTED':
      return `Only the reviewed image gets this key, as long as ${names(analysis.administrators)} does not change the policy.`;
    case 'ONLY_IMAGE_ANY_ACCOUNT':
      return 'Only the reviewed image gets this key, but anybody may run it in an AWS account of their own.';
    case 'SIGNER_ONLY':
      return 'Every image that the same certificate ever signed gets this key, not only the reviewed one.';
    case 'EXTRA_IMAGE':
      return `Not only the reviewed image gets this key: ${and(judgement.otherImages.map(({ attestation }) => attestation.name))} does, too.`;
    case 'WRONG_IMAGE':
      return `The reviewed image does not get this key; ${and(judgement.otherImages.map(({ attestation }) => attestation.name))} does.`;
    case 'WEAK_PIN':
      return 'The policy accepts more images than one, by a pattern.';
    case 'VARIABLE_PIN':
      return 'Whoever sets the tag or value that the policy compares with chooses the image that gets this key.';
    case 'DEBUG':
      return 'An enclave in debug mode, which its host can look into, gets this key.';
    case 'ANY_IMAGE':
      return 'Any image that somebody builds can get this key, not only the reviewed one.';
    case 'SERVICE_PATH':
      return analysis.throughService.length > 0
        ? `${capital(names(analysis.throughService))} gets plaintext through an AWS service, without the enclave.`
        : 'An AWS service decrypts without the enclave, for whoever may use it.';
    case 'DELEGATED_ESCAPE':
      return 'Principals of the account reach the plaintext around the enclave, where an IAM policy lets them.';
    case 'DELEGATED_BYPASS':
      return 'Principals of the account decrypt without the enclave, where an IAM policy lets them.';
    case 'BYPASS': {
      const around = [
        ...open,
        ...judgement.selfAdministrators,
        ...judgement.escapes
          .filter(({ access, byAdministrator }) => !byAdministrator && access.reach !== 'account')
          .map(({ access }) => access),
      ];
      const chained = judgement.chains.map(({ roles }) => `role ${roles[0]}`);
      return `${capital(around.length > 0 ? names(around) : and(chained))} reaches the plaintext without the enclave.`;
    }
    case 'PUBLIC':
      return 'Anybody with an AWS account reaches the plaintext without the enclave.';
    case 'OUT_OF_BAND':
      return 'The policy is sound, but the key material exists, or can be placed, outside of KMS.';
    case 'DEAD':
      return 'Nobody gets this key, not even the reviewed image.';
    case 'MALFORMED':
      return 'AWS refuses this document, or two readers would read it differently, so nothing is said about it.';
    case 'AMBIGUOUS':
      return `Whether only the reviewed image gets this key cannot be decided: ${whyUndecided(analysis, judgement, contradiction)}.`;
  }
}

function whyUndecided(
  { asker }: Analysis,
  { undecided }: Judgement,
  contradiction: string | undefined,
): string {
  if (contradiction !== undefined) return `this report contradicts its own engine (${contradiction})`;
  if (undecided.length > 0) return `${and(undecided.map(({ what }) => what))} would have to be known`;
  return asker.gaveUp
    ? 'it holds more than could be searched to the end'
    : 'it depends on what AWS does not document';
}

function capital(text: string): string {
  return text === '' ? 'Somebody' : `${text.slice(0, 1).toUpperCase()}${text.slice(1)}`;
}

const SHOWN_MAX = 3;

function and(list: readonly string[]): string {
  const unique = [...new Set(list)];
  const shown = unique.slice(0, SHOWN_MAX);
  const rest = unique.length - shown.length;
  const all = rest > 0 ? [...shown, `${rest} more`] : shown;
  return all.length < 2 ? all.join('') : `${all.slice(0, -1).join(', ')} and ${all.at(-1)}`;
}
