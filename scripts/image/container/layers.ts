/**
 * Layers become one tree of files (OCI image-spec layer.md "Applying Changesets"): whiteouts of a layer first, which
 * hide what is below, then its members in their order. The tree is in memory and never on disk, so no name and no
 * link leads out of it; contents stay where they are and are referred to.
 *
 * Refused is what an enclave image cannot keep (other owners than root, set-id bits, devices) and what would have
 * to be written through a link.
 */
import type { FileEntry, ImageEntry } from '../../../review/image/entries.ts';
import { MOUNT_POINT, MOUNT_POINTS } from '../../../review/image/root-filesystem.ts';
import { ContainerImageError } from './errors.ts';
import type { TarMember } from './tar.ts';

interface Folder {
  readonly kind: 'folder';
  readonly mode: number;
  readonly children: Map<string, Node>;
}
type Node =
  | Folder
  | { readonly kind: 'file'; readonly mode: number; readonly content: TarMember['content'] }
  | { readonly kind: 'link'; readonly target: string };

interface Placed {
  readonly member: TarMember;
  /** Empty for the root folder itself. */
  readonly names: readonly string[];
}

/** As in a ramdisk: `rootfs`, which init makes the root. */
const ROOT = 'rootfs';
/** The folder itself, whatever layers say: builders differ in whether they mention it at all. */
const ROOT_MODE = 0o555;
const PARENT_MODE = 0o755;
const PERMISSIONS = 0o777;
const STICKY = 0o1000;
/** Linux NAME_MAX; and PATH_MAX with its NUL, for `rootfs/` and the name. */
const NAME_MAX_BYTES = 255;
const PATH_MAX_BYTES = 4096 - 1 - `${ROOT}/`.length;
const WHITEOUT = '.wh.';
const OPAQUE = '.wh..wh..opq';

export class LayerTree {
  readonly #root: Folder = { kind: 'folder', mode: ROOT_MODE, children: new Map() };

  /** Throws ContainerImageError; then nothing may be made of the tree. */
  apply(members: readonly TarMember[]): void {
    const placed = members.map((member) => ({ member, names: namesOf(member) }));
    refuseDoubles(placed);
    const isWhiteout = ({ names }: Placed) => names.at(-1)?.startsWith(WHITEOUT) === true;
    for (const each of placed.filter(isWhiteout)) this.#hide(each);
    for (const each of placed.filter((other) => !isWhiteout(other))) this.#add(each);
  }

  /** `rootfs` and all below, with the folders that init mounts upon. Throws ContainerImageError. */
  entries(): readonly ImageEntry[] {
    const entries: ImageEntry[] = [];
    const waiting: [string, Node][] = [[ROOT, this.#root]];
    for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
      const [path, node] = next;
      entries.push(entryOf(path, node));
      if (node.kind === 'folder') {
        for (const [name, child] of node.children) waiting.push([`${path}/${name}`, child]);
      }
    }
    const others = entries.filter(({ path }) => !MOUNT_POINTS.includes(path));
    for (const entry of entries) {
      if (MOUNT_POINTS.includes(entry.path) && entry.kind !== 'folder') {
        throw refused(entry.path, 'must be a folder, because init mounts upon it');
      }
    }
    return [...others, ...MOUNT_POINTS.map((path) => ({ kind: 'folder' as const, path, mode: MOUNT_POINT }))];
  }

  #hide({ member, names }: Placed): void {
    const name = names.at(-1) as string;
    if (member.kind !== 'file' || member.content.sizeBytes !== 0) {
      throw refused(member.name, 'is named as a whiteout and is no empty file');
    }
    const folder = this.#folder(member, names.slice(0, -1));
    if (name === OPAQUE) folder?.children.clear();
    else if (name.startsWith(`${WHITEOUT}${WHITEOUT}`) || name === WHITEOUT) {
      throw refused(member.name, 'is a whiteout of an unknown kind');
    } else folder?.children.delete(name.slice(WHITEOUT.length));
  }

  #add({ member, names }: Placed): void {
    const name = names.at(-1);
    if (name === undefined) {
      if (member.kind !== 'folder') throw refused(member.name, 'takes the place of the root folder');
      return;
    }
    if (member.kind === 'other') throw refused(member.name, `is a ${member.type}`);
    if (member.userId !== 0 || member.groupId !== 0) {
      throw refused(
        member.name,
        `belongs to ${member.userId}:${member.groupId}; what is in an image belongs to root (COPY without --chown)`,
      );
    }
    const allowed = member.kind === 'folder' ? PERMISSIONS | STICKY : PERMISSIONS;
    if (member.kind !== 'link' && (member.mode & 0o7777 & ~allowed) !== 0) {
      throw refused(
        member.name,
        `has mode ${member.mode.toString(8)}; set-id bits and sticky files cannot be kept`,
      );
    }
    const parent = this.#folder(member, names.slice(0, -1), 'make') as Folder;
    parent.children.set(name, this.#nodeOf(member, parent.children.get(name)));
  }

  #nodeOf(member: TarMember, before: Node | undefined): Node {
    const mode = member.mode & 0o7777;
    switch (member.kind) {
      case 'folder':
        return { kind: 'folder', mode, children: before?.kind === 'folder' ? before.children : new Map() };
      case 'link':
        return { kind: 'link', target: targetOf(member) };
      case 'hard-link': {
        const names = splitName(member.target, member.name);
        const node = this.#folder(member, names.slice(0, -1))?.children.get(names.at(-1) ?? '');
        if (node?.kind !== 'file') throw refused(member.name, 'is a hard link to what is no file');
        return node;
      }
      default:
        return { kind: 'file', mode, content: member.content };
    }
  }

  /** The folder of these names. What is missing on the way is made, or there is none. */
  #folder(member: TarMember, names: readonly string[], missing?: 'make'): Folder | undefined {
    let folder = this.#root;
    for (const name of names) {
      let next = folder.children.get(name);
      if (next === undefined) {
        if (missing === undefined) return undefined;
        next = { kind: 'folder', mode: PARENT_MODE, children: new Map() };
        folder.children.set(name, next);
      }
      if (next.kind !== 'folder')
        throw refused(member.name, `leads through ${name}, which is a ${next.kind}`);
      folder = next;
    }
    return folder;
  }
}

function entryOf(path: string, node: Node): ImageEntry {
  if (node.kind === 'link') return { kind: 'link', path, target: node.target };
  if (node.kind === 'folder') return { kind: 'folder', path, mode: node.mode };
  const { sizeBytes, ...content } = node.content;
  return { kind: 'file', path, mode: node.mode, sizeBytes, content } satisfies FileEntry;
}

function namesOf(member: TarMember): readonly string[] {
  const { kind, name } = member;
  if (kind !== 'folder' && /(^|\/)\.?$/.test(name)) throw refused(name, 'has no name of its own');
  return splitName(kind === 'folder' ? name.replace(/\/$/, '') : name, name);
}

/** Builders begin names with "./" or with nothing. */
function splitName(path: string, member: string): readonly string[] {
  if (path === '.' || path === '') return [];
  if (Buffer.byteLength(path) > PATH_MAX_BYTES) throw refused(member, 'has a name too long for a kernel');
  const names = path.replace(/^\.\//, '').split('/');
  for (const name of names) {
    if (name === '') throw refused(member, 'is an absolute name, or has an empty part');
    if (name === '.' || name === '..') throw refused(member, `leads through "${name}"`);
    if (Buffer.byteLength(name) > NAME_MAX_BYTES) throw refused(member, 'has a name too long for a kernel');
    refuseOddText(name, member);
  }
  return names;
}

function targetOf({ name, target }: TarMember): string {
  if (target === '' || Buffer.byteLength(target) > PATH_MAX_BYTES)
    throw refused(name, 'is a link to nothing');
  refuseOddText(target, name);
  return target;
}

/** U+FFFD is what a name becomes that is not UTF-8. */
function refuseOddText(text: string, member: string): void {
  if (/[\p{Cc}\ufffd]/u.test(text))
    throw refused(member, 'has a name or target with control characters, or not in UTF-8');
}

/** OCI image-spec layer.md: a layer must not say one name twice. */
function refuseDoubles(placed: readonly Placed[]): void {
  const seen = new Set<string>();
  for (const { member, names } of placed) {
    const path = names.join('/');
    if (seen.has(path)) throw refused(member.name, 'is there twice in one layer');
    seen.add(path);
  }
}

function refused(name: string, why: string): ContainerImageError {
  return new ContainerImageError('CONTAINER_ENTRY', `${JSON.stringify(name)} in a layer ${why}.`);
}
