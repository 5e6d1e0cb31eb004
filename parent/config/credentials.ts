import { resolve } from 'node:path';
import type { JsonValue } from '../../shared/json.ts';
import type { Reader } from './reader.ts';

export type CredentialsConfig =
  | { readonly kind: 'file'; readonly path: string }
  | { readonly kind: 'instance-role' };

export function parseCredentials(
  reader: Reader,
  value: JsonValue | undefined,
  folder: string,
): CredentialsConfig {
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
