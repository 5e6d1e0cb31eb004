/**
 * EnableKeyRotation, DisableKeyRotation, GetKeyRotationStatus, ListKeyRotations, RotateKeyOnDemand (AWS KMS API
 * reference, the pages of these names). None of them takes an alias. AWS rotates in the background, some time after
 * it is asked to; here it is done at once.
 */
import { authorize } from '../authorize.ts';
import { type Answer, type Call, keyOnly, wireTime } from '../call.ts';
import { KmsException } from '../exception.ts';
import { currentMaterial, daysAfter, type KeyMaterial, type SimulatedKey } from '../keys.ts';
import { pageOf } from './common.ts';

const PERIOD_DAYS = { min: 90, max: 2560, usual: 365 };
/** KMS API reference, RotateKeyOnDemand. */
const ON_DEMAND_MAX = 25;

export function enableKeyRotation(call: Call): Answer {
  const { input, note, at } = call;
  const key = keyOnly(call, 'KeyId');
  const periodDays = input.integer('RotationPeriodInDays', PERIOD_DAYS) ?? PERIOD_DAYS.usual;
  input.end();
  note.requestParameters = { keyId: key.arn, rotationPeriodInDays: periodDays };
  authorize(call, { key, context: { 'kms:RotationPeriodInDays': [String(periodDays)] } });
  key.rotation = { periodDays, next: daysAfter(at, periodDays) };
  return {};
}

export function disableKeyRotation(call: Call): Answer {
  simpleRequest(call).rotation = undefined;
  return {};
}

export function getKeyRotationStatus(call: Call): Answer {
  const key = simpleRequest(call);
  return {
    KeyId: key.id,
    KeyRotationEnabled: key.rotation !== undefined,
    ...(key.rotation === undefined
      ? {}
      : {
          RotationPeriodInDays: key.rotation.periodDays,
          NextRotationDate: wireTime(key.rotation.next),
        }),
  };
}

export function listKeyRotations(call: Call): Answer {
  const { input, note } = call;
  const key = keyOnly(call, 'KeyId');
  const include = input.oneOf('IncludeKeyMaterial', ['ALL_KEY_MATERIAL', 'ROTATIONS_ONLY']);
  const page = pageOf(call, { most: 1000, usual: 100 });
  input.end();
  note.requestParameters = { keyId: key.arn };
  authorize(call, { key });
  const listed = key.materials.filter(
    ({ rotated }) => rotated !== undefined || include === 'ALL_KEY_MATERIAL',
  );
  return page(
    'Rotations',
    listed,
    ({ id }) => id,
    (material) => shown(key, material),
  );
}

export function rotateKeyOnDemand(call: Call): Answer {
  const key = simpleRequest(call);
  if (key.materials.filter(({ rotated }) => rotated?.type === 'ON_DEMAND').length >= ON_DEMAND_MAX) {
    throw new KmsException(
      'LimitExceededException',
      `The maximum of ${ON_DEMAND_MAX} on-demand rotations of this key has been reached.`,
    );
  }
  call.world.keys.rotate(key, 'ON_DEMAND', call.at);
  return { KeyId: key.id };
}

function simpleRequest(call: Call): SimulatedKey {
  const key = keyOnly(call, 'KeyId');
  call.input.end();
  call.note.requestParameters = { keyId: key.arn };
  authorize(call, { key });
  return key;
}

function shown(key: SimulatedKey, { id, rotated }: KeyMaterial): Answer {
  return {
    KeyId: key.id,
    KeyMaterialId: id,
    KeyMaterialState: id === currentMaterial(key).id ? 'CURRENT' : 'NON_CURRENT',
    ...(rotated === undefined ? {} : { RotationDate: wireTime(rotated.at), RotationType: rotated.type }),
  };
}
