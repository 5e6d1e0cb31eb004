/**
 * What the two legacy layouts share (docs/legacy.md section 2): an 8-byte magic, a length, a JSON object of that
 * length, and one AES-256-GCM message whose tag ends the file.
 *
 *   magic 8 | length 4, big-endian | JSON | (ENCMODEL: nonce 12) | ciphertext | tag 16
 */
import { isUtf8 } from 'node:buffer';
import type { FileHandle } from 'node:fs/promises';
import { LegacyError } from './errors.ts';
import { type PythonObject, type PythonValue, pythonObject } from './python-loads.ts';

export type LegacyFormat = 'encmodel' | 'envmodel';

export const MAGIC_BYTES = 8;
export const NONCE_BYTES = 12;
export const TAG_BYTES = 16;
export const KEY_BYTES = 32;
const LENGTH_BYTES = 4;
const JSON_MAX_BYTES = 1 << 20;
/** 2^39 - 256 bits (NIST SP 800-38D, 5.2.1.1): beyond it, AES-GCM's counter begins anew. */
export const PLAINTEXT_MAX_BYTES = 2 ** 36 - 32;

/** The one AES-GCM message of a file, and the plaintext that the file says it holds. */
export interface LegacyMessage {
  readonly file: FileHandle;
  readonly nonce: Uint8Array;
  /** Where the ciphertext begins in the file. */
  readonly offsetBytes: number;
  /** Of the ciphertext, and hence of the plaintext. */
  readonly sizeBytes: number;
  readonly tag: Uint8Array;
  /** As claimed, hexadecimal in lower case. */
  readonly plaintextSha256: string;
}

export interface Preamble extends PythonObject {
  readonly text: string;
  readonly endBytes: number;
}

export function formatOfMagic(magic: Uint8Array): LegacyFormat | undefined {
  const text = Buffer.from(magic).toString('latin1');
  return text === 'ENCMODEL' ? 'encmodel' : text === 'ENVMODEL' ? 'envmodel' : undefined;
}

/** The JSON object after the magic. `fileBytes` is the file's size. Throws LEGACY_MALFORMED. */
export async function readPreamble(file: FileHandle, fileBytes: number): Promise<Preamble> {
  const start = MAGIC_BYTES + LENGTH_BYTES;
  if (fileBytes < start) throw malformed(`it ends after ${fileBytes} bytes`);
  const lengthField = await readAt(file, MAGIC_BYTES, LENGTH_BYTES);
  const length = new DataView(lengthField.buffer).getUint32(0);
  if (length > JSON_MAX_BYTES) throw malformed(`its JSON has ${length} bytes, more than ${JSON_MAX_BYTES}`);
  if (start + length + TAG_BYTES > fileBytes) {
    throw malformed(
      `its JSON has ${length} bytes and its tag ${TAG_BYTES}, but the file ends at ${fileBytes}`,
    );
  }
  const bytes = await readAt(file, start, length);
  if (!isUtf8(bytes)) throw malformed('its JSON is not UTF-8');
  // `ignoreBOM` keeps a byte order mark in the text, where the parser refuses it.
  const text = new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes);
  return { ...parse(text), text, endBytes: start + length };
}

/** Magic, length and JSON, padded with blanks at the end (which JSON allows) up to `paddedBytes`. */
export function encodePreamble(format: LegacyFormat, json: string, paddedBytes = 0): Uint8Array {
  const text = Buffer.from(json);
  const bytes = Buffer.alloc(Math.max(MAGIC_BYTES + LENGTH_BYTES + text.length, paddedBytes), ' ');
  const length = bytes.length - MAGIC_BYTES - LENGTH_BYTES;
  if (length > JSON_MAX_BYTES) {
    throw malformed(`its JSON would have ${length} bytes, more than ${JSON_MAX_BYTES}`);
  }
  bytes.write(format.toUpperCase(), 'latin1');
  bytes.writeUInt32BE(length, MAGIC_BYTES);
  text.copy(bytes, MAGIC_BYTES + LENGTH_BYTES);
  return bytes;
}

/** The message from `offsetBytes` to the end of the file. Throws LEGACY_MALFORMED, LEGACY_TOO_LARGE. */
export async function readMessage(
  file: FileHandle,
  fileBytes: number,
  { nonce, offsetBytes, plaintextSha256 }: Pick<LegacyMessage, 'nonce' | 'offsetBytes' | 'plaintextSha256'>,
): Promise<LegacyMessage> {
  const sizeBytes = fileBytes - TAG_BYTES - offsetBytes;
  if (sizeBytes < 0) throw malformed(`it ends at ${fileBytes}, without a tag`);
  expectWithinCipher(sizeBytes);
  const tag = await readAt(file, fileBytes - TAG_BYTES, TAG_BYTES);
  return { file, nonce, offsetBytes, sizeBytes, tag, plaintextSha256 };
}

/** Throws LEGACY_TOO_LARGE. */
export function expectWithinCipher(sizeBytes: number, maxBytes = PLAINTEXT_MAX_BYTES): void {
  if (sizeBytes <= maxBytes) return;
  throw new LegacyError(
    'LEGACY_TOO_LARGE',
    `One AES-GCM message has at most ${maxBytes} bytes of plaintext, this one has ${sizeBytes} or more.`,
  );
}

/** As many bytes from this offset. Throws LEGACY_CHANGED if they are there no more. */
export async function readAt(file: FileHandle, offsetBytes: number, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(new ArrayBuffer(length));
  await readInto(file, offsetBytes, bytes);
  return bytes;
}

/** Fills `target` from this offset. Throws LEGACY_CHANGED if the bytes are there no more. */
export async function readInto(file: FileHandle, offsetBytes: number, target: Uint8Array): Promise<void> {
  for (let done = 0; done < target.length; ) {
    const { bytesRead } = await file.read(target, done, target.length - done, offsetBytes + done);
    if (bytesRead === 0) throw changed(`it ended at byte ${offsetBytes + done}`);
    done += bytesRead;
  }
}

/** The member, which must be there once. Throws LEGACY_MALFORMED. */
export function memberOf({ members, repeated }: PythonObject, name: string): PythonValue {
  const value = members.get(name);
  if (value === undefined) throw malformed(`its JSON lacks ${JSON.stringify(name)}`);
  if (repeated.has(name)) throw malformed(`its JSON has ${JSON.stringify(name)} twice`);
  return value;
}

export function stringMember(object: PythonObject, name: string): string {
  const value = memberOf(object, name);
  if (typeof value !== 'string') throw malformed(`${JSON.stringify(name)} must be a string`);
  return value;
}

/** SHA-256 in hexadecimal, of whatever case. */
export function digestMember(object: PythonObject, name: string): string {
  const value = stringMember(object, name);
  if (!/^[0-9a-fA-F]{64}$/.test(value)) {
    throw malformed(`${JSON.stringify(name)} must be a SHA-256 in 64 hexadecimal digits`);
  }
  return value.toLowerCase();
}

/** The one version there is, however its writer spelt it. */
export function expectVersionOne(object: PythonObject): void {
  const value = memberOf(object, 'version');
  if (value === 1n || value === 1 || value === '1' || value === '1.0') return;
  throw malformed(
    `its version must be 1, not ${typeof value === 'string' ? JSON.stringify(value) : 'another'}`,
  );
}

/** Members that a layout does not have. They change nothing, so they are shown and not refused. */
export function otherMembers({ members }: PythonObject, known: readonly string[]): readonly string[] {
  return [...members.keys()].filter((name) => !known.includes(name));
}

export function malformed(why: string, cause?: unknown): LegacyError {
  return new LegacyError('LEGACY_MALFORMED', `The legacy model is refused: ${why}.`, cause);
}

export function changed(why: string): LegacyError {
  return new LegacyError('LEGACY_CHANGED', `The legacy model changed while it was read: ${why}.`);
}

function parse(text: string): PythonObject {
  try {
    return pythonObject(text);
  } catch (cause) {
    throw malformed(`its JSON cannot be read: ${cause instanceof Error ? cause.message : ''}`, cause);
  }
}
