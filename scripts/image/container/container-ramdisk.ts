/**
 * The application ramdisk of a saved container image, in nitro-cli's layout (docs/image.md section 9). What a ramdisk
 * holds depends on layers and config alone: not on tags, times, compression or the tool that saved them.
 */
import type { Architecture } from '../../../review/image/eif/format.ts';
import { type ImageEntry, orderedEntries } from '../../../review/image/entries.ts';
import { startFiles } from '../../../review/image/root-filesystem.ts';
import { ContainerImageError } from './errors.ts';
import { LayerTree } from './layers.ts';
import { openContainerImage } from './manifest.ts';
import { EXPANDED_MAX_BYTES, spoolLayer } from './spool.ts';
import { tarMembers } from './tar.ts';

/** In all layers together, and so what `image list` can list. */
const MEMBERS_MAX = 199_000;

/**
 * `path` is an OCI image layout (folder or tar archive) or an archive of `docker save`. Unpacked layers are
 * written to `folder`, which must outlive the entries. Throws ContainerImageError.
 */
export async function containerRamdisk(options: {
  readonly path: string;
  readonly architecture: Architecture;
  readonly folder: string;
  readonly signal?: AbortSignal | undefined;
}): Promise<readonly ImageEntry[]> {
  const { signal, folder } = options;
  const { config, layers } = await openContainerImage(options.path, options.architecture, signal);
  const tree = new LayerTree();
  let leftBytes = EXPANDED_MAX_BYTES;
  let leftMembers = MEMBERS_MAX;
  for (const layer of layers) {
    const archive = await spoolLayer(layer, { folder, leftBytes, signal });
    leftBytes -= archive.sizeBytes;
    const members = await tarMembers(archive, leftMembers, signal);
    leftMembers -= members.length;
    tree.apply(members);
  }
  const entries = [...startFiles(config.command, config.environment), ...tree.entries()];
  refuseTooMuch(entries);
  return orderedEntries(entries);
}

/** Hard links become files of their own, so that little in layers can be much in a ramdisk. */
function refuseTooMuch(entries: readonly ImageEntry[]): void {
  const sizeBytes = entries.reduce((sum, entry) => sum + (entry.kind === 'file' ? entry.sizeBytes : 0), 0);
  if (sizeBytes > EXPANDED_MAX_BYTES || entries.length > MEMBERS_MAX) {
    throw new ContainerImageError(
      'CONTAINER_LIMIT',
      `Expected at most ${MEMBERS_MAX} files of ${EXPANDED_MAX_BYTES} bytes together, found ${entries.length} of ${sizeBytes}.`,
    );
  }
}
