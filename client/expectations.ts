/**
 * What a caller expects of an enclave (docs/evidence.md section 6). Nothing is assumed: PCR0, which is the
 * image, and PCR16, which is the deployment, must be given or spelled "any"; an expectation that is empty,
 * all-zero or unknown is an error before any connection is opened.
 */
import { awsNitroAnchor, simulationAnchor, type TrustAnchor } from '../shared/attestation/anchors.ts';
import type { PcrExpectation, PcrExpectations } from '../shared/attestation/expect.ts';
import { PCR_COUNT } from '../shared/pcr.ts';
import { ClientError } from './errors.ts';

export interface ClientExpectations {
  /** By register: 96 hex digits, a list of such values of which one must match, or "any". 0 and 16 are required. */
  readonly pcrs: PcrExpectations;
  /** How old the evidence may be; five minutes unless given. Its nonce is fresh in any case. */
  readonly maxAgeMs?: number;
  /** Models that must be loaded; others may be loaded too. */
  readonly models?: readonly ExpectedModel[];
  /** The root certificate of a simulation, PEM or DER. With it, evidence of AWS is refused. */
  readonly simulationRoot?: string | Uint8Array;
}

export interface ExpectedModel {
  readonly name: string;
  readonly minimumVersion?: number;
  /** 64 hex digits: the SHA-256 of the sealed model's head. */
  readonly contentId?: string;
}

export interface CheckedExpectations {
  readonly pcrs: PcrExpectations;
  readonly maxAgeMs: number;
  readonly models: readonly ExpectedModel[];
  readonly anchors: readonly [TrustAnchor];
}

export const DEFAULT_MAX_AGE_MS = 5 * 60 * 1000;
const MAX_AGE_LIMIT_MS = 24 * 60 * 60 * 1000;
const PCR_HEX = /^[0-9a-f]{96}$/i;
const ZERO_HEX = /^0+$/;
const CONTENT_ID = /^[0-9a-f]{64}$/;

/** Throws ClientError `CLIENT_EXPECTATIONS`, naming the member. */
export function checkExpectations(expectations: ClientExpectations): CheckedExpectations {
  const given = members(expectations, 'the expectations', ['pcrs', 'maxAgeMs', 'models', 'simulationRoot']);
  return {
    pcrs: checkPcrs(given.pcrs),
    maxAgeMs: given.maxAgeMs === undefined ? DEFAULT_MAX_AGE_MS : checkMaxAge(given.maxAgeMs),
    models: given.models === undefined ? [] : checkModels(given.models),
    anchors: [given.simulationRoot === undefined ? awsNitroAnchor() : simulation(given.simulationRoot)],
  };
}

function checkPcrs(value: unknown): PcrExpectations {
  const pcrs: Record<number, PcrExpectation> = {};
  for (const [name, expected] of Object.entries(object(value, 'pcrs'))) {
    const index = Number(name);
    if (!/^(0|[1-9][0-9]?)$/.test(name) || index >= PCR_COUNT) {
      throw refused(`pcrs has the member "${name.slice(0, 40)}"; registers are 0 to ${PCR_COUNT - 1}`);
    }
    pcrs[index] = checkPcr(expected, `pcrs[${name}]`);
  }
  const { 0: image, 16: deployment } = pcrs;
  if (image === undefined) throw refused('pcrs[0], the image, is missing; give its value or "any"');
  if (deployment === undefined)
    throw refused('pcrs[16], the deployment, is missing; give its value or "any"');
  return { ...pcrs, 0: image, 16: deployment };
}

function checkPcr(value: unknown, at: string): PcrExpectation {
  if (value === 'any') return value;
  if (Array.isArray(value)) {
    if (value.length === 0) throw refused(`${at} is an empty list, which nothing can match`);
    return value.map((entry, position) => checkPcrValue(entry, `${at}[${position}]`));
  }
  return checkPcrValue(value, at);
}

function checkPcrValue(value: unknown, at: string): string {
  if (typeof value !== 'string' || !PCR_HEX.test(value)) {
    throw refused(`${at}: expected 96 hex digits or "any", found ${shown(value)}`);
  }
  if (ZERO_HEX.test(value))
    throw refused(`${at} is all-zero: nothing was measured, or the image is in debug mode`);
  return value.toLowerCase();
}

function checkMaxAge(value: unknown): number {
  if (typeof value === 'number' && value > 0 && value <= MAX_AGE_LIMIT_MS) return value;
  throw refused(`maxAgeMs: expected more than 0 and at most one day, found ${shown(value)}`);
}

function checkModels(value: unknown): readonly ExpectedModel[] {
  if (!Array.isArray(value) || value.length === 0)
    throw refused(`models: expected a list of at least one model`);
  return value.map((entry: unknown, index) => {
    const at = `models[${index}]`;
    const { name, minimumVersion, contentId } = members(entry, at, ['name', 'minimumVersion', 'contentId']);
    if (typeof name !== 'string' || name === '')
      throw refused(`${at}.name: expected a name, found ${shown(name)}`);
    if (
      minimumVersion !== undefined &&
      !(Number.isSafeInteger(minimumVersion) && (minimumVersion as number) >= 1)
    ) {
      throw refused(`${at}.minimumVersion: expected a positive integer, found ${shown(minimumVersion)}`);
    }
    if (contentId !== undefined && !(typeof contentId === 'string' && CONTENT_ID.test(contentId))) {
      throw refused(`${at}.contentId: expected 64 lower-case hex digits, found ${shown(contentId)}`);
    }
    return {
      name,
      ...(minimumVersion === undefined ? {} : { minimumVersion: minimumVersion as number }),
      ...(contentId === undefined ? {} : { contentId }),
    };
  });
}

function simulation(value: unknown): TrustAnchor {
  try {
    return simulationAnchor(value as string | Uint8Array);
  } catch (cause) {
    throw refused(`simulationRoot: ${cause instanceof Error ? cause.message : 'not a certificate'}`, cause);
  }
}

/** An object with known members only: a misspelt expectation would otherwise be one that is never checked. */
function members(value: unknown, at: string, known: readonly string[]): Readonly<Record<string, unknown>> {
  const found = object(value, at);
  for (const name of Object.keys(found)) {
    if (!known.includes(name)) throw refused(`${at} has an unknown member "${name.slice(0, 40)}"`);
  }
  return found;
}

function object(value: unknown, at: string): Readonly<Record<string, unknown>> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value))
    return value as Record<string, unknown>;
  throw refused(`${at}: expected an object, found ${shown(value)}`);
}

function shown(value: unknown): string {
  return value === undefined ? 'nothing' : (JSON.stringify(value) ?? typeof value).slice(0, 120);
}

export function refused(found: string, cause?: unknown): ClientError {
  return new ClientError('CLIENT_EXPECTATIONS', `The expectations cannot be used: ${found}.`, cause);
}
