/** Tar archives made by hand, so that a test can make any mistake in them. */

export interface HandMadeMember {
  readonly name: string;
  readonly content?: string | Uint8Array;
  /** '0' file, '1' hard link, '2' link, '3' and '4' devices, '5' folder, '6' pipe. */
  readonly flag?: string;
  readonly mode?: number;
  readonly userId?: number;
  readonly groupId?: number;
  readonly target?: string;
  /** What the header says, if not the truth. */
  readonly saysBytes?: string;
  /** Extension headers before it: pax records, or GNU's long names. */
  readonly before?: readonly Uint8Array[];
  readonly magic?: string;
  /** Changes the finished header before its checksum is made. */
  readonly header?: (header: Buffer) => void;
}

const BLOCK = 512;
export const TAR_END = Buffer.alloc(2 * BLOCK);

export const file = (
  name: string,
  content: string | Uint8Array = name,
  more: Partial<HandMadeMember> = {},
) => {
  return { name, content, ...more };
};
export const folder = (name: string, mode = 0o755): HandMadeMember => ({ name: `${name}/`, flag: '5', mode });
export const link = (name: string, target: string): HandMadeMember => {
  return { name, flag: '2', mode: 0o777, target };
};
export const hardLink = (name: string, target: string): HandMadeMember => ({ name, flag: '1', target });
export const whiteout = (name: string): HandMadeMember => file(name, '');

export function tarFile(members: readonly HandMadeMember[], end: Uint8Array = TAR_END): Buffer {
  return Buffer.concat([...members.map(tarMember), end]);
}

export function tarMember(member: HandMadeMember): Buffer {
  const content = Buffer.from(member.content ?? '');
  const header = Buffer.alloc(BLOCK);
  const number = (value: number, digits: number) => `${value.toString(8).padStart(digits, '0')}\0`;
  header.write(member.name, 0, 100, 'utf8');
  header.write(number(member.mode ?? 0o644, 7), 100, 'latin1');
  header.write(number(member.userId ?? 0, 7), 108, 'latin1');
  header.write(number(member.groupId ?? 0, 7), 116, 'latin1');
  header.write(member.saysBytes ?? number(content.length, 11), 124, 'latin1');
  header.write(number(0, 11), 136, 'latin1');
  header.write(member.flag ?? '0', 156, 'latin1');
  header.write(member.target ?? '', 157, 100, 'utf8');
  header.write(member.magic ?? 'ustar\x0000', 257, 'latin1');
  member.header?.(header);
  header.fill(' ', 148, 156);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(number(sum, 6), 148, 'latin1');
  return Buffer.concat([...(member.before ?? []), header, content, padding(content.length)]);
}

/** An extension header of pax. */
export function pax(records: readonly (readonly [string, string])[] | Uint8Array): Buffer {
  const content =
    records instanceof Uint8Array
      ? records
      : Buffer.concat(records.map(([key, value]) => paxRecord(key, value)));
  return tarMember({ name: 'PaxHeaders/x', flag: 'x', content });
}

export function paxRecord(key: string, value: string): Buffer {
  const bodyBytes = Buffer.byteLength(` ${key}=${value}\n`);
  let length = bodyBytes + 1;
  while (String(length).length + bodyBytes !== length) length += 1;
  return Buffer.from(`${length} ${key}=${value}\n`);
}

function padding(sizeBytes: number): Buffer {
  return Buffer.alloc((BLOCK - (sizeBytes % BLOCK)) % BLOCK);
}
