/**
 * Release manifests (docs/releases.md): the images that somebody reviewed, by name. They turn the registers in a key
 * policy, a trail or an attestation document into "strongroom 1.4.0". A manifest is not signed and proves nothing
 * by itself: whoever names a folder of them to a command says that these are the releases.
 */

import { createHash } from 'node:crypto';
import { open, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { parseDeployment } from '../shared/deployment/deployment.ts';
import { type JsonValue, parseStrictJson } from '../shared/json.ts';
import { extendPcr, isZeroPcr, zeroPcr } from '../shared/pcr.ts';
import { ReviewError } from './errors.ts';

export const RELEASE_FORMAT = 'strongroom-release/1';
const FILE_MAX_BYTES = 64 * 1024;
const FILES_MAX = 4096;
const DEPLOYMENTS_MAX = 64;

export interface Release {
  /** What is released, for example `strongroom`. */
  readonly name: string;
  /** A label, never compared: `1.4.0`. */
  readonly version: string;
  readonly pcrs: ReleasePcrs;
  /** The deployments that were reviewed for this image. Empty: the manifest says nothing about them. */
  readonly deployments: readonly ReleaseDeployment[];
  /** From then on nobody should run it. */
  readonly withdrawn?: { readonly at: Date; readonly reason: string };
}

/** 96 lower-case hex digits each, never zero. PCR8 if the image is signed. */
export interface ReleasePcrs {
  readonly 0: string;
  readonly 1: string;
  readonly 2: string;
  readonly 8?: string;
}

export interface ReleaseDeployment {
  /** SHA-384 of the deployment document's bytes. */
  readonly sha384: string;
  /** What that is in PCR16. Computed, not written in the manifest, so that the two cannot differ. */
  readonly pcr16: string;
  /** The models that it names. */
  readonly models: readonly string[];
}

/** Throws ReviewError RELEASE_MANIFEST, naming the member. */
export function parseRelease(bytes: Uint8Array): Release {
  const root = members(readJson(bytes), 'the manifest', {
    required: ['format', 'name', 'version', 'pcrs'],
    optional: ['deployments', 'withdrawn'],
  });
  if (root.format !== RELEASE_FORMAT) throw refused('format', `"${RELEASE_FORMAT}"`, root.format);
  return {
    name: label(root.name, 'name'),
    version: label(root.version, 'version'),
    pcrs: parsePcrs(root.pcrs),
    deployments: root.deployments === undefined ? [] : parseDeployments(root.deployments),
    ...(root.withdrawn === undefined ? {} : { withdrawn: parseWithdrawn(root.withdrawn) }),
  };
}

/** The manifest as JSON text: the same bytes for the same release. `parseRelease` reads it back. */
export function formatRelease({ name, version, pcrs, deployments, withdrawn }: Release): string {
  const document = {
    format: RELEASE_FORMAT,
    name,
    version,
    pcrs,
    ...(deployments.length === 0
      ? {}
      : { deployments: deployments.map(({ sha384, models }) => ({ sha384, models })) }),
    ...(withdrawn === undefined
      ? {}
      : { withdrawn: { at: withdrawn.at.toISOString(), reason: withdrawn.reason } }),
  };
  return `${JSON.stringify(document, null, 2)}\n`;
}

/** The entry for a deployment document. Throws DeploymentError for bytes that no enclave accepts. */
export function releaseDeployment(bytes: Uint8Array): ReleaseDeployment {
  const models = parseDeployment(bytes).models.map(({ name }) => name);
  return deploymentOf(createHash('sha384').update(bytes).digest('hex'), models);
}

/** `strongroom 1.4.0` */
export function nameOfRelease({ name, version }: Release): string {
  return `${name} ${version}`;
}

/** Releases with this PCR0. More than one if a new version changed nothing that the image holds. */
export function releasesOfImage(releases: readonly Release[], pcr0: string): readonly Release[] {
  return releases.filter(({ pcrs }) => pcrs[0] === pcr0.toLowerCase());
}

/**
 * One manifest, or every `*.json` directly in a folder, ordered by name and version. Throws ReviewError for one
 * that cannot be read, for an empty folder, and for two of the same name and version; a release that was silently
 * left out would make its image unknown.
 */
export async function readReleases(path: string): Promise<readonly Release[]> {
  const paths = (await stat(path)).isDirectory() ? await manifestsIn(path) : [path];
  const releases: Release[] = [];
  const seen = new Map<string, string>();
  for (const file of paths) {
    const release = await readRelease(file);
    const name = nameOfRelease(release);
    const other = seen.get(name);
    if (other !== undefined) {
      throw new ReviewError('RELEASES_UNUSABLE', `${other} and ${file} are both ${name}`);
    }
    seen.set(name, file);
    releases.push(release);
  }
  return releases.toSorted((a, b) => (nameOfRelease(a) < nameOfRelease(b) ? -1 : 1));
}

async function manifestsIn(folder: string): Promise<readonly string[]> {
  const names = (await readdir(folder)).filter((name) => name.endsWith('.json')).toSorted();
  if (names.length === 0 || names.length > FILES_MAX) {
    throw new ReviewError(
      'RELEASES_UNUSABLE',
      `expected 1 to ${FILES_MAX} files that end in .json in ${folder}, found ${names.length}`,
    );
  }
  return names.map((name) => join(folder, name));
}

async function readRelease(path: string): Promise<Release> {
  const found = await stat(path);
  if (!found.isFile() && !found.isFIFO()) {
    throw new ReviewError('RELEASE_MANIFEST', `${path}: expected a file`);
  }
  await using file = await open(path);
  const parts: Buffer[] = [];
  for await (const part of file.createReadStream({ end: FILE_MAX_BYTES, autoClose: false })) parts.push(part);
  try {
    return parseRelease(Buffer.concat(parts));
  } catch (error) {
    if (!(error instanceof ReviewError)) throw error;
    throw new ReviewError(error.code, `${path}: ${error.message}`, error.cause);
  }
}

function readJson(bytes: Uint8Array): JsonValue {
  try {
    return parseStrictJson(bytes, { maxBytes: FILE_MAX_BYTES, maxDepth: 6 }).value;
  } catch (cause) {
    const found = cause instanceof Error ? cause.message : String(cause);
    throw new ReviewError('RELEASE_MANIFEST', `the manifest is not strict JSON: ${found}`, cause);
  }
}

function parsePcrs(value: JsonValue | undefined): ReleasePcrs {
  const pcrs = members(value, 'pcrs', { required: ['0', '1', '2'], optional: ['8'] });
  return {
    0: register(pcrs[0], 'pcrs[0]'),
    1: register(pcrs[1], 'pcrs[1]'),
    2: register(pcrs[2], 'pcrs[2]'),
    ...(pcrs[8] === undefined ? {} : { 8: register(pcrs[8], 'pcrs[8]') }),
  };
}

/** Lower case only, as every tool here writes it: values are compared as text. */
function register(value: JsonValue | undefined, at: string): string {
  const text = digest(value, at);
  if (isZeroPcr(Buffer.from(text, 'hex'))) {
    throw refused(at, 'a measured value: zero is a debug image, which is no release', text);
  }
  return text;
}

function digest(value: JsonValue | undefined, at: string): string {
  if (typeof value === 'string' && /^[0-9a-f]{96}$/.test(value)) return value;
  throw refused(at, '96 lower-case hex digits', value);
}

function parseDeployments(value: JsonValue): readonly ReleaseDeployment[] {
  if (!Array.isArray(value) || value.length === 0 || value.length > DEPLOYMENTS_MAX) {
    throw refused('deployments', `a list of 1 to ${DEPLOYMENTS_MAX}`, value);
  }
  const deployments = value.map((entry, index) => {
    const at = `deployments[${index}]`;
    const { sha384, models } = members(entry, at, { required: ['sha384', 'models'], optional: [] });
    if (!Array.isArray(models) || models.length === 0)
      throw refused(`${at}.models`, 'a list of names', models);
    return deploymentOf(
      digest(sha384, `${at}.sha384`),
      models.map((name, position) => label(name, `${at}.models[${position}]`)),
    );
  });
  if (new Set(deployments.map(({ sha384 }) => sha384)).size !== deployments.length) {
    throw new ReviewError('RELEASE_MANIFEST', 'deployments names the same document twice');
  }
  return deployments;
}

function deploymentOf(sha384: string, models: readonly string[]): ReleaseDeployment {
  const pcr16 = Buffer.from(extendPcr(zeroPcr(), Buffer.from(sha384, 'hex'))).toString('hex');
  return { sha384, pcr16, models };
}

const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,3})?Z$/;

function parseWithdrawn(value: JsonValue): { readonly at: Date; readonly reason: string } {
  const { at, reason } = members(value, 'withdrawn', { required: ['at', 'reason'], optional: [] });
  if (typeof at !== 'string' || !TIME.test(at) || Number.isNaN(Date.parse(at))) {
    throw refused('withdrawn.at', 'a time such as 2026-11-30T12:00:00Z', at);
  }
  if (typeof reason !== 'string' || reason === '') throw refused('withdrawn.reason', 'a sentence', reason);
  return { at: new Date(at), reason };
}

/** Names stand in reports, file names and sentences. */
const LABEL = /^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$/;

function label(value: JsonValue | undefined, at: string): string {
  if (typeof value === 'string' && LABEL.test(value)) return value;
  throw refused(at, '1 to 64 letters, digits, ".", "_", "+", "-"', value);
}

function members(
  value: JsonValue | undefined,
  at: string,
  shape: { readonly required: readonly string[]; readonly optional: readonly string[] },
): { readonly [name: string]: JsonValue } {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw refused(at, 'an object', value);
  }
  const object = value as { readonly [name: string]: JsonValue };
  const unknown = Object.keys(object).find((name) => ![...shape.required, ...shape.optional].includes(name));
  if (unknown !== undefined) {
    throw new ReviewError(
      'RELEASE_MANIFEST',
      `${at} has an unknown member ${JSON.stringify(unknown.slice(0, 40))}`,
    );
  }
  const missing = shape.required.find((name) => !Object.hasOwn(object, name));
  if (missing !== undefined) {
    throw new ReviewError('RELEASE_MANIFEST', `${at} lacks the member "${missing}"`);
  }
  return object;
}

function refused(at: string, expected: string, found: unknown): ReviewError {
  const shown = found === undefined ? 'nothing' : JSON.stringify(found).slice(0, 120);
  return new ReviewError('RELEASE_MANIFEST', `${at}: expected ${expected}, found ${shown}`);
}
