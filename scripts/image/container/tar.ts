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
  const take = (header: Header): void => {
    const span = spans[members.length];
    // Both have read the same headers, or nobody knows what the archive holds.
    const { byteOffset } = header as { byteOffset?: number };
    if (span === undefined || byteOffset !== span.contentOffset || header.size !== span.contentBytes) {
      throw disagreement();
    }
    const offsetBytes = archive.offsetBytes + span.contentOffset;
    members.push(memberOf(header, { path: archive.path, offsetBytes, sizeBytes: span.contentBytes }));
    namesBytes += header.name.length + (header.linkname?.length ?? 0);
    if (namesBytes > NAMES_MAX_BYTES) {
      throw new ContainerImageError('CONTAINER_LIMIT', 'The names in an archive take too much memory.');
    }
  };
  // The rest of a refused archive passes by unread: tar-stream would not hear of it in one place.
  let refused: unknown;
  tar.on('entry', (header, stream, next) => {
    stream.once('error', () => {});
    stream.once('end', () => next());
    stream.resume();
    try {
      if (refused === undefined) take(header);
    } catch (error) {
      refused = error;
    }
  });
  const { path, offsetBytes, sizeBytes } = archive;
  const source = createReadStream(path, { start: offsetBytes, end: offsetBytes + sizeBytes - 1 });
  try {
    await pipeline(source, tar as unknown as NodeJS.WritableStream, signal === undefined ? {} : { signal });
  } catch (cause) {
    if (refused !== undefined) throw refused;
    if (signal?.aborted === true) throw cause;
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new ContainerImageError('CONTAINER_TAR', `Not a tar archive to rely on: ${why}`, cause);
  }
  if (refused !== undefined) throw refused;
  if (members.length !== spans.length) throw disagreement();
  return members;
}

function disagreement(): ContainerImageError {
  return new ContainerImageError('CONTAINER_TAR', 'Not a tar archive to rely on: readers disagree.');
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
