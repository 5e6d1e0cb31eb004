/**
 * Server-sent events as the OpenAI API has them: `data: JSON` blocks, and `data: [DONE]` after the last. The last
 * block comes through the TLS connection like everything before it, so a stream that was cut lacks it.
 *
 * Whoever relays the connection sees the size of every event, and with it the length of every token, from which text
 * can be guessed. So events are filled up to a multiple of a fixed size, with the member that OpenAI's own servers use
 * for it.
 */

export const EVENT_STREAM = 'text/event-stream; charset=utf-8';

const EVENT_BYTES = 256;

export const DONE = new TextEncoder().encode('data: [DONE]\n\n');

export function encodeEvent(value: object, obfuscate: boolean): Uint8Array {
  const text = JSON.stringify(value);
  if (!obfuscate) return Buffer.from(`data: ${text}\n\n`);
  const open = `data: ${text.slice(0, -1)},"obfuscation":"`;
  const close = '"}\n\n';
  const missing = EVENT_BYTES - ((Buffer.byteLength(open) + close.length) % EVENT_BYTES);
  // The content does not matter: TLS does not compress, so only its length is seen.
  return Buffer.from(`${open}${'0'.repeat(missing % EVENT_BYTES)}${close}`);
}
