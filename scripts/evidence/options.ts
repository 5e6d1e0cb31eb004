/** What `evidence bundle` and `evidence verify` are given in common. */
import { readFile } from 'node:fs/promises';
import { awsNitroAnchor, simulationAnchor, type TrustAnchor } from '../../shared/attestation/anchors.ts';
import { DOCUMENT_MAX_BYTES } from '../../shared/attestation/limits.ts';
import { codeOf } from '../../shared/errors.ts';
import { parseStrictJson } from '../../shared/json.ts';
import { CommandError } from '../errors.ts';
import { expectFile } from '../input-file.ts';

/** ISO 8601 with a zone: a time without one would mean another instant on another machine. */
const ISO_TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,3})?)?(Z|[+-]\d\d:\d\d)$/;

/** Default: the document's own time, which says "genuine when it was made". Throws CommandError USAGE. */
export function timeOption(text: string | undefined): Date | 'document' {
  if (text === undefined || text === 'document') return 'document';
  const time = new Date(text);
  if (ISO_TIME.test(text) && !Number.isNaN(time.getTime())) return time;
  throw new CommandError(
    'USAGE',
    `Expected --at "document" or a time with a zone such as 2026-11-30T16:22:48Z, found "${text}".`,
  );
}

const CERTIFICATE_MAX_BYTES = 64 << 10;

/** AWS's root, unless a simulation's is named. */
export async function anchorOption(path: string | undefined): Promise<TrustAnchor> {
  if (path === undefined) return awsNitroAnchor();
  const bytes = await readBounded(path, CERTIFICATE_MAX_BYTES);
  const text = bytes.toString('latin1');
  return simulationAnchor(text.trimStart().startsWith('-----BEGIN') ? text : bytes);
}

export async function readBounded(path: string, maxBytes: number): Promise<Buffer> {
  await expectFile(path, maxBytes);
  const bytes = await readFile(path);
  if (bytes.length <= maxBytes) return bytes;
  throw new CommandError('INPUT_UNREADABLE', `Expected at most ${maxBytes} bytes, found more in ${path}.`);
}

/** Base64 of the largest document, within what `ask --json` prints of an answer. */
const ATTESTATION_FILE_MAX_BYTES = 64 << 20;

/** The document itself, base64 of it, or what `ask --json` or an enclave's `/attestation` printed. */
export async function readAttestation(path: string): Promise<Uint8Array> {
  const bytes = await readBounded(path, ATTESTATION_FILE_MAX_BYTES);
  // A document begins with 84 or d2, which neither JSON nor base64 does.
  if (bytes[0] === 0x84 || bytes[0] === 0xd2) return bytes;
  const text = bytes.toString('latin1').trim();
  const base64 = text.startsWith('{') ? documentIn(bytes, path) : text;
  const document = Buffer.from(base64, base64.includes('-') || base64.includes('_') ? 'base64url' : 'base64');
  if (!/^[A-Za-z0-9+/_-][A-Za-z0-9+/_\s-]*={0,2}$/.test(base64) || document.length > DOCUMENT_MAX_BYTES) {
    throw new CommandError('INPUT_UNREADABLE', `${path} holds no attestation document.`);
  }
  return document;
}

function documentIn(bytes: Uint8Array, path: string): string {
  let value: unknown;
  try {
    value = parseStrictJson(bytes, { maxBytes: ATTESTATION_FILE_MAX_BYTES }).value;
  } catch (cause) {
    if (codeOf(cause) === undefined) throw cause;
    throw new CommandError('INPUT_UNREADABLE', `${path} is not JSON: ${(cause as Error).message}`, cause);
  }
  const { document, verified } = value as { document?: unknown; verified?: { document?: unknown } };
  const found = document ?? verified?.document;
  if (typeof found === 'string') return found;
  throw new CommandError('INPUT_UNREADABLE', `${path} has neither "document" nor "verified.document".`);
}
