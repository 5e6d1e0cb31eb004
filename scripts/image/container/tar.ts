/** The members of a tar archive: a strict scan first, then tar-stream for names, modes and links. */
import { createReadStream } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { extract, type Header } from 'tar-stream';
import { ContainerImageError } from './errors.ts';
import { type Bytes, scanTar } from './tar-scan.ts';

export type TarKind = 'file' | 'folder' | 'link' | 'hard-link' | 'other';

export interface TarMember {
  /** As the archive has it. */
  readonly name: string;
  readonly kind: TarKind;
  /** What the archive calls it. */
  readonly type: string;
  readonly mode: number;
  readonly userId: number;
  readonly groupId: number;
  /** Where a link points; the name of the first of two hard links. */
  readonly target: string;
  readonly content: Bytes;
}

const KINDS: Readonly<Record<string, TarKind>> = {
  file: 'file',
  directory: 'folder',
  symlink: 'link',
  link: 'hard-link',
};
const NAMES_MAX_BYTES = 64 << 20;

/** In the order of the archive. Throws ContainerImageError. */
export async function tarMembers(
  archive: Bytes,
  maxMembers: number,
  signal?: AbortSignal,
): Promise<readonly TarMember[]> {
  const spans = scanTar(archive, maxMembers);
  const members: TarMember[] = [];
  let namesBytes = 0;
  const tar = extract();
  tar.on('entry', (header, stream, next) => {
    const span = spans[members.length];
    // Both have read the same headers, or nobody knows what the archive holds.
    const content = { offset: (header as { byteOffset?: number }).byteOffset, sizeBytes: header.size };
    if (content.offset !== span?.contentOffset || content.sizeBytes !== span?.contentBytes) {
      next(new ContainerImageError('CONTAINER_TAR', 'Not a tar archive to rely on: readers disagree.'));
      return;
    }
    members.push(memberOf(header, { ...archive, ...part(archive, span) }));
    namesBytes += header.name.length + (header.linkname?.length ?? 0);
    if (namesBytes > NAMES_MAX_BYTES) {
      next(new ContainerImageError('CONTAINER_LIMIT', 'The names in an archive take too much memory.'));
      return;
    }
    stream.on('end', next);
    stream.resume();
  });
  const { path, offsetBytes, sizeBytes } = archive;
  const source = createReadStream(path, { start: offsetBytes, end: offsetBytes + sizeBytes - 1 });
  try {
    await pipeline(source, tar as unknown as NodeJS.WritableStream, signal === undefined ? {} : { signal });
  } catch (cause) {
    if (cause instanceof ContainerImageError || signal?.aborted === true) throw cause;
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new ContainerImageError('CONTAINER_TAR', `Not a tar archive to rely on: ${why}`, cause);
  }
  if (members.length !== spans.length) {
    throw new ContainerImageError('CONTAINER_TAR', 'Not a tar archive to rely on: readers disagree.');
  }
  return members;
}

function part(archive: Bytes, span: { contentOffset: number; contentBytes: number }) {
  return { offsetBytes: archive.offsetBytes + span.contentOffset, sizeBytes: span.contentBytes };
}

function memberOf(header: Header, content: Bytes): TarMember {
  const { name, type, mode } = header;
  const pax = (header.pax ?? {}) as Readonly<Record<string, string>>;
  const member: TarMember = {
    name,
    kind: KINDS[type] ?? 'other',
    type,
    mode,
    userId: pax.uid === undefined ? header.uid : Number(pax.uid),
    groupId: pax.gid === undefined ? header.gid : Number(pax.gid),
    target: header.linkname ?? '',
    content,
  };
  for (const number of [member.mode, member.userId, member.groupId]) {
    if (!Number.isSafeInteger(number) || number < 0) {
      throw new ContainerImageError(
        'CONTAINER_TAR',
        `${JSON.stringify(name)} has a mode or an owner that is no number.`,
      );
    }
  }
  return member;
}
