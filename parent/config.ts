/** The parent's configuration file (docs/link.md section 6): strict JSON, every member known and bounded. */
import { isIP } from 'node:net';
import { resolve } from 'node:path';
import { type JsonValue, parseStrictJson, type StrictJson } from '../shared/json.ts';
import { type Destination, isDnsName } from './egress/allow-list.ts';
import { ParentError } from './errors.ts';
import type { IngressConfig } from './relay.ts';

export const PARENT_CONFIG_FORMAT = 'strongroom-parent/1';
export const PARENT_CONFIG_MAX_BYTES = 256 * 1024;

export interface ParentConfig {
  readonly link: LinkConfig;
  readonly ingress: IngressConfig;
  /** Exactly these destinations; an empty list reaches nothing. */
  readonly egress: readonly Destination[];
  readonly deploymentPath: string;
  /** Holds one `<name>.sealed` folder a model. */
  readonly modelsFolder: string;
  readonly credentials: CredentialsConfig;
}

export type LinkConfig =
  | { readonly kind: 'unix'; readonly dial: string; readonly listen: string }
  | { readonly kind: 'vsock'; readonly enclaveCid: number };

export type CredentialsConfig =
  | { readonly kind: 'file'; readonly path: string }
  | { readonly kind: 'instance-role' };

type Path = readonly (string | number)[];

/** Throws ParentError for anything that is not exactly a configuration. Paths are relative to `folder`. */
export function parseParentConfig(bytes: Uint8Array, folder: string): ParentConfig {
  const json = readJson(bytes);
  const reader = new Reader(json);
  const root = reader.members(json.value, [], {
    required: ['format', 'link', 'ingress', 'egress', 'deployment', 'models', 'credentials'],
  });
  if (root.format !== PARENT_CONFIG_FORMAT) {
    throw reader.wrong(['format'], `"${PARENT_CONFIG_FORMAT}"`, root.format);
  }
  return {
    link: parseLink(reader, root.link, folder),
    ingress: parseIngress(reader, root.ingress),
    egress: parseEgress(reader, root.egress),
    deploymentPath: resolve(folder, reader.text(root.deployment, ['deployment'])),
    modelsFolder: resolve(folder, reader.text(root.models, ['models'])),
    credentials: parseCredentials(reader, root.credentials, folder),
  };
}

function readJson(bytes: Uint8Array): StrictJson {
  try {
    return parseStrictJson(bytes, { maxBytes: PARENT_CONFIG_MAX_BYTES, maxDepth: 6 });
  } catch (cause) {
    const found = cause instanceof Error ? cause.message : String(cause);
    throw new ParentError('PARENT_CONFIG_INVALID', `The configuration is not strict JSON: ${found}`, cause);
  }
}

function parseLink(reader: Reader, value: JsonValue | undefined, folder: string): LinkConfig {
  const kind = reader.kind(value, ['link']);
  if (kind === 'unix') {
    const link = reader.members(value, ['link'], { required: ['kind', 'dial', 'listen'] });
    return {
      kind,
      dial: resolve(folder, reader.text(link.dial, ['link', 'dial'])),
      listen: resolve(folder, reader.text(link.listen, ['link', 'listen'])),
    };
  }
  if (kind === 'vsock') {
    const link = reader.members(value, ['link'], { required: ['kind', 'enclaveCid'] });
    // 0 to 3 are the hypervisor, this machine, the host and the parent itself (nitro-cli refuses them too).
    return { kind, enclaveCid: reader.integer(link.enclaveCid, ['link', 'enclaveCid'], 4, 0xffff_fffe) };
  }
  throw reader.wrong(['link', 'kind'], '"unix" or "vsock"', kind);
}

function parseIngress(reader: Reader, value: JsonValue | undefined): IngressConfig {
  const at = ['ingress'];
  const ingress = reader.members(value, at, {
    required: ['host', 'port'],
    optional: ['maxConnections', 'idleTimeoutMs', 'connectTimeoutMs'],
  });
  const host = reader.text(ingress.host, [...at, 'host']);
  if (isIP(host) === 0) throw reader.wrong([...at, 'host'], 'an IP address to listen on', host);
  return {
    host,
    port: reader.integer(ingress.port, [...at, 'port'], 0, 65_535),
    maxConnections: reader.integer(ingress.maxConnections ?? 1_024, [...at, 'maxConnections'], 1, 65_536),
    idleTimeoutMs: reader.integer(
      ingress.idleTimeoutMs ?? 300_000,
      [...at, 'idleTimeoutMs'],
      100,
      86_400_000,
    ),
    connectTimeoutMs: reader.integer(
      ingress.connectTimeoutMs ?? 5_000,
      [...at, 'connectTimeoutMs'],
      10,
      60_000,
    ),
  };
}

const DESTINATIONS_MAX = 256;

function parseEgress(reader: Reader, value: JsonValue | undefined): readonly Destination[] {
  if (!Array.isArray(value) || value.length > DESTINATIONS_MAX) {
    throw reader.wrong(['egress'], `a list of at most ${DESTINATIONS_MAX}`, value);
  }
  const seen = new Set<string>();
  return value.map((entry: JsonValue, index) => {
    const destination = parseDestination(reader, entry, ['egress', index]);
    const key = `${destination.host}:${destination.port}`;
    if (seen.has(key)) throw reader.wrong(['egress', index], 'each destination once', key);
    seen.add(key);
    return destination;
  });
}

function parseDestination(reader: Reader, value: JsonValue, at: Path): Destination {
  const entry = reader.members(value, at, {
    required: ['host', 'port'],
    optional: ['maxConnections', 'override'],
  });
  const host = reader.text(entry.host, [...at, 'host']);
  if (!isDnsName(host)) throw reader.wrong([...at, 'host'], 'a lower-case DNS name, no address', host);
  const destination = {
    host,
    port: reader.integer(entry.port, [...at, 'port'], 1, 65_535),
    maxConnections: reader.integer(entry.maxConnections ?? 64, [...at, 'maxConnections'], 1, 4_096),
  };
  if (entry.override === undefined) return destination;
  const overrideAt = [...at, 'override'];
  const override = reader.members(entry.override, overrideAt, { required: ['address', 'port'] });
  const address = reader.text(override.address, [...overrideAt, 'address']);
  if (isIP(address) === 0) throw reader.wrong([...overrideAt, 'address'], 'an IP address', address);
  const port = reader.integer(override.port, [...overrideAt, 'port'], 1, 65_535);
  return { ...destination, override: { address, port } };
}

function parseCredentials(reader: Reader, value: JsonValue | undefined, folder: string): CredentialsConfig {
  const kind = reader.kind(value, ['credentials']);
  if (kind === 'file') {
    const credentials = reader.members(value, ['credentials'], { required: ['kind', 'path'] });
    return { kind, path: resolve(folder, reader.text(credentials.path, ['credentials', 'path'])) };
  }
  if (kind === 'instance-role') {
    reader.members(value, ['credentials'], { required: ['kind'] });
    return { kind };
  }
  throw reader.wrong(['credentials', 'kind'], '"file" or "instance-role"', kind);
}

type Members = { readonly [name: string]: JsonValue };

/** Reads values by their place, so that every refusal names the member and its line. */
class Reader {
  readonly #json: StrictJson;

  constructor(json: StrictJson) {
    this.#json = json;
  }

  wrong(at: Path, expected: string, found: unknown): ParentError {
    const shown = found === undefined ? 'nothing' : JSON.stringify(found).slice(0, 120);
    const line = this.#json.positionOf(at)?.line;
    const place = `${at.join('.') || 'the configuration'}${line === undefined ? '' : ` (line ${line})`}`;
    return new ParentError('PARENT_CONFIG_INVALID', `${place}: expected ${expected}, found ${shown}.`);
  }

  members(
    value: JsonValue | undefined,
    at: Path,
    shape: { required: readonly string[]; optional?: readonly string[] },
  ): Members {
    if (typeof value !== 'object' || value === null || Array.isArray(value))
      throw this.wrong(at, 'an object', value);
    const members = value as Members;
    const known = [...shape.required, ...(shape.optional ?? [])];
    for (const name of Object.keys(members)) {
      if (!known.includes(name)) throw this.wrong([...at, name], `only ${known.join(', ')}`, name);
    }
    for (const name of shape.required) {
      if (!Object.hasOwn(members, name)) throw this.wrong(at, `the member "${name}"`, undefined);
    }
    return members;
  }

  kind(value: JsonValue | undefined, at: Path): JsonValue | undefined {
    if (typeof value !== 'object' || value === null || Array.isArray(value))
      throw this.wrong(at, 'an object', value);
    return (value as Members).kind;
  }

  text(value: JsonValue | undefined, at: Path): string {
    if (typeof value !== 'string' || value === '' || value.includes('\0'))
      throw this.wrong(at, 'a text', value);
    return value;
  }

  integer(value: JsonValue | undefined, at: Path, least: number, most: number): number {
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < least || value > most) {
      throw this.wrong(at, `an integer from ${least} to ${most}`, value);
    }
    return value;
  }
}
