import type { ModelsConfig } from '../config/models.ts';
import { folderStore } from './folder.ts';
import type { ModelStore } from './store.ts';

/** The store that the configuration names. */
export function openModelStore(config: ModelsConfig): ModelStore {
  return folderStore(config.path);
}
