/**
 * Whether deployments can still start with the wraps that a model is about to have. An enclave opens a model with the
 * first KMS key of its deployment that also has a wrap (docs/deployment.md); if there is none it never starts, and
 * since the deployment is measured, nothing but another deployment would help it.
 */
import type { Deployment } from '../../shared/deployment/deployment.ts';
import type { Head } from '../../shared/sealed-model/head.ts';
import { DataKeyError } from './errors.ts';

export interface NamedDeployment {
  /** What the report calls it, usually its path. */
  readonly name: string;
  readonly deployment: Deployment;
}

export type DeploymentVerdict =
  | { readonly deployment: string; readonly concerns: false; readonly why: string }
  | {
      readonly deployment: string;
      readonly concerns: true;
      /** The key that its enclaves ask for. */
      readonly opensWith: string;
      /** The key that they asked for until now; absent if they could not start. */
      readonly openedWith?: string;
      /** New wraps that this deployment cannot use, since it does not list their keys. */
      readonly unused: readonly string[];
    };

/** Throws REWRAP_WOULD_STRAND if a deployment of this model would find no wrap that it may use. */
export function expectNotStranded(
  { identity, contentId }: Pick<Head, 'identity' | 'contentId'>,
  wrapsUnder: { readonly before: readonly string[]; readonly after: readonly string[] },
  deployments: readonly NamedDeployment[],
): readonly DeploymentVerdict[] {
  const before = new Set(wrapsUnder.before);
  const after = new Set(wrapsUnder.after);
  const added = [...after].filter((arn) => !before.has(arn));
  return deployments.map(({ name, deployment }) => {
    const why = whyNot(deployment, identity, Buffer.from(contentId).toString('hex'));
    if (why !== undefined) return { deployment: name, concerns: false, why };
    const listed = deployment.kmsKeys.map(({ arn }) => arn);
    const opensWith = listed.find((arn) => after.has(arn));
    if (opensWith === undefined) {
      throw new DataKeyError(
        'REWRAP_WOULD_STRAND',
        `${name} could not start any more: it lists ${listed.join(', ')}, and ${identity.name} would have wraps under ${[...after].join(', ')}.`,
      );
    }
    const openedWith = listed.find((arn) => before.has(arn));
    return {
      deployment: name,
      concerns: true,
      opensWith,
      ...(openedWith === undefined ? {} : { openedWith }),
      unused: added.filter((arn) => !listed.includes(arn)),
    };
  });
}

/** Why a deployment does not load this model; undefined if it does. */
function whyNot(
  { models }: Deployment,
  { name, version }: Head['identity'],
  contentId: string,
): string | undefined {
  const pin = models.find((model) => model.name === name);
  if (pin === undefined) return `does not name ${name}`;
  if (pin.kind === 'content' && pin.contentId !== contentId) return `pins another content id of ${name}`;
  if (pin.kind === 'signer' && version < pin.minimumVersion) {
    return `wants ${name} in version ${pin.minimumVersion} or newer`;
  }
  return undefined;
}
