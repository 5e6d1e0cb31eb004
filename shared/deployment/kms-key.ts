import { DeploymentError } from './errors.ts';

/** A KMS key, taken apart so that the one host that may be asked for it is computed and never configured. */
export interface KmsKey {
  readonly arn: string;
  readonly region: string;
  readonly accountId: string;
  readonly keyId: string;
  /** The regional endpoint: `kms.REGION.amazonaws.com`. */
  readonly host: string;
}

/*
 * Key ARNs only (AWS KMS developer guide, "Key identifiers"): an alias can be pointed elsewhere by whoever
 * holds kms:UpdateAlias. The commercial partition only: GovCloud and China have other attestation roots.
 */
const KEY_ARN =
  /^arn:aws:kms:([a-z]{2}(?:-[a-z]+)+-[0-9]{1,2}):([0-9]{12}):key\/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|mrk-[0-9a-f]{32})$/;

/** Throws DeploymentError `KMS_KEY_ARN_INVALID` for anything but a full key ARN. */
export function parseKmsKeyArn(arn: string): KmsKey {
  const match = KEY_ARN.exec(arn);
  if (match === null) {
    throw new DeploymentError(
      'KMS_KEY_ARN_INVALID',
      `Expected a key ARN such as arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab, found ${JSON.stringify(arn.slice(0, 120))}.`,
    );
  }
  const [, region, accountId, keyId] = match as unknown as [string, string, string, string];
  return { arn, region, accountId, keyId, host: `kms.${region}.amazonaws.com` };
}
