import { relative } from 'node:path';
import type { Link } from '../link/link.ts';
import { unixLink } from '../link/unix.ts';
import type { LinkConfig } from '../parent/config/link.ts';

/** The link that a parent's configuration names. */
export async function openLink(config: LinkConfig): Promise<Link> {
  if (config.kind === 'unix')
    return unixLink({ dial: shortest(config.dial), listen: shortest(config.listen) });
  // Loaded only here: it brings native calls along, which nobody needs for a link of the other kind.
  const { vsockLink } = await import('../link/vsock.ts');
  return vsockLink({ peerCid: config.enclaveCid });
}

/** A UNIX socket's path has few bytes to spend, so of two spellings of a folder the shorter one is used. */
function shortest(folder: string): string {
  const fromHere = relative(process.cwd(), folder) || '.';
  return fromHere.length < folder.length ? fromHere : folder;
}
