/**
 * Rotation of the KMS key itself: new material under the same ARN. Older ciphertexts keep opening, so a rotation needs
 * nothing to be done to any model; rewrapping is for whoever wants no wrap to rest on the older material. These calls
 * are an administrator's (docs/policy.md section 6).
 */
import {
  DescribeKeyCommand,
  DisableKeyRotationCommand,
  EnableKeyRotationCommand,
  GetKeyRotationStatusCommand,
  paginateListKeyRotations,
  RotateKeyOnDemandCommand,
} from '@aws-sdk/client-kms';
import { abortedBy, checkKmsKey, failed, type KmsKey } from '../kms.ts';
import { DataKeyError } from './errors.ts';

export interface Rotation {
  /** ISO 8601; absent for the key's first material. */
  readonly at?: string;
  readonly type?: string;
  readonly material: string;
  readonly current: boolean;
}

export interface RotationStatus {
  readonly keyArn: string;
  readonly automatic: boolean;
  readonly periodDays?: number;
  readonly next?: string;
  /** When a rotation on demand was asked for that KMS has not carried out yet. */
  readonly underWaySince?: string;
  /** Oldest first. */
  readonly history: readonly Rotation[];
}

export type RotationChange =
  | { readonly kind: 'enable'; readonly periodDays?: number | undefined }
  | { readonly kind: 'disable' }
  /** KMS allows 25 of these in a key's life. */
  | { readonly kind: 'now' };

/** Throws OWNER_KMS_REFUSED and its kin, OWNER_KEY_UNUSABLE. */
export async function changeRotation(
  { client, keyArn }: KmsKey,
  change: RotationChange,
  signal?: AbortSignal,
): Promise<void> {
  await checkKmsKey({ client, keyArn }, signal);
  const options = abortedBy(signal);
  if (change.kind === 'enable') {
    const { periodDays } = change;
    const period = periodDays === undefined ? {} : { RotationPeriodInDays: periodDays };
    await client
      .send(new EnableKeyRotationCommand({ KeyId: keyArn, ...period }), options)
      .catch((cause: unknown) => failed(keyArn, 'EnableKeyRotation', cause, signal));
  } else if (change.kind === 'disable') {
    await client
      .send(new DisableKeyRotationCommand({ KeyId: keyArn }), options)
      .catch((cause: unknown) => failed(keyArn, 'DisableKeyRotation', cause, signal));
  } else {
    await client
      .send(new RotateKeyOnDemandCommand({ KeyId: keyArn }), options)
      .catch((cause: unknown) => failed(keyArn, 'RotateKeyOnDemand', cause, signal));
  }
}

/** Throws OWNER_KMS_REFUSED and its kin, ROTATION_UNREADABLE. */
export async function rotationStatus(
  { client, keyArn }: KmsKey,
  signal?: AbortSignal,
): Promise<RotationStatus> {
  const status = await client
    .send(new GetKeyRotationStatusCommand({ KeyId: keyArn }), abortedBy(signal))
    .catch((cause: unknown) => failed(keyArn, 'GetKeyRotationStatus', cause, signal));
  if (status.KeyRotationEnabled === undefined) {
    throw new DataKeyError('ROTATION_UNREADABLE', `KMS does not say whether ${keyArn} is rotated.`);
  }
  return {
    keyArn,
    automatic: status.KeyRotationEnabled,
    ...(status.RotationPeriodInDays === undefined ? {} : { periodDays: status.RotationPeriodInDays }),
    ...dateMember('next', status.NextRotationDate),
    ...dateMember('underWaySince', status.OnDemandRotationStartDate),
    history: await historyOf({ client, keyArn }, signal),
  };
}

/** The id of the material that wraps at present, where KMS tells it; sealers may ask this. */
export async function newestMaterial(
  { client, keyArn }: KmsKey,
  signal?: AbortSignal,
): Promise<string | undefined> {
  const { KeyMetadata } = await client
    .send(new DescribeKeyCommand({ KeyId: keyArn }), abortedBy(signal))
    .catch((cause: unknown) => failed(keyArn, 'DescribeKey', cause, signal));
  return KeyMetadata?.CurrentKeyMaterialId;
}

async function historyOf({ client, keyArn }: KmsKey, signal?: AbortSignal): Promise<Rotation[]> {
  const history: Rotation[] = [];
  try {
    const pages = paginateListKeyRotations(
      { client: client as never },
      { KeyId: keyArn, IncludeKeyMaterial: 'ALL_KEY_MATERIAL' },
      abortedBy(signal),
    );
    for await (const { Rotations = [] } of pages) {
      for (const { RotationDate, RotationType, KeyMaterialId = '', KeyMaterialState } of Rotations) {
        history.push({
          ...dateMember('at', RotationDate),
          ...(RotationType === undefined ? {} : { type: RotationType }),
          material: KeyMaterialId,
          current: KeyMaterialState === 'CURRENT',
        });
      }
    }
  } catch (cause) {
    failed(keyArn, 'ListKeyRotations', cause, signal);
  }
  return history.sort((a, b) => (a.at ?? '').localeCompare(b.at ?? ''));
}

function dateMember<Name extends string>(
  name: Name,
  date: Date | undefined,
): { readonly [key in Name]?: string } {
  return (date === undefined ? {} : { [name]: date.toISOString() }) as { readonly [key in Name]?: string };
}
