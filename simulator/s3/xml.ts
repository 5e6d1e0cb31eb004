/** The little XML that S3 speaks: elements with text or elements in them, and no attributes but the namespace. */
import type { ServerResponse } from 'node:http';

const NAMESPACE = 'http://s3.amazonaws.com/doc/2006-03-01/';
const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
};

export function element(name: string, content: string | number | readonly string[]): string {
  const inside = Array.isArray(content) ? content.join('') : escapeText(String(content));
  return `<${name}>${inside}</${name}>`;
}

/** Answers 200 with a document of S3's namespace. */
export function answerXml(response: ServerResponse, name: string, children: readonly string[]): void {
  const text = `<?xml version="1.0" encoding="UTF-8"?>\n<${name} xmlns="${NAMESPACE}">${children.join('')}</${name}>`;
  response.writeHead(200, { 'content-type': 'application/xml', 'content-length': Buffer.byteLength(text) });
  response.end(text);
}

/** The text of the first element of this name, with its entities resolved. */
export function textOf(xml: string, name: string): string | undefined {
  const found = new RegExp(`<${name}>([^<]*)</${name}>`).exec(xml)?.[1];
  return found?.replaceAll(/&(amp|lt|gt|quot|#34|#x22);/g, (entity) => unescapeEntity(entity));
}

/** What stands within each element of this name, as it is. */
export function innerOf(xml: string, name: string): string[] {
  return [...xml.matchAll(new RegExp(`<${name}(?: [^>]*)?>([\\s\\S]*?)</${name}>`, 'g'))].map(
    ([, inner]) => inner ?? '',
  );
}

function escapeText(text: string): string {
  return text.replaceAll(/[&<>"]/g, (character) => ENTITIES[character] ?? '');
}

function unescapeEntity(entity: string): string {
  if (entity === '&#34;' || entity === '&#x22;') return '"';
  return Object.entries(ENTITIES).find(([, escaped]) => escaped === entity)?.[0] ?? entity;
}
