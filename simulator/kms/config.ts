/** The configuration file of a simulated KMS that runs as its own process (docs/simulated-kms.md section 5). */
import { simulationAnchor } from '../../shared/attestation/anchors.ts';
import { parseStrictJson } from '../../shared/json.ts';
import { SimulatedKmsError } from './errors.ts';
import type { SimulatedPrincipal } from './principals.ts';
import type { ExistingKey, SimulatedKmsOptions } from './simulated-kms.ts';

/** The file as JSON. What is not named here is refused. */
export interface SimulatedKmsConfig {
  readonly region: string;
  readonly accountId: string;
  /** As SimulatedPrincipal; `expiration` is an ISO 8601 time. */
  readonly principals: readonly (Omit<SimulatedPrincipal, 'expiration'> & { readonly expiration?: string })[];
  /** PEM certificates: roots of the simulated NSMs whose documents are genuine here. */
  readonly attestationAnchors: readonly string[];
  readonly keys?: readonly ExistingKey[];
  readonly listen?: { readonly host?: string; readonly port?: number };
  /** Path of the record file. No records unless given. */
  readonly auditLog?: string;
}

type Shape = Readonly<Record<string, 'string' | 'number' | 'boolean' | 'list' | 'object'>>;

const CONFIG: Shape = {
  region: 'string',
  accountId: 'string',
  principals: 'list',
  attestationAnchors: 'list',
};
const CONFIG_OPTIONAL: Shape = { keys: 'list', listen: 'object', auditLog: 'string' };
const KEY: Shape = { keyId: 'string', policy: 'string' };
const KEY_OPTIONAL: Shape = { grants: 'list', multiRegion: 'boolean' };
const PRINCIPAL: Shape = { arn: 'string', accessKeyId: 'string', secretAccessKey: 'string' };
const PRINCIPAL_OPTIONAL: Shape = {
  sessionName: 'string',
  sessionToken: 'string',
  expiration: 'string',
  iamPolicies: 'list',
  tags: 'object',
};

/** Throws SimulatedKmsError SIMULATED_KMS_CONFIG. */
export function readSimulatedKmsConfig(bytes: Uint8Array, now: () => Date): SimulatedKmsOptions {
  try {
    const config = shaped<SimulatedKmsConfig>(
      parseStrictJson(bytes, { maxBytes: 1024 * 1024 }).value,
      'the configuration',
      CONFIG,
      CONFIG_OPTIONAL,
    );
    const { region, accountId, keys = [], listen, auditLog } = config;
    return {
      region,
      accountId,
      principals: config.principals.map(readPrincipal),
      attestationAnchors: config.attestationAnchors.map((pem) => simulationAnchor(pem)),
      keys: keys.map((key) => shaped<ExistingKey>(key, 'a key', KEY, KEY_OPTIONAL)),
      now,
      ...(listen === undefined
        ? {}
        : { listen: shaped(listen, 'listen', {}, { host: 'string', port: 'number' }) }),
      ...(auditLog === undefined ? {} : { auditLog }),
    };
  } catch (cause) {
    if (cause instanceof SimulatedKmsError) throw cause;
    throw refused(cause instanceof Error ? cause.message : String(cause), cause);
  }
}

function readPrincipal(value: unknown): SimulatedPrincipal {
  const { expiration, ...principal } = shaped<SimulatedKmsConfig['principals'][number]>(
    value,
    'a principal',
    PRINCIPAL,
    PRINCIPAL_OPTIONAL,
  );
  if (expiration === undefined) return principal;
  const at = new Date(expiration);
  if (Number.isNaN(at.getTime())) throw refused(`expiration: expected an ISO 8601 time, found ${expiration}`);
  return { ...principal, expiration: at };
}

function shaped<T>(value: unknown, what: string, required: Shape, optional: Shape): T {
  if (kindOf(value) !== 'object') throw refused(`expected ${what} as an object`);
  const members = value as Readonly<Record<string, unknown>>;
  const known: Shape = { ...required, ...optional };
  for (const [name, member] of Object.entries(members)) {
    if (!Object.hasOwn(known, name)) throw refused(`unknown member ${JSON.stringify(name)} in ${what}`);
    if (kindOf(member) !== known[name]) throw refused(`${name}: expected a ${known[name]}`);
  }
  for (const name of Object.keys(required)) {
    if (!Object.hasOwn(members, name))
      throw refused(`expected the member ${JSON.stringify(name)} in ${what}`);
  }
  return value as T;
}

function kindOf(value: unknown): string {
  if (Array.isArray(value)) return 'list';
  return value === null ? 'null' : typeof value;
}

function refused(message: string, cause?: unknown): SimulatedKmsError {
  return new SimulatedKmsError('SIMULATED_KMS_CONFIG', message, cause);
}
