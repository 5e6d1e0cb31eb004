/** Small questions about ASN.1 values; each refuses with the code of the place where it is asked. */
import { type Asn1, oidFromBytes, TAG } from '../asn1.ts';
import { CmsError, type CmsErrorCode } from './errors.ts';

type Tuple<N extends number, T extends Asn1[] = []> = T['length'] extends N ? T : Tuple<N, [...T, Asn1]>;

/** The members of a SEQUENCE that has exactly `count` of them. */
export function fields<N extends number>(
  node: Asn1,
  what: string,
  count: N,
  code: CmsErrorCode = 'CMS_MALFORMED',
): Tuple<N> {
  return members(node, 'universal', TAG.SEQUENCE, what, count, code);
}

export function members<N extends number>(
  node: Asn1,
  tagClass: Asn1['tagClass'],
  tag: number,
  what: string,
  count: N,
  code: CmsErrorCode = 'CMS_MALFORMED',
): Tuple<N> {
  expectTag(node, tagClass, tag, what, code);
  if (node.children.length !== count) {
    refuse(code, `expected ${count} members in ${what}, found ${node.children.length}`);
  }
  return node.children as unknown as Tuple<N>;
}

export function expectTag(
  node: Asn1,
  tagClass: Asn1['tagClass'],
  tag: number,
  what: string,
  code: CmsErrorCode = 'CMS_MALFORMED',
): void {
  if (node.tagClass !== tagClass || node.tag !== tag || !node.constructed) {
    refuse(code, `${what} has an unexpected tag`);
  }
}

export function primitive(
  node: Asn1,
  tagClass: Asn1['tagClass'],
  tag: number,
  what: string,
  code: CmsErrorCode = 'CMS_MALFORMED',
): Uint8Array {
  if (node.tagClass !== tagClass || node.tag !== tag || node.constructed) {
    refuse(code, `${what} has an unexpected tag`);
  }
  return node.content;
}

export function expectOid(node: Asn1, oid: string, code: CmsErrorCode, what: string): void {
  const content = primitive(node, 'universal', TAG.OID, what);
  let found: string;
  try {
    found = oidFromBytes(content);
  } catch (cause) {
    throw new CmsError('CMS_MALFORMED', `${what} is not an object identifier`, cause);
  }
  if (found !== oid) refuse(code, `expected ${what} ${oid}, found ${found}`);
}

export function expectVersion(node: Asn1, what: string): void {
  const content = primitive(node, 'universal', TAG.INTEGER, `the version of ${what}`);
  if (content.length !== 1 || content[0] !== 2) {
    refuse(
      'CMS_VERSION_REFUSED',
      `expected version 2 of ${what}, found ${Buffer.from(content.subarray(0, 8)).toString('hex')}`,
    );
  }
}

export function malformed(message: string): never {
  refuse('CMS_MALFORMED', message);
}

export function refuse(code: CmsErrorCode, message: string): never {
  throw new CmsError(code, message);
}
