import type { ModelsConfig } from '../config/models.ts';
import type { CredentialsProvider } from '../credentials/provider.ts';
import type { Observe } from '../observe.ts';
import { watchTls } from '../tls-files.ts';
import { folderStore } from './folder.ts';
import { REMOTE_LIMITS, type RemoteLimits } from './patience.ts';
import { registryRemote } from './registry.ts';
import { type Remote, remoteStore } from './remote.ts';
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
    case 's3': {
      const files = config.ca === undefined ? {} : { ca: config.ca };
      const tls = watchTls(files, { ...options, name: 'models' });
      const load = async () => (await import('./s3.ts')).s3Remote(config, credentials, tls);
      return remoteStore(
        onceNeeded(load, () => tls.close()),
        limits,
      );
    }
    case 'registry':
      return remoteStore(registryRemote(config, watchTls(config, { ...options, name: 'models' })), limits);
  }
}

/** The AWS SDK takes tens of megabytes and part of a second, which only those pay who have models in S3. */
function onceNeeded(load: () => Promise<Remote>, close: () => void): Remote {
  let loaded: Promise<Remote> | undefined;
  const remote = (): Promise<Remote> => {
    loaded ??= load();
    return loaded;
  };
  return {
    look: async (...request) => (await remote()).look(...request),
    fetch: async (...request) => (await remote()).fetch(...request),
    close: () => {
      close();
      void loaded?.then((found) => found.close());
    },
  };
}
