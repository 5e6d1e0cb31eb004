import { resolve } from 'node:path';
import type { JsonValue } from '../../shared/json.ts';
import type { Reader } from './reader.ts';

/** Where sealed models come from. */
export type ModelsConfig = {
  readonly kind: 'folder';
  /** Holds one `<name>.sealed` folder a model. */
  readonly path: string;
};

export function parseModels(reader: Reader, value: JsonValue | undefined, folder: string): ModelsConfig {
  const kind = reader.kind(value, ['models']);
  if (kind === 'folder') {
    const models = reader.members(value, ['models'], { required: ['kind', 'path'] });
    return { kind, path: resolve(folder, reader.text(models.path, ['models', 'path'])) };
  }
  throw reader.wrong(['models', 'kind'], '"folder"', kind);
}
