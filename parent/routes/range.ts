/** What part of a file a request wants: first and last byte, both included. */
export interface ByteRange {
  readonly first: number;
  readonly last: number;
}

/**
 * Reads a Range header (RFC 9110 14.1.2 and 14.2) for a file of `sizeBytes`: one range, in any of its three
 * spellings. `whole` without a header; `unsatisfiable` for everything else, lists of ranges included.
 */
export function parseRange(
  header: string | undefined,
  sizeBytes: number,
): ByteRange | 'whole' | 'unsatisfiable' {
  if (header === undefined) return 'whole';
  const parts = /^bytes=(\d{0,15})-(\d{0,15})$/.exec(header);
  if (parts === null) return 'unsatisfiable';
  const [from, to] = [parts[1] ?? '', parts[2] ?? ''];
  if (from === '' && to === '') return 'unsatisfiable';
  const first = from === '' ? Math.max(sizeBytes - Number(to), 0) : Number(from);
  const last = from === '' || to === '' ? sizeBytes - 1 : Math.min(Number(to), sizeBytes - 1);
  if (first > last || (to !== '' && from !== '' && Number(to) < first)) return 'unsatisfiable';
  return { first, last };
}
