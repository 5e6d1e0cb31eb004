/** Files that `evidence bundle` and `evidence verify` are given. */
import { DOCUMENT_MAX_BYTES } from '../../shared/attestation/limits.ts';
import { codeOf } from '../../shared/errors.ts';
import { parseStrictJson } from '../../shared/json.ts';
import { CommandError } from '../errors.ts';
import { readSmallFile } from '../input-file.ts';
import { fromBase64 } from '../proof-input.ts';

/** A part of a bundle. Throws CommandError INPUT_UNREADABLE for one that is too large. */
export async function readPart(path: string, maxBytes: number): Promise<Uint8Array> {
  const bytes = await readSmallFile(path, maxBytes);
  if (bytes.length <= maxBytes) return bytes;
  throw new CommandError('INPUT_UNREADABLE', `Expected at most ${maxBytes} bytes, found more in ${path}.`);
}

/** What `ask --json` prints holds an answer beside the document. */
const ATTESTATION_FILE_MAX_BYTES = 64 << 20;

/** The document itself, base64 of it, or what `ask --json` or an enclave's `/attestation` printed. */
export async function readAttestation(path: string): Promise<Uint8Array> {
  const bytes = await readPart(path, ATTESTATION_FILE_MAX_BYTES);
  const document = fromBase64(bytes[0] === 0x7b ? documentIn(bytes, path) : bytes);
  if (document.length <= DOCUMENT_MAX_BYTES) return document;
  throw new CommandError('INPUT_UNREADABLE', `${path} holds no attestation document: it is too large.`);
}

function documentIn(bytes: Uint8Array, path: string): Uint8Array {
  let value: unknown;
  try {
    value = parseStrictJson(bytes, { maxBytes: ATTESTATION_FILE_MAX_BYTES }).value;
  } catch (cause) {
    if (codeOf(cause) === undefined) throw cause;
    throw new CommandError('INPUT_UNREADABLE', `${path} is not JSON: ${(cause as Error).message}`, cause);
  }
  const { document, verified } = value as { document?: unknown; verified?: { document?: unknown } };
  const found = document ?? verified?.document;
  if (typeof found === 'string') return Buffer.from(found, 'latin1');
  throw new CommandError('INPUT_UNREADABLE', `${path} has neither "document" nor "verified.document".`);
}
