/** What commands that check something signed take: a small file, a root, a time. */
import { open } from 'node:fs/promises';
import { simulationAnchor, type TrustAnchor } from '../shared/attestation/anchors.ts';
import { CommandError } from './errors.ts';

/** ISO 8601 with a zone: a time without one would mean another instant on another machine. */
const ISO_TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,3})?)?(Z|[+-]\d\d:\d\d)$/;

/** The value of `--at`: a time, or `word`, which stands for the time of the thing itself. Throws CommandError USAGE. */
export function parseTime<Word extends string>(
  text: string | undefined,
  word: Word,
): Date | Word | undefined {
  if (text === undefined) return undefined;
  if (text === word) return word;
  const time = new Date(text);
  if (!ISO_TIME.test(text) || Number.isNaN(time.getTime())) {
    throw new CommandError(
      'USAGE',
      `Expected --at "${word}" or a time with a zone such as 2024-11-30T16:22:48Z, found "${text}".`,
    );
  }
  return time;
}

const ROOT_MAX_BYTES = 64 * 1024;

/** A simulation root, in PEM or DER. Throws AttestationError ATTESTATION_ANCHOR_UNUSABLE, or as the file system does. */
export async function readAnchor(path: string): Promise<TrustAnchor> {
  const bytes = await readFileBounded(path, ROOT_MAX_BYTES);
  const text = Buffer.from(bytes).toString('latin1');
  return simulationAnchor(text.trimStart().startsWith('-----BEGIN') ? text : bytes);
}

/** "-" is standard input. Never more than a little over `maxBytes`: whoever decodes it refuses what is longer. */
export function readSmall(path: string, stdin: NodeJS.ReadableStream, maxBytes: number): Promise<Uint8Array> {
  return path === '-' ? readStream(stdin, maxBytes) : readFileBounded(path, maxBytes);
}

async function readFileBounded(path: string, maxBytes: number): Promise<Uint8Array> {
  await using file = await open(path);
  return await readStream(file.createReadStream({ end: maxBytes, autoClose: false }), maxBytes);
}

async function readStream(stream: NodeJS.ReadableStream, maxBytes: number): Promise<Uint8Array> {
  const parts: Buffer[] = [];
  let size = 0;
  for await (const part of stream) {
    parts.push(Buffer.from(part));
    size += part.length;
    if (size > maxBytes) break;
  }
  return Buffer.concat(parts);
}

/** A COSE_Sign1 begins with 84 or d2, which base64 text never does; anything but base64 stays as it is. */
export function fromBase64(bytes: Uint8Array): Uint8Array {
  const text = Buffer.from(bytes).toString('latin1').trim();
  if (!/^[A-Za-z0-9+/_-][A-Za-z0-9+/_\s-]*={0,2}$/.test(text)) return bytes;
  return Buffer.from(text, text.includes('-') || text.includes('_') ? 'base64url' : 'base64');
}
