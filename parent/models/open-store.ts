import type { ModelsConfig } from '../config/models.ts';
import type { CredentialsProvider } from '../credentials/provider.ts';
import type { Observe } from '../observe.ts';
import { watchTls } from '../tls-files.ts';
import { folderStore } from './folder.ts';
import { REMOTE_LIMITS, type RemoteLimits } from './patience.ts';
import { registryRemote } from './registry.ts';
import { remoteStore } from './remote.ts';
import { s3Remote } from './s3.ts';
import type { ModelStore } from './store.ts';

export interface OpenModelStoreOptions {
  /** What S3 is asked with. */
  readonly credentials: CredentialsProvider;
  readonly observe: Observe;
  readonly now: () => number;
  readonly limits?: RemoteLimits;
}

/** The store that the configuration names. Throws ParentError PARENT_TLS_FILES_UNUSABLE. */
export function openModelStore(config: ModelsConfig, options: OpenModelStoreOptions): ModelStore {
  const { credentials, limits = REMOTE_LIMITS } = options;
  switch (config.kind) {
    case 'folder':
      return folderStore(config.path);
    case 's3':
      return remoteStore(s3Remote(config, credentials), limits);
    case 'registry':
      return remoteStore(registryRemote(config, watchTls(config, { ...options, name: 'models' })), limits);
  }
}
