/** Manifests, indexes and configs, read strictly; members that are not asked for may be there. */
import { type JsonObject, type JsonValue, parseStrictJson } from '../../../shared/json.ts';
import { ContainerImageError } from './errors.ts';

/** OCI distribution-spec: registries take manifests of at least 4 MiB, and builders write no larger ones. */
export const JSON_MAX_BYTES = 4 << 20;

export function json(bytes: Uint8Array, what: string): JsonObject {
  const value = jsonValue(bytes, what);
  if (!isObject(value)) throw form(`${what} is no JSON object`);
  return value;
}

export function jsonValue(bytes: Uint8Array, what: string): JsonValue {
  try {
    return parseStrictJson(bytes, { maxBytes: JSON_MAX_BYTES }).value;
  } catch (cause) {
    throw form(`${what} is not strict JSON: ${cause instanceof Error ? cause.message : cause}`, cause);
  }
}

export function objectIn(object: JsonObject, name: string, what: string): JsonObject {
  const value = object[name];
  if (!isObject(value)) throw form(`${what} has no object ${name}`);
  return value;
}

export function objectsIn(object: JsonObject, name: string, what: string): readonly JsonObject[] {
  const value = object[name];
  if (!Array.isArray(value) || !value.every(isObject)) throw form(`${what} has no list ${name}`);
  return value;
}

export function textIn(object: JsonObject, name: string, what: string): string {
  const value = object[name];
  if (typeof value !== 'string') throw form(`${what} has no text ${name}`);
  return value;
}

export function isObject(value: JsonValue | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

export function form(why: string, cause?: unknown): ContainerImageError {
  return new ContainerImageError('CONTAINER_FORM', `Not a container image to rely on: ${why}.`, cause);
}
