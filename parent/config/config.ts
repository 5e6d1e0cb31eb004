/** The parent's configuration file (docs/link.md section 6): strict JSON, every member known and bounded. */
import { dirname, resolve } from 'node:path';
import { parseStrictJson, type StrictJson } from '../../shared/json.ts';
import type { Destination } from '../egress/allow-list.ts';
import { ParentError } from '../errors.ts';
import { readBounded } from '../files.ts';
import type { IngressConfig } from '../relay.ts';
import { type AdminConfig, parseAdmin } from './admin.ts';
import { type CredentialsConfig, parseCredentials } from './credentials.ts';
import { parseEgress } from './egress.ts';
import { type EnclaveConfig, parseEnclave } from './enclave.ts';
import { parseIngress } from './ingress.ts';
import { type LinkConfig, parseLink } from './link.ts';
import { type ModelsConfig, parseModels } from './models.ts';
import { Reader } from './reader.ts';

export const PARENT_CONFIG_FORMAT = 'strongroom-parent/1';
export const PARENT_CONFIG_MAX_BYTES = 256 * 1024;

export interface ParentConfig {
  readonly link: LinkConfig;
  readonly ingress: IngressConfig;
  /** Exactly these destinations; an empty list reaches nothing. */
  readonly egress: readonly Destination[];
  readonly deploymentPath: string;
  /** The signed deny list, for deployments that name its signer. */
  readonly denyListPath?: string;
  readonly models: ModelsConfig;
  readonly credentials: CredentialsConfig;
  /** Without it somebody else starts the enclave, and answers its sign of life. */
  readonly enclave?: EnclaveConfig;
  /** Without it there is no admin port. */
  readonly admin?: AdminConfig;
}

/** Throws ParentError for anything that is not a configuration, and what the file system throws. */
export async function readParentConfig(path: string): Promise<ParentConfig> {
  const bytes = await readBounded(path, PARENT_CONFIG_MAX_BYTES);
  if (bytes !== undefined) return parseParentConfig(bytes, dirname(resolve(path)));
  const expected = `a regular file of at most ${PARENT_CONFIG_MAX_BYTES} bytes`;
  throw new ParentError('PARENT_CONFIG_INVALID', `${path}: expected ${expected}, found something else.`);
}

/** Throws ParentError for anything that is not exactly a configuration. Paths are relative to `folder`. */
export function parseParentConfig(bytes: Uint8Array, folder: string): ParentConfig {
  const json = readJson(bytes);
  const reader = new Reader(json);
  const root = reader.members(json.value, [], {
    required: ['format', 'link', 'ingress', 'egress', 'deployment', 'models', 'credentials'],
    optional: ['denyList', 'enclave', 'admin'],
  });
  if (root.format !== PARENT_CONFIG_FORMAT) {
    throw reader.wrong(['format'], `"${PARENT_CONFIG_FORMAT}"`, root.format);
  }
  return {
    link: parseLink(reader, root.link, folder),
    ingress: parseIngress(reader, root.ingress),
    egress: parseEgress(reader, root.egress),
    deploymentPath: resolve(folder, reader.text(root.deployment, ['deployment'])),
    ...(root.denyList === undefined
      ? {}
      : { denyListPath: resolve(folder, reader.text(root.denyList, ['denyList'])) }),
    models: parseModels(reader, root.models, folder),
    credentials: parseCredentials(reader, root.credentials, folder),
    ...(root.enclave === undefined ? {} : { enclave: parseEnclave(reader, root.enclave, folder) }),
    ...(root.admin === undefined ? {} : { admin: parseAdmin(reader, root.admin) }),
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
