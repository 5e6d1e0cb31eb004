/** The many ways in which BER writes one message. */
import type { Asn1 } from '../../../shared/asn1.ts';

/** A message as a tree that a test may change. */
export type Editable = {
  tagClass: Asn1['tagClass'];
  tag: number;
  children: Editable[];
  content?: Uint8Array;
};

export function editable(node: Asn1): Editable {
  const base = { tagClass: node.tagClass, tag: node.tag };
  // writeDer looks for `children` first, so a primitive must not have the member at all.
  return (
    node.constructed
      ? { ...base, children: node.children.map(editable) }
      : { ...base, content: Uint8Array.from(node.content) }
  ) as Editable;
}

/** How a level is written: its length left open, or in the fewest octets, or in four. */
type Form = 'open' | 'short' | 'long';

/** Every level of the message in the form that `form` chooses by the level's number, counted as they come. */
export const BER_FORMS: [name: string, form: (level: number) => Form][] = [
  ['every length left open', () => 'open'],
  ['every length in four octets', () => 'long'],
  ['four octets outside the OAEP parameters', (level) => (level < 10 || level > 21 ? 'long' : 'short')],
  ['open lengths at even levels', (level) => (level % 2 === 0 ? 'open' : 'short')],
  ['open lengths at odd levels', (level) => (level % 2 === 1 ? 'open' : 'short')],
  ['a mixture of all', (level) => (['long', 'open', 'short'] as const)[level % 3] as Form],
];

export function inBer(node: Editable, form: (level: number) => Form, level = { count: 0 }): Uint8Array {
  const how = form(level.count++);
  const constructed = node.content === undefined;
  const classBits = ['universal', 'application', 'context', 'private'].indexOf(node.tagClass) << 6;
  const identifier = classBits | (constructed ? 0x20 : 0) | node.tag;
  const content = node.content ?? Buffer.concat(node.children.map((child) => inBer(child, form, level)));
  if (how === 'open' && constructed)
    return Buffer.concat([Buffer.of(identifier, 0x80), content, Buffer.of(0, 0)]);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(content.length);
  const octets = how === 'long' ? 4 : content.length < 0x80 ? 0 : content.length < 0x100 ? 1 : 2;
  const prefix = octets === 0 ? [content.length] : [0x80 | octets, ...length.subarray(4 - octets)];
  return Buffer.concat([Buffer.of(identifier, ...prefix), content]);
}
