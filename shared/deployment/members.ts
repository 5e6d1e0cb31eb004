/** Reads values of the deployment document; each refusal says where it is, what was expected and what was found. */
import { createPublicKey, type KeyObject } from 'node:crypto';
import type { JsonValue } from '../json.ts';
import { DeploymentError } from './errors.ts';

/** Throws DeploymentError for anything but an object with all required members and no unknown one. */
export function members(
  value: JsonValue | undefined,
  at: string,
  shape: { required: readonly string[]; optional: readonly string[] },
): { readonly [name: string]: JsonValue } {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw malformed(at, 'an object', value);
  const object = value as { readonly [name: string]: JsonValue };
  for (const name of Object.keys(object)) {
    if (!shape.required.includes(name) && !shape.optional.includes(name)) {
      throw new DeploymentError('DEPLOYMENT_MALFORMED', `${at} has an unknown member "${name}".`);
    }
  }
  for (const name of shape.required) {
    if (!Object.hasOwn(object, name)) {
      throw new DeploymentError('DEPLOYMENT_MALFORMED', `${at} lacks the member "${name}".`);
    }
  }
  return object;
}

/** Of 1 to `most`. */
export function list(value: JsonValue | undefined, at: string, most: number): readonly JsonValue[] {
  if (!Array.isArray(value) || value.length === 0 || value.length > most) {
    throw malformed(at, `a list of 1 to ${most}`, value);
  }
  return value;
}

export function text(value: JsonValue | undefined, at: string): string {
  if (typeof value !== 'string') throw malformed(at, 'a string', value);
  return value;
}

export function integer(value: JsonValue | undefined, at: string, least: number, most: number): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < least || value > most) {
    throw malformed(at, `an integer from ${least} to ${most}`, value);
  }
  return value;
}

/** Of a signer. */
export function publicKey(value: JsonValue | undefined, at: string): KeyObject {
  const pem = text(value, at);
  try {
    const key = createPublicKey(pem);
    const accepted =
      key.asymmetricKeyType === 'ed25519' ||
      (key.asymmetricKeyType === 'ec' && key.asymmetricKeyDetails?.namedCurve === 'prime256v1');
    if (accepted && /^-----BEGIN PUBLIC KEY-----\n/.test(pem)) return key;
  } catch {}
  throw malformed(at, 'a PEM public key ("BEGIN PUBLIC KEY"), ECDSA P-256 or Ed25519', pem);
}

export function malformed(at: string, expected: string, found: unknown): DeploymentError {
  const shown = found === undefined ? 'nothing' : JSON.stringify(found).slice(0, 120);
  return new DeploymentError('DEPLOYMENT_MALFORMED', `${at}: expected ${expected}, found ${shown}.`);
}
