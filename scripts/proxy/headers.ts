/** RFC 9110 7.6.1: fields for one connection alone, with those that older clients send. */
const HOP_BY_HOP = new Set([
  'connection',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
]);
/** Answered by the proxy itself. */
const OWN = new Set(['expect', 'host']);

/** What a header of alternating names and values has for the other end, in its order, repeated fields included. */
export function endToEnd(rawHeaders: readonly (string | Buffer)[]): string[] {
  const fields = pairsOf(rawHeaders);
  const named = fields
    .filter(([name]) => name.toLowerCase() === 'connection')
    .flatMap(([, value]) => value.split(',').map((word) => word.trim().toLowerCase()));
  const dropped = (name: string): boolean =>
    HOP_BY_HOP.has(name) || OWN.has(name) || (named.includes(name) && name !== 'content-length');
  return fields.filter(([name]) => !dropped(name.toLowerCase())).flat();
}

function pairsOf(rawHeaders: readonly (string | Buffer)[]): [name: string, value: string][] {
  const text = rawHeaders.map((part) => (typeof part === 'string' ? part : part.toString('latin1')));
  return Array.from({ length: text.length / 2 }, (_, i) => [text[2 * i] ?? '', text[2 * i + 1] ?? '']);
}
