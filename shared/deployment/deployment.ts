/**
 * The deployment document (docs/deployment.md): which models, whose signature, which KMS keys, who may call.
 *
 * Its exact bytes are measured into PCR16, so whoever checks PCR16 checks all of it. It is read by the strict
 * JSON parser; every member is known, bounded and of one type, and an unknown member is refused: a member that
 * one version ignores and another obeys would let the same measurement mean two things.
 */
import type { KeyObject } from 'node:crypto';
import { type JsonValue, parseStrictJson } from '../json.ts';
import { type ClientLimits, type ClientRules, parseClientLimits, parseClients } from './clients.ts';
import { DeploymentError } from './errors.ts';
import { type KmsKey, parseKmsKeyArn } from './kms-key.ts';
import { integer, list, malformed, members, publicKey, text } from './members.ts';

export const DEPLOYMENT_FORMAT = 'strongroom-deployment/1';
export const DEPLOYMENT_MAX_BYTES = 64 * 1024;
const MODELS_MAX = 16;
const KMS_KEYS_MAX = 8;

export interface Deployment {
  readonly models: readonly ModelPin[];
  readonly kmsKeys: readonly KmsKey[];
  readonly clients: 'anyone' | ClientRules;
  readonly limits: ApiLimits;
  /** For each client that `clients` gives no other; where anyone may call, for each connection. */
  readonly perClient: ClientLimits;
  /** The events that may leave the enclave through the parent; empty: none. */
  readonly telemetry: readonly TelemetryEvent[];
}

/** Which sealed model may be loaded under a name: whatever this signer signed, or one content id. */
export type ModelPin =
  | {
      readonly kind: 'signer';
      readonly name: string;
      readonly minimumVersion: number;
      readonly signer: KeyObject;
    }
  | { readonly kind: 'content'; readonly name: string; readonly contentId: string };

export interface ApiLimits {
  /** The largest request body in bytes. */
  readonly requestBytes: number;
  /** Requests that may wait for one model. */
  readonly queueLength: number;
  /** Connections that may be open at once. */
  readonly connections: number;
  /** Tokens that one text may have, the prompt not counted. */
  readonly completionTokens: number;
}

export const TELEMETRY_EVENTS = ['boot', 'requests', 'durations', 'deny-list'] as const;
export type TelemetryEvent = (typeof TELEMETRY_EVENTS)[number];

const LIMIT_NAMES = ['requestBytes', 'queueLength', 'connections', 'completionTokens', 'perClient'];
const DEFAULT_LIMITS: ApiLimits = {
  requestBytes: 4 * 1024 * 1024,
  queueLength: 64,
  connections: 256,
  completionTokens: 4096,
};

/** Throws DeploymentError for anything that is not exactly a deployment document of this format. */
export function parseDeployment(bytes: Uint8Array): Deployment {
  const root = members(readJson(bytes), 'the document', {
    required: ['format', 'models', 'kmsKeys', 'clients'],
    optional: ['limits', 'telemetry'],
  });
  if (root.format !== DEPLOYMENT_FORMAT) {
    throw malformed('format', `"${DEPLOYMENT_FORMAT}"`, root.format);
  }
  const perClient = parsePerClient(root.limits, root.clients);
  return {
    models: parseModels(root.models),
    kmsKeys: list(root.kmsKeys, 'kmsKeys', KMS_KEYS_MAX).map((arn, index) =>
      parseKmsKeyArn(text(arn, `kmsKeys[${index}]`)),
    ),
    clients: parseClients(root.clients, perClient),
    limits: parseLimits(root.limits),
    perClient,
    telemetry: parseTelemetry(root.telemetry),
  };
}

function readJson(bytes: Uint8Array): JsonValue {
  if (bytes.length > DEPLOYMENT_MAX_BYTES) {
    throw new DeploymentError(
      'DEPLOYMENT_MALFORMED',
      `A deployment document has at most ${DEPLOYMENT_MAX_BYTES} bytes, found ${bytes.length}.`,
    );
  }
  try {
    return parseStrictJson(bytes, { maxBytes: DEPLOYMENT_MAX_BYTES, maxDepth: 8 }).value;
  } catch (cause) {
    const found = cause instanceof Error ? cause.message : String(cause);
    throw new DeploymentError(
      'DEPLOYMENT_MALFORMED',
      `The deployment document is not strict JSON: ${found}`,
      cause,
    );
  }
}

function parseModels(value: JsonValue | undefined): readonly ModelPin[] {
  const pins = list(value, 'models', MODELS_MAX).map((entry, index) =>
    parseModelPin(entry, `models[${index}]`),
  );
  if (new Set(pins.map((pin) => pin.name)).size !== pins.length) {
    throw new DeploymentError(
      'DEPLOYMENT_MALFORMED',
      'models names the same model twice; each name must be unique.',
    );
  }
  return pins;
}

function parseModelPin(value: JsonValue, at: string): ModelPin {
  const pin = members(value, at, { required: ['name'], optional: ['minimumVersion', 'signer', 'contentId'] });
  const name = text(pin.name, `${at}.name`);
  if (!MODEL_NAME.test(name))
    throw malformed(`${at}.name`, 'letters, digits, ".", "_" and "-", 1 to 64 of them', name);
  if (pin.contentId !== undefined) {
    if (pin.signer !== undefined || pin.minimumVersion !== undefined) {
      throw malformed(at, 'either contentId alone, or signer with minimumVersion', 'both');
    }
    const contentId = text(pin.contentId, `${at}.contentId`);
    if (!/^[0-9a-f]{64}$/.test(contentId))
      throw malformed(`${at}.contentId`, '64 lower-case hex digits', contentId);
    return { kind: 'content', name, contentId };
  }
  return {
    kind: 'signer',
    name,
    minimumVersion: integer(pin.minimumVersion, `${at}.minimumVersion`, 1, Number.MAX_SAFE_INTEGER),
    signer: publicKey(pin.signer, `${at}.signer`),
  };
}

/** Model names appear in paths, in encryption contexts and in policies: one plain alphabet for all three. */
const MODEL_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

function parseLimits(value: JsonValue | undefined): ApiLimits {
  if (value === undefined) return DEFAULT_LIMITS;
  const limits = members(value, 'limits', {
    required: [],
    optional: LIMIT_NAMES,
  });
  const pick = (name: keyof ApiLimits, most: number): number =>
    limits[name] === undefined ? DEFAULT_LIMITS[name] : integer(limits[name], `limits.${name}`, 1, most);
  return {
    requestBytes: pick('requestBytes', 256 * 1024 * 1024),
    queueLength: pick('queueLength', 4096),
    connections: pick('connections', 4096),
    completionTokens: pick('completionTokens', 1024 * 1024),
  };
}

function parsePerClient(limits: JsonValue | undefined, clients: JsonValue | undefined): ClientLimits {
  if (limits === undefined) return {};
  const { perClient } = members(limits, 'limits', { required: [], optional: LIMIT_NAMES });
  const parsed = parseClientLimits(perClient, 'limits.perClient');
  if (clients === 'anyone' && parsed.connections !== undefined) {
    throw malformed(
      'limits.perClient',
      'no connections where anyone may call: each is a client of its own',
      perClient,
    );
  }
  return parsed;
}

function parseTelemetry(value: JsonValue | undefined): readonly TelemetryEvent[] {
  if (value === undefined) return [];
  if (!Array.isArray(value)) throw malformed('telemetry', 'a list', value);
  return value.map((entry, index) => {
    const event = TELEMETRY_EVENTS.find((known) => known === entry);
    if (event === undefined)
      throw malformed(`telemetry[${index}]`, `one of ${TELEMETRY_EVENTS.join(', ')}`, entry);
    return event;
  });
}
