/**
 * An ENVMODEL's metadata as KMS encryption context. KMS takes a map of strings (AWS KMS API reference, Decrypt,
 * EncryptionContext) of at most 8192 characters (KMS developer guide, "Quotas"); what it could not have accepted
 * when the file was written, it is not asked to accept now.
 */
import { LegacyError } from './errors.ts';
import type { PythonDict, PythonValue } from './python-loads.ts';

const CONTEXT_MAX_CHARACTERS = 8192;

/** What KMS would not accept about the metadata, by name; undefined if it is an encryption context. */
export function faultOfContext(metadata: PythonDict): string | undefined {
  let characters = 0;
  for (const [name, value] of metadata) {
    const shown = JSON.stringify(name.length > 64 ? `${name.slice(0, 64)}…` : name);
    if (typeof value !== 'string') return `${shown} is ${kindOf(value)}, not a string`;
    if (!name.isWellFormed() || !value.isWellFormed()) return `${shown} has a lone surrogate`;
    if (name === '__proto__') return '"__proto__" is not a name that can be sent';
    characters += name.length + value.length;
  }
  if (characters <= CONTEXT_MAX_CHARACTERS) return undefined;
  return `it has ${characters} characters, more than ${CONTEXT_MAX_CHARACTERS}`;
}

/** Throws LEGACY_CONTEXT_IMPOSSIBLE. */
export function encryptionContextOf(metadata: PythonDict): Record<string, string> {
  const fault = faultOfContext(metadata);
  if (fault !== undefined) {
    throw new LegacyError(
      'LEGACY_CONTEXT_IMPOSSIBLE',
      `KMS could not have accepted this metadata: ${fault}.`,
    );
  }
  return Object.fromEntries(metadata) as Record<string, string>;
}

function kindOf(value: PythonValue): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'boolean') return 'a boolean';
  return typeof value === 'object' ? 'an object' : 'a number';
}
