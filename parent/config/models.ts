import { isIP } from 'node:net';
import { resolve } from 'node:path';
import type { JsonValue } from '../../shared/json.ts';
import { isDnsName } from '../egress/allow-list.ts';
import { isLoopbackUrl } from '../loopback.ts';
import type { Path, Reader } from './reader.ts';

/** Where sealed models come from (docs/link.md section 3.6). */
export type ModelsConfig = FolderModelsConfig | S3ModelsConfig | RegistryModelsConfig;

interface FolderModelsConfig {
  readonly kind: 'folder';
  /** Holds one `<name>.sealed` folder a model. */
  readonly path: string;
}

export interface S3ModelsConfig {
  readonly kind: 's3';
  readonly bucket: string;
  /** What stands before `<name>.sealed/`, without the slash between them. */
  readonly prefix?: string;
  readonly region: string;
  /** Another server than AWS's own of this region: an origin, without a closing slash. */
  readonly endpoint?: string;
  /** PEM file: whose certificates the endpoint may have. */
  readonly ca?: string;
}

export interface RegistryModelsConfig {
  readonly kind: 'registry';
  /** What stands before `/<name>.sealed/`. */
  readonly url: string;
  /** PEM files: whose certificates the server may have; this parent's own certificate and its key. */
  readonly ca?: string;
  readonly certificate?: string;
  readonly key?: string;
}

export function parseModels(reader: Reader, value: JsonValue | undefined, folder: string): ModelsConfig {
  const kind = reader.kind(value, ['models']);
  switch (kind) {
    case 'folder': {
      const models = reader.members(value, ['models'], { required: ['kind', 'path'] });
      return { kind, path: resolve(folder, reader.text(models.path, ['models', 'path'])) };
    }
    case 's3':
      return parseS3(reader, value, folder);
    case 'registry':
      return parseRegistry(reader, value, folder);
    default:
      throw reader.wrong(['models', 'kind'], '"folder", "s3" or "registry"', kind);
  }
}

/** Amazon S3 User Guide, "General purpose bucket naming rules"; directory buckets have another protocol. */
const BUCKET = /^(?=.{3,63}$)(?!.*--x-s3$)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$/;
const REGION = /^[a-z]{2}(-[a-z]{1,16}){1,3}-[0-9]{1,2}$/;
/** The characters that S3 calls safe in keys, in parts that no client takes for "here" or "above". */
const PREFIX =
  /^(?=.{1,512}$)[A-Za-z0-9!_'()*-][A-Za-z0-9!_.'()*-]*(\/[A-Za-z0-9!_'()*-][A-Za-z0-9!_.'()*-]*)*$/;

function parseS3(reader: Reader, value: JsonValue | undefined, folder: string): S3ModelsConfig {
  const models = reader.members(value, ['models'], {
    required: ['kind', 'bucket', 'region'],
    optional: ['prefix', 'endpoint', 'ca'],
  });
  const matching = (name: string, pattern: RegExp, expected: string): string => {
    const text = reader.text(models[name], ['models', name]);
    if (!pattern.test(text) || isIP(text) !== 0) throw reader.wrong(['models', name], expected, text);
    return text;
  };
  return {
    kind: 's3',
    bucket: matching('bucket', BUCKET, 'the name of a general purpose bucket'),
    region: matching('region', REGION, 'a region such as eu-central-1'),
    ...(models.prefix !== undefined && {
      prefix: matching('prefix', PREFIX, 'parts of safe characters between single slashes'),
    }),
    ...(models.endpoint !== undefined && { endpoint: parseEndpoint(reader, models.endpoint) }),
    ...parseFile(reader, 'ca', models.ca, folder),
  };
}

function parseRegistry(reader: Reader, value: JsonValue | undefined, folder: string): RegistryModelsConfig {
  const models = reader.members(value, ['models'], {
    required: ['kind', 'url'],
    optional: ['ca', 'certificate', 'key'],
  });
  for (const [one, other] of [
    ['certificate', 'key'],
    ['key', 'certificate'],
  ] as const) {
    if (models[one] !== undefined && models[other] === undefined) {
      throw reader.wrong(['models'], `"${other}" beside "${one}"`, undefined);
    }
  }
  return {
    kind: 'registry',
    url: parseUrl(reader, models.url),
    ...parseFile(reader, 'ca', models.ca, folder),
    ...parseFile(reader, 'certificate', models.certificate, folder),
    ...parseFile(reader, 'key', models.key, folder),
  };
}

function parseFile<Name extends string>(
  reader: Reader,
  name: Name,
  value: JsonValue | undefined,
  folder: string,
): { readonly [name in Name]?: string } {
  if (value === undefined) return {};
  return { [name]: resolve(folder, reader.text(value, ['models', name])) } as { [name in Name]: string };
}

const ORIGIN = /^(https?):\/\/([a-z0-9.-]{1,253}|\[[0-9a-f:]{2,39}\])(:[1-9][0-9]{0,4})?$/;
const SEGMENTS = /^(\/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*$/;

/** `https://HOST[:PORT]`, or `http://` for an address of this machine. */
function parseEndpoint(reader: Reader, value: JsonValue): string {
  const at = ['models', 'endpoint'];
  const text = reader.text(value, at);
  const scheme = originOf(text);
  if (scheme === 'https' || (scheme === 'http' && isLoopbackUrl(new URL(text)))) return text;
  throw reader.wrong(at, 'https://HOST[:PORT], or http:// with a loopback address', hidden(text));
}

/** `https://HOST[:PORT][/BASE]`: no credentials, query, fragment, escapes, empty or dotted parts. */
function parseUrl(reader: Reader, value: JsonValue | undefined): string {
  const at: Path = ['models', 'url'];
  const text = reader.text(value, at);
  const pathAt = text.indexOf('/', 'https://'.length);
  const [origin, path] = pathAt === -1 ? [text, ''] : [text.slice(0, pathAt), text.slice(pathAt)];
  if (originOf(origin) === 'https' && path.length <= 512 && SEGMENTS.test(path)) return text;
  throw reader.wrong(
    at,
    'https://HOST[:PORT][/BASE] in plain characters, without a closing slash',
    hidden(text),
  );
}

/** The scheme of a plain origin; its host is a DNS name, or an IP address in the one spelling that it has. */
function originOf(text: string): string | undefined {
  const parts = ORIGIN.exec(text);
  if (parts === null || !URL.canParse(text)) return undefined;
  const host = String(parts[2]);
  const address = isIP(host.replace(/^\[|\]$/g, '')) !== 0 && new URL(text).hostname === host;
  return isDnsName(host) || address ? parts[1] : undefined;
}

/** A refused URL may hold a password or a token, and the refusal is logged. */
function hidden(url: string): string {
  return url.replace(/^(\w+:)?\/*.*@/s, '$1//...@').replace(/\?.+/s, '?...');
}
